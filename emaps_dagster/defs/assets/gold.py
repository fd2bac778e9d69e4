"""gold.ml_features: merges the hours whose features depend on an hour of silver that the run can have changed."""

# No postponed annotations: Dagster reads the type of `context` when it decorates the asset.

import time
from datetime import timedelta

import dagster as dg

from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import Window, gold_window
from emaps_dagster.contracts.zones import ZONES
from emaps_dagster.defs.assets.merge_metadata import report_merge
from emaps_dagster.defs.assets.metadata import table_asset
from emaps_dagster.defs.partitions import complete_window
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.monitoring import production_mix as mix
from emaps_dagster.pipeline.gold import merge_gold

# Zones with a picture: each takes some 8 kB in Dagster's event log.
_PICTURED = 3


def gold_asset(zones: tuple[str, ...], partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    table = ml_features(zones)

    @table_asset(table, partitions, "gold", deps=(ENERGY_DATA,), zones=zones)
    def gold(
        context: dg.AssetExecutionContext, lakehouse: LakehouseResource, electricity_maps: ElectricityMapsResource
    ) -> None:
        for zone in zones:
            if zone not in ZONES:
                context.log.warning(
                    "zones.py knows no neighbours, time zone and holidays of %s: its flows stay in silver's maps, "
                    "its local time features are null. Add it to zones.py and launch the job `rebuild` over all hours.",
                    zone,
                )
        since = time.monotonic()
        window = complete_window(context, partitions, electricity_maps.clock())
        tables = lakehouse.open()
        report = merge_gold(tables, zones, gold_window(window))
        last = {"last_24h_mix": _last_day(tables, zones, window)}
        report_merge(context, tables, table, window, report, since=since, last=last)

    return gold


def _last_day(tables: Lakehouse, zones: tuple[str, ...], window: Window) -> dg.MarkdownMetadataValue:
    """The production mix of the 24 hours up to the run's end: a small picture and its numbers."""
    day = Window(window.end - timedelta(days=1), window.end)
    rows = tables.read_arrow(ml_features(zones), day, columns=mix.COLUMNS).to_pylist()
    pages = [mix.markdown(rows, zone, day) for zone in zones[:_PICTURED]]
    if more := zones[_PICTURED:]:
        pages.append(f"Not shown: {', '.join(more)}.")
    return dg.MetadataValue.md("\n\n".join(pages))
