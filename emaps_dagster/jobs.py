"""What runs together: all tables with their checks, over the hours it is given."""

from __future__ import annotations

import dagster as dg

HOURLY = "hourly"


def hourly_job() -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        HOURLY,
        selection=dg.AssetSelection.all(),
        description="Bronze, silver, gold and all checks for one hour or a range of hours.",
    )
