"""Texts of the asset pages for first-time readers, links, and freshness policies: contents, health, remedy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg

from emaps_dagster.contracts.table_contract import Table

_WHAT = {
    "bronze": (
        "Everything the provider ever answered, byte for byte, with the time at which we heard it. Nothing is changed "
        "or deleted here: silver, gold and every look into the past are made from it. Bodies that must not be loaded "
        "are kept in `bronze.rejected_responses` with the reason, single records in `bronze.rejected_records`."
    ),
    "silver": (
        "The provider's latest version of each hour, parsed and typed: if it revises an hour, the row changes and "
        "`ingested_at_*` says since when. Null is not reported, 0 is zero; nothing is filled."
    ),
    "gold": (
        "What to train on: each hour's values with the value one hour earlier (`lag_*_1h`) and the mean of 24 hours "
        "(`rolling_avg_*_24h`), by time and never by row. `features.load` reads it without Spark, also as it was known "
        "at any earlier time. A 24-hour mean holds its own hour: do not predict that hour from it."
    ),
}
_IF_NOT = {
    "bronze": (
        "Open the last run's error: it names zone, hours and remedy. Then materialize those partitions again. Do it "
        "within a day: a plan without past-range gives no older hours."
    ),
    "silver": (
        "Open the failing check: its description says what to do. Most often: materialize the hour again, all layers; "
        "or launch the job `rebuild` over its hours, which makes silver and gold again from bronze."
    ),
    "gold": (
        "Open the failing check: its description says what to do. Most often: launch the job `rebuild` over its hours, "
        "which makes silver and gold again from bronze."
    ),
}
# A tick runs every hour, so every layer warns after two hours without one.
FRESHNESS = {
    # The free plan serves an hour for one day: three quarters of the day must remain for the repair.
    "bronze": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=6), warn_window=timedelta(hours=2)),
    # Only gold and debugging read it, and it can be rebuilt from bronze at any time.
    "silver": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=12), warn_window=timedelta(hours=2)),
    # Forecasts depend on it; the check `table_is_fresh` applies the same limit to the rows.
    "gold": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=6), warn_window=timedelta(hours=2)),
}
PROVIDER_DOCS = "https://portal.electricitymaps.com/docs"


def page_of(table: Table) -> str:
    """The description of a table's asset, Markdown."""
    return (
        f"{table.meaning}.\n\n{_WHAT[table.layer]}\n\n"
        "**Is it well?** Every check of the tab *Checks* passes, the partitions are green up to the hour that has just "
        "ended, and the asset `health` says so.\n\n"
        f"**If not:** {_IF_NOT[table.layer]}\n\n"
        f"One partition is one hour, UTC. A row is identified by {', '.join(f'`{name}`' for name in table.key)}. "
        "More: `docs/tables.md`, `docs/operations.md`, `docs/ui.md`."
    )


def links_of(table: Table) -> dict[str, dg.MetadataValue[Any]]:
    """The link to the provider's documentation, for bronze."""
    return {"provider_documentation": dg.MetadataValue.url(PROVIDER_DOCS)} if table.layer == "bronze" else {}
