"""Computes gold from silver and merges it."""

from pyspark.sql import DataFrame

from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import Window, gold_context
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.reports import MergeReport
from emaps_dagster.transforms.gold import features


def merge_gold(house: Lakehouse, zones: tuple[str, ...], window: Window) -> MergeReport:
    """Bring gold's rows of the window to what silver says; context rows are read, never written."""

    def compute(part: Window) -> DataFrame:
        return features(house.read_hours(ENERGY_DATA, gold_context(part)), zones, part.start, part.end)

    house.create(ml_features(zones))
    return house.merge(
        ml_features(zones), window, compute, lambda: house.zones(house.read_hours(ENERGY_DATA, gold_context(window)))
    )
