"""Compacts the files of a table and removes those that no retained version needs."""

import time
from datetime import timedelta

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import all_tables
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.reports import MaintenanceReport


def tables_of(zones: tuple[str, ...]) -> tuple[Table, ...]:
    """Every table that the project writes."""
    return all_tables(zones)


def maintain_table(lakehouse: Lakehouse, table: Table, retain: timedelta) -> dict[str, int | float] | None:
    """Maintain a table and return the figures; None when there is no table yet."""
    if not lakehouse.exists(table):
        return None
    began = time.monotonic()
    report: MaintenanceReport = lakehouse.maintain(table, retain=retain)
    return {
        "files_before": report.before.files,
        "files_after": report.after.files,
        "bytes_before": report.before.bytes,
        "bytes_after": report.after.bytes,
        "files_removed": report.files_removed,
        "retain_days": retain.days,
        "commit_conflicts": report.retries,
        "seconds": round(time.monotonic() - began, 3),
    }
