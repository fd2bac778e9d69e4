"""Computes silver from bronze and merges it."""

from functools import reduce

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
        frames = [bodies.select("zone") for bodies in _bodies(lakehouse, window) if bodies is not None]
        return lakehouse.zones(reduce(DataFrame.unionByName, frames))

    lakehouse.create(ENERGY_DATA)
    return lakehouse.merge(ENERGY_DATA, window, lambda part: silver_from_bronze(lakehouse, part), zones)


def silver_from_bronze(lakehouse: Lakehouse, window: Window) -> DataFrame:
    """The rows of silver for the window, computed from bronze."""
    power, carbon, mix = _bodies(lakehouse, window)
    return energy_data(power, carbon, window.start, window.end, mix=mix)


def _bodies(lakehouse: Lakehouse, window: Window) -> tuple[DataFrame, DataFrame, DataFrame | None]:
    power, carbon = (
        lakehouse.scan_responses(table, window, longest=LONGEST_BODY) for table in (POWER_DATA, CARBON_DATA)
    )
    return power, carbon, lakehouse.scan_mix(window, longest=LONGEST_BODY)
