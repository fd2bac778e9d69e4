"""silver.energy_data: merges the hours that a run's responses can have changed; the latest ingestion wins."""

# No postponed annotations: Dagster reads the type of `context` when it decorates the asset.

import time

import dagster as dg

from emaps_dagster.contracts.tables import ENERGY_DATA, bronze_tables
from emaps_dagster.contracts.windows import silver_window
from emaps_dagster.defs.assets.merge_metadata import report_merge
from emaps_dagster.defs.assets.metadata import table_asset
from emaps_dagster.defs.partitions import complete_window
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.pipeline.silver import merge_silver


def silver_asset(partitions: dg.PartitionsDefinition[str], road: str) -> dg.AssetsDefinition:
    @table_asset(ENERGY_DATA, partitions, "silver", deps=bronze_tables(road))
    def silver(
        context: dg.AssetExecutionContext, lakehouse: LakehouseResource, electricity_maps: ElectricityMapsResource
    ) -> None:
        since = time.monotonic()
        window = complete_window(context, partitions, electricity_maps.clock())
        tables = lakehouse.open()
        report = merge_silver(tables, silver_window(window))
        report_merge(context, tables, ENERGY_DATA, window, report, since=since)

    return silver
