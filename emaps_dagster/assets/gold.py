"""gold.ml_features: the hours whose features can depend on an hour of silver that a run changed."""

# No postponed annotations: Dagster reads the type of `context` when it decorates.

import dagster as dg
from pyspark.sql import DataFrame

from emaps_dagster.assets.describe import table_asset
from emaps_dagster.assets.merged import report_merge
from emaps_dagster.lakehouse import Lakehouse, MergeReport
from emaps_dagster.partitions import run_window
from emaps_dagster.resources.spark import LakehouseResource
from emaps_dagster.tables import ENERGY_DATA, ml_features
from emaps_dagster.transforms.gold import features
from emaps_dagster.windows import Window, gold_context, gold_window
from emaps_dagster.zones import ZONES


def gold_asset(zones: tuple[str, ...], partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    table = ml_features(zones)

    @table_asset(table, partitions, "gold", deps=(ENERGY_DATA,))
    def gold(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> dg.MaterializeResult[None]:
        for zone in zones:
            if zone not in ZONES:
                context.log.warning(
                    "zones.py knows no neighbours, time zone and holidays of %s: its flows stay in silver's maps, "
                    "its local time features are null. Add it to zones.py and launch the job `rebuild` over all hours.",
                    zone,
                )
        window = run_window(context)
        house = lakehouse.open()
        return report_merge(context, house, table, window, merge_gold(house, zones, gold_window(window)))

    return gold


def merge_gold(house: Lakehouse, zones: tuple[str, ...], window: Window) -> MergeReport:
    """Bring gold's rows of the window to what silver says; context rows are read, never written."""

    def compute(part: Window) -> DataFrame:
        return features(house.read_hours(ENERGY_DATA, gold_context(part)), zones, part.start, part.end)

    house.create(ml_features(zones))
    return house.merge(ml_features(zones), window, compute)
