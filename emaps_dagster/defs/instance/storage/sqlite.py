"""Dagster's SQLite event log with persistent connections; each event is written once and shortened.

Dagster opens, syncs and closes two files for each event, and writes a status of an hour three times: to the log of its
run, to the index and to the executions of its check. This class writes a status to the executions only, where its page
reads it. The log of a run gets failures, and of planned and passed events the first, which a retry needs; it names the
hours that were materialized, and the page of the asset has their numbers. Statuses and materializations that follow
each other are written together: by the hundred, before the next event of another kind, and before anything is read. Any
Dagster reads the files.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from itertools import groupby
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
# A transaction for each of these takes longer than its rows.
_KEPT_BACK = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.ASSET_MATERIALIZATION}
_TOGETHER = 100
_EVENTS, _EXECUTIONS = SqlEventLogStorageTable, AssetCheckExecutionsTable

# Built once: SQLAlchemy takes longer to build a statement than to execute it.
_NEWEST = select(func.max(_EVENTS.c.id))
_OTHERS = _EVENTS.alias()
# In one statement with the write: another process may be writing.
_WITH_NEXT_ID: dict[str, Any] = {column.name: bindparam(column.name) for column in _EVENTS.c} | {
    "id": select(func.coalesce(func.max(_OTHERS.c.id), 0) + bindparam("events")).scalar_subquery()
}
_MOVED = (
    _EVENTS.update()
    .where(_EVENTS.c.id == bindparam("its_id"), _EVENTS.c.run_id == bindparam("its_run_id"))
    .values(_WITH_NEXT_ID)
)
_ADDED = _EVENTS.insert().values(_WITH_NEXT_ID)
_KEY = ("run_id", "asset_key", "check_name", "partition")
_OF_THE_CHECK = _EXECUTIONS.delete().where(*(_EXECUTIONS.c[name] == bindparam(f"its_{name}") for name in _KEY[:3]))
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
        self._waiting: list[dg.EventLogEntry] = []
        self._writing = threading.RLock()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> SqliteEventLogStorage:  # type: ignore[override]  # Dagster's own
        storage = cls if supports_storage(cls.__name__) else SqliteEventLogStorage
        return storage(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        self._store_waiting()
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
        self._store_waiting()
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
        super().dispose()

    def store_event(self, event: dg.EventLogEntry) -> None:
        kind = event.dagster_event_type
        if kind in _KEPT_BACK and event.run_id:
            with self._writing:
                self._waiting.append(shortened(event))
                if len(self._waiting) >= _TOGETHER:
                    self._store_waiting()
        elif kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
            self._store_planned_evaluation(shortened(event))
        elif kind == dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED:
            self._store_planned_materialization(shortened(event))
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

    def _store_waiting(self) -> None:
        # Who reads waits until another thread has written what it took from the list.
        with self._writing:
            waiting, self._waiting = self._waiting, []
            for (run_id, kind), events in groupby(waiting, lambda event: (event.run_id, event.dagster_event_type)):
                is_evaluation = kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION
                store = self._store_evaluations if is_evaluation else self._store_materializations
                store(run_id, [*events])

    def _store_evaluations(self, run_id: str, events: list[dg.EventLogEntry]) -> None:
        logged, executions, rows = [], {}, []
        for event in events:
            evaluation = event.get_dagster_event().asset_check_evaluation_data
            asset_key, name, partition = evaluation.asset_key.to_string(), evaluation.check_name, evaluation.partition
            if self._is_first(run_id, asset_key, name) or not evaluation.passed:
                logged.append(self._event_to_row(event))
            target, row = evaluation.target_materialization_data, self._event_to_row(for_a_page(event))
            rows.append(row)
            # The last one replaces earlier evaluations of the same run.
            executions[asset_key, name, partition] = {
                "run_id": run_id,
                "asset_key": asset_key,
                "check_name": name,
                "partition": partition,
                "execution_status": (Status.SUCCEEDED if evaluation.passed else Status.FAILED).value,
                "evaluation_event": row["event"],
                "evaluation_event_timestamp": row["timestamp"],
                "evaluation_event_storage_id": len(rows),
                "materialization_event_storage_id": target.storage_id if target else None,
            }
        self._log(run_id, logged)
        with self.index_connection() as index:
            before = self._count_in(index, rows[-1], len(rows)) - len(rows)
            for execution in executions.values():
                execution["evaluation_event_storage_id"] += before
            # Planned executions and earlier evaluations of the run are replaced.
            for delete, of_hours in ((_OF_THE_HOUR, True), (_OF_THE_TABLE, False)):
                replaced = [
                    {f"its_{name}": execution[name] for name in _KEY}
                    for execution in executions.values()
                    if bool(execution["partition"]) == of_hours
                ]
                if replaced:
                    index.execute(delete, replaced)
            index.execute(_EXECUTIONS.insert(), [*executions.values()])

    def _store_planned_evaluation(self, event: dg.EventLogEntry) -> None:
        planned: Any = event.get_dagster_event().event_specific_data
        row = self._event_to_row(planned_in_short(event))
        self._log(event.run_id, [row])
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

    def _store_materializations(self, run_id: str, events: list[dg.EventLogEntry]) -> None:
        logged = []
        for event in events:
            made: Any = event.get_dagster_event()
            is_short = made.partition and not self._is_first(run_id, made.asset_key.to_string(), "made")
            logged.append(self._event_to_row(made_in_short(event) if is_short else event))
        self._log(run_id, logged)
        self._index(events)

    def _store_planned_materialization(self, event: dg.EventLogEntry) -> None:
        row = self._event_to_row(event)
        if self._is_first(event.run_id, row["asset_key"], "planned"):
            self._log(event.run_id, [row])
        self._index([event])

    def _index(self, events: list[dg.EventLogEntry]) -> None:
        """Store events of assets in the index, where their pages read them."""
        rows = [
            self._event_to_row(for_a_page(event)) | {"step_key": event.get_dagster_event().step_key} for event in events
        ]
        with self.index_connection() as index:
            inserted: Any = index.execute(_EVENTS.insert(), rows[0]).inserted_primary_key
            if rows[1:]:
                # No other process writes since the first row, so the ids follow it.
                index.execute(_EVENTS.insert(), rows[1:])
            ids = range(inserted[0], inserted[0] + len(rows))
            self._store_asset_event_tags(index, events, ids)
            # The row of an asset names its last event.
            for number in {row["asset_key"]: number for number, row in enumerate(rows)}.values():
                self._store_asset_event(index, events[number], ids[number])

    def _is_first(self, *key: str) -> bool:
        if key in self._logged:
            return False
        self._logged.add(key)
        return True

    def _log(self, run_id: str, rows: list[dict[str, Any]]) -> None:
        if rows:
            with self.run_connection(run_id) as log:
                log.execute(_EVENTS.insert(), rows)

    def _count_in(self, index: Connection, row: dict[str, Any], events: int = 1) -> int:
        """Take the next event ids of the index, where a run has one row for all its checks, and return the last.

        Dagster reads only the order of these ids from the index, and the events from the executions.
        """
        run_id = row["run_id"]
        mine = {"its_id": self._row_of_checks.get(run_id, -1), "its_run_id": run_id}
        if not index.execute(_MOVED, {**row, **mine, "events": events}).rowcount:
            index.execute(_ADDED, {**row, "events": events})
        self._row_of_checks[run_id] = int(index.execute(_NEWEST).scalar_one())
        return self._row_of_checks[run_id]


def _create_database(file: Path, page_bytes: int) -> None:
    """Create an empty database with this page size, which cannot be changed later."""
    if not file.exists():
        with closing(sqlite3.connect(file, timeout=_BUSY_SECONDS)) as connection:
            connection.execute(f"PRAGMA page_size={page_bytes}")
            connection.execute("VACUUM")


def _moment(event: dg.EventLogEntry) -> datetime:
    """The time as Dagster's columns store it: UTC, naive."""
    return datetime.fromtimestamp(event.timestamp, timezone.utc).replace(tzinfo=None)
