"""Computes gold from silver and merges it."""

from pyspark.sql import DataFrame

from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import Window, gold_context
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.reports import MergeReport
from emaps_dagster.transforms.gold import features


def merge_gold(lakehouse: Lakehouse, zones: tuple[str, ...], window: Window) -> MergeReport:
    """Compute gold's rows of the window from silver and merge them; context rows are read, never written."""

    def compute(part: Window) -> DataFrame:
        return features(lakehouse.scan_hours(ENERGY_DATA, gold_context(part)), zones, part.start, part.end)

    lakehouse.create(ml_features(zones))
    return lakehouse.merge(
        ml_features(zones),
        window,
        compute,
        lambda: lakehouse.zones(lakehouse.scan_hours(ENERGY_DATA, gold_context(window))),
    )
