"""The asset jobs: `hourly` for all tables and checks, `health_report` for the health page."""

from __future__ import annotations

import dagster as dg

from emaps_dagster.defs.assets import health
from emaps_dagster.defs.names import HEALTH, HOURLY


def hourly_job() -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        HOURLY,
        # The health page has no partitions, and a range of hours needs no page.
        selection=dg.AssetSelection.all() - dg.AssetSelection.assets(health.KEY),
        description="Bronze, silver, gold and all checks for one hour or a range of hours.",
    )


def health_job() -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        HEALTH,
        selection=dg.AssetSelection.assets(health.KEY),
        description="Makes the page `health` again: whether every zone is up to date, missing hours, remedies.",
    )
