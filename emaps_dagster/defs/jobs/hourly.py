"""The hourly job of assets and checks, and the job that makes the health page."""

from __future__ import annotations

import dagster as dg

from emaps_dagster.defs.assets import health
from emaps_dagster.defs.names import HEALTH, HOURLY


def hourly_job() -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        HOURLY,
        # The report has no partitions, and a range of hours needs no report.
        selection=dg.AssetSelection.all() - dg.AssetSelection.assets(health.KEY),
        description="Bronze, silver, gold and all checks for one hour or a range of hours.",
    )


def health_job() -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        HEALTH,
        selection=dg.AssetSelection.assets(health.KEY),
        description="Makes the page `health` anew: is every zone up to date, what is missing, what to do.",
    )
