"""What runs together: the hourly job, rebuilds, withdrawals, a backfill's cost, the upkeep of the tables' files."""

from __future__ import annotations

from datetime import datetime

import dagster as dg

from emaps_dagster.defs.assets import health
from emaps_dagster.defs.assets.cost import cost_graph, for_its_step
from emaps_dagster.defs.assets.maintenance import for_every_step, maintenance_graph
from emaps_dagster.defs.assets.rebuild import rebuild_graph, same_for_both_steps
from emaps_dagster.defs.assets.withdraw import same_for_all_steps, withdraw_graph

HOURLY = "hourly"
REBUILD = "rebuild"
BACKFILL_COST = "backfill_cost"
WITHDRAW = "withdraw"
MAINTENANCE = "maintenance"
HEALTH = "health_report"


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


def withdraw_job(zones: tuple[str, ...], first_partition: datetime) -> dg.JobDefinition:
    return withdraw_graph(zones, first_partition).to_job(
        name=WITHDRAW,
        description=(
            "Takes responses of bronze out of all that is read of it, and makes silver and gold of their hours again "
            "without them: for responses that a check found altered, of a sandbox, or stored with a wrong clock. "
            "Bronze keeps them. With dry_run it lists them and counts what would differ."
        ),
        config=same_for_all_steps,
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


def backfill_cost_job(zones: tuple[str, ...]) -> dg.JobDefinition:
    return cost_graph(zones).to_job(
        name=BACKFILL_COST,
        description=(
            "How many calls of the API a backfill of a range would take, by zone and feed, and whether the token's "
            "plan serves it. It fetches nothing: launch it before a long backfill."
        ),
        config=for_its_step,
    )
