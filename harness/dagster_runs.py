"""Jobs in the process of a test: an instance whose event log is the project's, and runs without checks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from sqlalchemy import Engine, text

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.defs.instance.storage.sqlite import OpenSqliteEventLog


@cache
def _empty_files() -> tuple[bytes, bytes]:
    """The event log of no run, and that of one without events: alembic takes a fifth of an hourly run to make them."""
    with tempfile.TemporaryDirectory() as folder:
        log = OpenSqliteEventLog(folder)
        with log.run_connection("any"):
            pass
        log.dispose()
        index, run = (Path(log.path_for_shard(shard)).read_bytes() for shard in (INDEX_SHARD_NAME, "any"))
        return index, run


class QuickEventLog(OpenSqliteEventLog):
    """It copies the file of each run, for as long as this process lives."""

    def _open(self, shard: str) -> Engine:
        file = Path(self.path_for_shard(shard))
        if shard != INDEX_SHARD_NAME and not file.exists():
            file.write_bytes(_empty_files()[1])
            self._initialized_dbs.add(shard)
        engine = super()._open(shard)
        with engine.connect() as connection:
            # Nobody reads it after a power failure.
            connection.execute(text("PRAGMA synchronous=OFF"))
        return engine


@contextmanager
def quick_instance() -> Iterator[dg.DagsterInstance]:
    """`DagsterInstance.ephemeral()`, whose own event log would take three quarters of a run of 30 hours."""
    with tempfile.TemporaryDirectory(prefix="emaps-instance-") as folder, dg.DagsterInstance.ephemeral() as instance:
        instance.event_log_storage.dispose()
        (Path(folder) / f"{INDEX_SHARD_NAME}.db").write_bytes(_empty_files()[0])
        log = QuickEventLog(folder)
        log.register_instance(instance)
        instance._event_storage = log
        yield instance


def without_checks(job: dg.JobDefinition, tables: Iterable[Table]) -> dg.JobDefinition:
    """The job on these tables; `asset_selection` of `execute_in_process` would run their checks as well."""
    keys = {dg.AssetKey(table.asset_key) for table in tables}
    return job.get_subset(asset_selection=keys, asset_check_selection=set())
