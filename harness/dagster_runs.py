"""Jobs in the process of a test: an instance whose event log is the project's, and runs without checks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import dagster as dg

from emaps_dagster.contracts.tables import Table
from emaps_dagster.defs.instance.storage.sqlite import OpenSqliteEventLog


@contextmanager
def quick_instance() -> Iterator[dg.DagsterInstance]:
    """`DagsterInstance.ephemeral()`, whose own event log would take three quarters of a run of 30 hours."""
    with tempfile.TemporaryDirectory(prefix="emaps-instance-") as folder, dg.DagsterInstance.ephemeral() as instance:
        instance.event_log_storage.dispose()
        log = OpenSqliteEventLog(folder)
        log.register_instance(instance)
        instance._event_storage = log
        yield instance


def without_checks(job: dg.JobDefinition, tables: Iterable[Table]) -> dg.JobDefinition:
    """The job on these tables; `asset_selection` of `execute_in_process` would run their checks as well."""
    keys = {dg.AssetKey(table.asset_key) for table in tables}
    return job.get_subset(asset_selection=keys, asset_check_selection=set())
