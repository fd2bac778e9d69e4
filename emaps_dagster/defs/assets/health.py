"""The asset `health`: a status page of the pipeline, and a check that warns when an operator is needed.

It reads a few columns of the last days and changes no table. transforms/health.py decides what is reported.
"""

# No postponed annotations: Dagster reads the argument types when it decorates the asset.

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from emaps_dagster.contracts.tables import all_tables, ml_features
from emaps_dagster.defs.assets.metadata import OWNERS
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.monitoring.health_report import numbers, page, status
from emaps_dagster.pipeline.health import read_health_inputs
from emaps_dagster.transforms.health import health

KEY = dg.AssetKey("health")
CHECK = "pipeline_is_healthy"
_DESCRIPTION = (
    "How the pipeline is doing, updated every hour after the tick: last complete hour of each zone, the provider's "
    "lag, how much is estimated, gaps, revisions and calls of the last days, sizes of the tables.\n\n"
    f"**Is it well?** `status` below says so in a sentence, `page` in tables; the check `{CHECK}` warns when there is "
    "something to do.\n\n"
    "**If not:** each sentence of `status` says what to do. Then materialize this page again, or wait for the next "
    "hour.\n\n"
    "It only reads. More: `docs/ui.md`, `docs/operations.md`."
)


def health_asset(zones: tuple[str, ...]) -> dg.AssetsDefinition:
    declare = dg.asset(
        key=KEY,
        # It reads every table; edges to all of them would only clutter the graph.
        deps=[dg.AssetKey(ml_features(zones).asset_key)],
        description=_DESCRIPTION,
        group_name="health",
        owners=OWNERS,
        kinds={"pyspark", "report"},
        tags={"layer": "health"},
        # Materialized hourly: an outdated page could report that all is well.
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3), warn_window=timedelta(hours=2)),
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=KEY,
                description="Every zone is up to date, without gaps, its values can be right, and nothing was rejected "
                "lately. If not, each sentence names a fault and its remedy.",
            )
        ],
        code_version="1",
    )

    def report(lakehouse: LakehouseResource, electricity_maps: ElectricityMapsResource) -> Iterator[object]:
        tables = lakehouse.open()
        found = health(read_health_inputs(tables, zones, electricity_maps.clock()))
        sizes = {table.qualified_name: tables.size(table) for table in all_tables(zones)}
        summary = status(found)
        yield dg.MaterializeResult(
            metadata={
                "status": dg.MetadataValue.md(summary),
                "page": dg.MetadataValue.md(page(found, sizes)),
                **numbers(found, sizes),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=CHECK,
                    passed=not found.open_issues,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=found.open_issues[0] if found.open_issues else None,
                    metadata={"status": dg.MetadataValue.md(summary)},
                )
            ],
        )

    return declare(launchable(report))
