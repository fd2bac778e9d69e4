"""silver.energy_data: the hours that a run's responses can have changed, merged by the latest ingestion."""

# No postponed annotations: Dagster reads the type of `context` when it decorates.

import time

import dagster as dg
from pyspark.sql import DataFrame

from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA
from emaps_dagster.contracts.windows import Window, silver_window
from emaps_dagster.defs.assets.merge_metadata import report_merge
from emaps_dagster.defs.assets.metadata import table_asset
from emaps_dagster.defs.partitions import complete_window
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.electricity_maps.fetch import LONGEST_BODY
from emaps_dagster.lakehouse.base import Lakehouse, MergeReport
from emaps_dagster.transforms.silver import energy_data


def silver_asset(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    @table_asset(ENERGY_DATA, partitions, "silver", deps=(POWER_DATA, CARBON_DATA))
    def silver(
        context: dg.AssetExecutionContext, lakehouse: LakehouseResource, electricity_maps: ElectricityMapsResource
    ) -> None:
        since = time.monotonic()
        window = complete_window(context, partitions, electricity_maps.clock())
        house = lakehouse.open()
        report = merge_silver(house, silver_window(window))
        report_merge(context, house, ENERGY_DATA, window, report, since=since)

    return silver


def merge_silver(house: Lakehouse, window: Window) -> MergeReport:
    """Bring silver's rows of the window to what bronze says."""

    def zones() -> int:
        power, carbon = (bodies.select("zone") for bodies in _bodies(house, window))
        return house.zones(power.unionByName(carbon))

    house.create(ENERGY_DATA)
    return house.merge(ENERGY_DATA, window, lambda part: silver_from_bronze(house, part), zones)


def silver_from_bronze(house: Lakehouse, window: Window) -> DataFrame:
    """The rows of silver that the window must have."""
    return energy_data(*_bodies(house, window), window.start, window.end)


def _bodies(house: Lakehouse, window: Window) -> tuple[DataFrame, DataFrame]:
    power, carbon = (house.read_responses(table, window, longest=LONGEST_BODY) for table in (POWER_DATA, CARBON_DATA))
    return power, carbon
