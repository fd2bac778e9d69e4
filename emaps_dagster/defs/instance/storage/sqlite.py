"""Dagster's SQLite event log with persistent connections; each event is written once and shortened.

Dagster opens, syncs and closes two files for each event, and writes a status of an hour three times: to the log of its
run, to the index and to the executions of its check. This class writes a status to the executions only, where its page
reads it. The log of a run gets failures, and of planned and passed events the first, which a retry needs; it names the
hours that were materialized, and the page of the asset has their numbers. Any Dagster reads the files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from sqlalchemy import Connection, Engine, StaticPool, bindparam, create_engine, func, or_, select, text

from emaps_dagster.defs.instance.storage.texts import (
    for_a_page,
    made_in_short,
    planned_in_short,
    shortened,
    text_of,
)
from emaps_dagster.defs.instance.versions import supports_storage

# The index and a few runs: the UI reads many runs, and each has a file, so not all stay open.
_OPEN_FILES = 8
# Dagster's own value: another process may be writing.
_BUSY_SECONDS = 300
# A run's file has twenty tables and indexes, nearly all empty, and each takes a page. In the index, three rows of 1 kB
# would leave a quarter of a 4096-byte page empty.
_PAGE_OF_A_RUN, _PAGE_OF_THE_INDEX = 512, 8192
_EVENTS, _EXECUTIONS = SqlEventLogStorageTable, AssetCheckExecutionsTable

# Built once: SQLAlchemy takes longer to build a statement than to execute it.
_NEWEST = select(func.max(_EVENTS.c.id))
_OTHERS = _EVENTS.alias()
_MOVED = (
    _EVENTS.update()
    .where(_EVENTS.c.id == bindparam("its_id"), _EVENTS.c.run_id == bindparam("its_run_id"))
    .values(
        {"id": select(func.max(_OTHERS.c.id) + 1).scalar_subquery()}
        | {column.name: bindparam(column.name) for column in _EVENTS.c if column.name != "id"}
    )
)
_OF_THE_CHECK = _EXECUTIONS.delete().where(
    *(_EXECUTIONS.c[name] == bindparam(f"its_{name}") for name in ("run_id", "asset_key", "check_name"))
)
_OF_THE_HOUR = _OF_THE_CHECK.where(_EXECUTIONS.c.partition == bindparam("its_partition"))
# A check of the whole table was planned for each hour of the run, and is evaluated once.
_OF_THE_TABLE = _OF_THE_CHECK.where(
    or_(_EXECUTIONS.c.partition.is_(None), _EXECUTIONS.c.execution_status == Status.PLANNED.value)
)


class OpenSqliteEventLog(SqliteEventLogStorage):
    """For `event_log_storage` in dagster.yaml; takes the config of SqliteEventLogStorage."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._tables: set[str] = set()
        self._columns: set[str] = set()
        # By run, the index row of its checks; and the events that its log has for one hour and needs for no other.
        self._row_of_checks: dict[str, int] = {}
        self._logged: set[tuple[str, ...]] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> SqliteEventLogStorage:  # type: ignore[override]  # Dagster's own
        storage = cls if supports_storage(cls.__name__) else SqliteEventLogStorage
        return storage(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        # The lock admits one thread at a time, as in Dagster's class, so threads may share a connection.
        with self._db_lock:
            engine = self._engines.pop(shard, None) or self._open(shard)
            self._engines[shard] = engine
            if len(self._engines) > _OPEN_FILES:
                self._engines.pop(next(iter(self._engines))).dispose()
            with engine.connect() as connection, connection.begin():
                yield connection

    def _open(self, shard: str) -> Engine:
        if shard != INDEX_SHARD_NAME:
            _create_database(Path(self.path_for_shard(shard)), _PAGE_OF_A_RUN)
        engine = create_engine(
            self.conn_string_for_shard(shard),
            poolclass=StaticPool,
            connect_args={"check_same_thread": False, "timeout": _BUSY_SECONDS},
        )
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        with engine.connect() as connection:
            # With a write-ahead log this loses at most the last events before a power failure.
            connection.execute(text("PRAGMA synchronous=NORMAL"))
        return engine

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:  # Dagster's own
        if for_index_shard:
            _create_database(Path(self.path_for_shard(INDEX_SHARD_NAME)), _PAGE_OF_THE_INDEX)
        super()._initdb(engine, for_index_shard)

    def has_table(self, table_name: str) -> bool:
        # Dagster checks this before every event of a check; a table is never dropped.
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        # Likewise, before every event of an asset.
        if column_name not in self._columns and super()._has_asset_key_col_on_connection(conn, column_name):
            self._columns.add(column_name)
        return column_name in self._columns

    def dispose(self) -> None:
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
        super().dispose()

    def store_event(self, event: dg.EventLogEntry) -> None:
        kind = event.dagster_event_type
        if kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION and event.run_id:
            self._store_evaluation(shortened(event))
        elif kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
            self._store_planned_evaluation(shortened(event))
        elif kind == dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
            self._store_planned_materialization(shortened(event))
        elif kind == dg.DagsterEventType.ASSET_MATERIALIZATION and event.run_id:
            self._store_materialization(shortened(event))
        else:
            super().store_event(shortened(event))

    def _event_to_row(self, event: dg.EventLogEntry) -> dict[str, Any]:
        inner = event.dagster_event
        key = inner.asset_key if inner else None
        return {
            "run_id": event.run_id,
            "event": text_of(event),
            "dagster_event_type": inner.event_type_value if inner else None,
            "timestamp": _moment(event),
            "step_key": inner.step_key if inner else event.step_key,
            "asset_key": key.to_string() if key else None,
            "partition": (inner.partition if inner else None) or None,
        }

    def _store_evaluation(self, event: dg.EventLogEntry) -> None:
        evaluation = event.get_dagster_event().asset_check_evaluation_data
        asset_key, name = evaluation.asset_key.to_string(), evaluation.check_name
        check = {
            "run_id": event.run_id,
            "asset_key": asset_key,
            "check_name": name,
            "partition": evaluation.partition,
        }
        if self._is_first(event.run_id, asset_key, name) or not evaluation.passed:
            self._log(self._event_to_row(event))
        row = self._event_to_row(for_a_page(event))
        target = evaluation.target_materialization_data
        execution = {
            **check,
            "execution_status": (Status.SUCCEEDED if evaluation.passed else Status.FAILED).value,
            "evaluation_event": row["event"],
            "evaluation_event_timestamp": row["timestamp"],
            "materialization_event_storage_id": target.storage_id if target else None,
        }
        with self.index_connection() as index:
            execution["evaluation_event_storage_id"] = self._count_in(index, row)
            # Replaces the planned execution, or an earlier evaluation of the same run.
            index.execute(
                _OF_THE_HOUR if evaluation.partition else _OF_THE_TABLE, {f"its_{k}": check[k] for k in check}
            )
            index.execute(_EXECUTIONS.insert(), execution)

    def _store_planned_evaluation(self, event: dg.EventLogEntry) -> None:
        planned: Any = event.get_dagster_event().event_specific_data
        row = self._event_to_row(planned_in_short(event))
        self._log(row)
        subset = planned.partitions_subset
        common = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": Status.PLANNED.value,
            # Dagster would repeat all hours of the run in the event of each row; its oldest rows have no event, either.
            "evaluation_event": None,
            "evaluation_event_timestamp": _moment(event),
        }
        with self.index_connection() as index:
            common["evaluation_event_storage_id"] = self._count_in(index, row)
            keys = subset.get_partition_keys() if subset else [None]
            index.execute(_EXECUTIONS.insert(), [{**common, "partition": key} for key in keys])

    def _store_materialization(self, event: dg.EventLogEntry) -> None:
        row = self._event_to_row(event)
        if row["partition"] and not self._is_first(event.run_id, row["asset_key"], "made"):
            self._log(self._event_to_row(made_in_short(event)))
        else:
            self._log(row)
        self._index(event)

    def _store_planned_materialization(self, event: dg.EventLogEntry) -> None:
        row = self._event_to_row(event)
        if self._is_first(event.run_id, row["asset_key"], "planned"):
            self._log(row)
        self._index(event)

    def _index(self, event: dg.EventLogEntry) -> None:
        """Store the event of an asset in the index, where its page reads it."""
        step_key = event.get_dagster_event().step_key
        row = self._event_to_row(for_a_page(event)) | {"step_key": step_key}
        with self.index_connection() as index:
            inserted: Any = index.execute(_EVENTS.insert(), row).inserted_primary_key
            self._store_asset_event_tags(index, [event], [inserted[0]])
            self._store_asset_event(index, event, inserted[0])

    def _is_first(self, *key: str) -> bool:
        if key in self._logged:
            return False
        self._logged.add(key)
        return True

    def _log(self, row: dict[str, Any]) -> None:
        with self.run_connection(row["run_id"]) as log:
            log.execute(_EVENTS.insert(), row)

    def _count_in(self, index: Connection, row: dict[str, Any]) -> int:
        """Take the next event id of the index, where a run has one row for all its checks: the latest.

        Dagster reads only the order of these ids from the index, and the events from the executions.
        """
        run_id = row["run_id"]
        mine = {"its_id": self._row_of_checks.get(run_id, -1), "its_run_id": run_id}
        if not index.execute(_MOVED, {**row, **mine}).rowcount:
            index.execute(_EVENTS.insert(), row)
        event_id = int(index.execute(_NEWEST).scalar_one())
        self._row_of_checks[run_id] = event_id
        return event_id


def _create_database(file: Path, page_bytes: int) -> None:
    """Create an empty database with this page size, which cannot be changed later."""
    if not file.exists():
        with closing(sqlite3.connect(file, timeout=_BUSY_SECONDS)) as connection:
            connection.execute(f"PRAGMA page_size={page_bytes}")
            connection.execute("VACUUM")


def _moment(event: dg.EventLogEntry) -> datetime:
    """The time as Dagster's columns store it: UTC, naive."""
    return datetime.fromtimestamp(event.timestamp, timezone.utc).replace(tzinfo=None)
