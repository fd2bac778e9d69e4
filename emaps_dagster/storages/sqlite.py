"""Dagster's SQLite event log with a connection that stays open.

Dagster opens, syncs and closes two files for each event: 25 ms, two minutes for two weeks of statuses of every hour;
so it takes a tenth. The files are the same: any Dagster reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import Connection, Engine, StaticPool, create_engine, text

from emaps_dagster.storages import is_tried

# The index and a few runs: the UI reads many runs, each in a file of its own, which must not all stay open.
_OPEN_FILES = 8
# As Dagster's own: another process may be writing.
_BUSY_SECONDS = 300


class OpenSqliteEventLog(SqliteEventLogStorage):
    """For `event_log_storage` in dagster.yaml, with the config of SqliteEventLogStorage."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> SqliteEventLogStorage:  # type: ignore[override]  # Dagster's own
        storage = cls if is_tried(cls.__name__) else SqliteEventLogStorage
        return storage(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        # One thread at a time, as in Dagster's class, so threads may share a connection.
        with self._db_lock:
            engine = self._engines.pop(shard, None) or self._open(shard)
            self._engines[shard] = engine
            if len(self._engines) > _OPEN_FILES:
                self._engines.pop(next(iter(self._engines))).dispose()
            with engine.connect() as connection, connection.begin():
                yield connection

    def _open(self, shard: str) -> Engine:
        engine = create_engine(
            self.conn_string_for_shard(shard),
            poolclass=StaticPool,
            connect_args={"check_same_thread": False, "timeout": _BUSY_SECONDS},
        )
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        with engine.connect() as connection:
            # With a write-ahead log this is safe but for the last events before a power cut.
            connection.execute(text("PRAGMA synchronous=NORMAL"))
        return engine

    def has_table(self, table_name: str) -> bool:
        # Dagster asks before every event of a check; a table does not go away.
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def dispose(self) -> None:
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
        super().dispose()
