"""What runs together: the hourly job with its checks, the rebuild of a range, the upkeep of the tables' files."""

from __future__ import annotations

from datetime import datetime

import dagster as dg

from emaps_dagster.assets.maintenance import for_every_step, maintenance_graph
from emaps_dagster.assets.rebuild import rebuild_graph, same_for_both_steps

HOURLY = "hourly"
REBUILD = "rebuild"
MAINTENANCE = "maintenance"


def hourly_job() -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        HOURLY,
        selection=dg.AssetSelection.all(),
        description="Bronze, silver, gold and all checks for one hour or a range of hours.",
    )


def rebuild_job(zones: tuple[str, ...], first_partition: datetime) -> dg.JobDefinition:
    return rebuild_graph(zones, first_partition).to_job(
        name=REBUILD,
        description=(
            "Makes silver and gold of a range again from bronze alone, fetches nothing, and says how many rows "
            "differed: 0 is the healthy answer. For a table whose contract changed (another EMAPS_ZONES, a new "
            "release: give all its hours), for rows that a check found wrong or too many, and, with dry_run, for "
            "asking whether all is well."
        ),
        config=same_for_both_steps,
    )


def maintenance_job(zones: tuple[str, ...]) -> dg.JobDefinition:
    return maintenance_graph(zones).to_job(
        name=MAINTENANCE,
        description=(
            "Puts the small files of every table together and removes those that no version of the retention needs. "
            "No row changes; it may run beside anything. By itself on Sundays."
        ),
        config=for_every_step(zones),
    )
