"""Materialization metadata of silver and gold: numbers of the run and of each of its hours."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import dagster as dg

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.defs.assets.metadata import change_metadata
from emaps_dagster.defs.partitions import hours_of
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.reports import HourChange, MergeReport
from emaps_dagster.monitoring.hourly_summary import numbers_of


def report_merge(
    context: dg.AssetExecutionContext,
    lakehouse: Lakehouse,
    table: Table,
    window: Window,
    report: MergeReport,
    *,
    since: float,
    last: Mapping[str, dg.MetadataValue[Any]] = MappingProxyType({}),
) -> None:
    """Attach each hour's numbers to its partition, and the run's to the last of them.

    Args:
        context: of the asset that merged.
        lakehouse: of the table.
        table: silver or gold.
        window: the run's own hours.
        report: of the merge, which also covers hours outside the window.
        since: `time.monotonic()` at the start of the work.
        last: metadata of the last hour only.
    """
    total = report.total
    touched = [hour for hour, change in report.hours.items() if change.inserted or change.updated]
    # Attached once, to the last hour.
    of_the_run = {
        "window": str(window),
        "rows_inserted_in_run": total.inserted,
        "rows_updated_in_run": total.updated,
        "rows_unchanged_in_run": total.unchanged,
        "commit_conflicts": report.retries,
        "run_seconds": round(time.monotonic() - since, 3),
        **({"first_hour_changed": f"{min(touched):%Y-%m-%dT%H:%MZ}"} if touched else {}),
        **({"last_hour_changed": f"{max(touched):%Y-%m-%dT%H:%MZ}"} if touched else {}),
    }
    summary = numbers_of(lakehouse, table, window)
    for hour, key in hours_of(window).items():
        numbers = {**change_metadata(report.hours.get(hour, HourChange())), **summary.get(hour, {})}
        more = {**of_the_run, **last} if hour + HOUR == window.end else {}
        context.add_asset_metadata({**numbers, **more}, partition_key=key)
    context.log.info(
        "%s %s: %d rows inserted, %d updated, %d unchanged, %d commit conflicts",
        table.qualified_name,
        window,
        total.inserted,
        total.updated,
        total.unchanged,
        report.retries,
    )
