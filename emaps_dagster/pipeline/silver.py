"""Computes silver from bronze and merges it."""

from pyspark.sql import DataFrame

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA
from emaps_dagster.contracts.windows import Window
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.reports import MergeReport
from emaps_dagster.transforms.silver import energy_data


def merge_silver(lakehouse: Lakehouse, window: Window) -> MergeReport:
    """Compute silver's rows of the window from bronze and merge them."""

    def zones() -> int:
        power, carbon = (bodies.select("zone") for bodies in _bodies(lakehouse, window))
        return lakehouse.zones(power.unionByName(carbon))

    lakehouse.create(ENERGY_DATA)
    return lakehouse.merge(ENERGY_DATA, window, lambda part: silver_from_bronze(lakehouse, part), zones)


def silver_from_bronze(lakehouse: Lakehouse, window: Window) -> DataFrame:
    """The rows of silver for the window, computed from bronze."""
    return energy_data(*_bodies(lakehouse, window), window.start, window.end)


def _bodies(lakehouse: Lakehouse, window: Window) -> tuple[DataFrame, DataFrame]:
    power, carbon = (
        lakehouse.scan_responses(table, window, longest=LONGEST_BODY) for table in (POWER_DATA, CARBON_DATA)
    )
    return power, carbon
