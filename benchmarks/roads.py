"""A year and a tick by each road to the power feed, calls and seconds: `python -m benchmarks.roads`.

Zone GR, embedded engine, no HTTP and no Dagster; the roads in turn, each repeat on tables of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks.bodies import PRESENT, StoredApi, days_before
from benchmarks.measurements import Figures, progress
from benchmarks.tick import pass_checks
from emaps_dagster.contracts.signals import power_feeds
from emaps_dagster.contracts.tables import ENERGY_DATA, POWER_DATA, REJECTED_RESPONSES, bronze_tables, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, gold_window, silver_window
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.electricity_maps.fetch import fetch
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.pipeline.checks import CheckContext
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.ingest import ingest
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster.simulator.provider import Version

ROADS: dict[str, tuple[Version, str]] = {
    "v3": ("v3", "power-breakdown"),
    "v4, short": ("v4", "power-breakdown"),
    "v4, long": ("v4", "electricity-mix"),
}
ZONES = ("GR",)


def measure(repeats: int, days: int) -> Figures:
    taken = Figures()
    with embedded_session() as spark:
        for number in range(repeats):
            for road in ROADS:
                progress(f"roads: {road}, {number + 1} of {repeats}")
                _measure(spark, road, days, taken)
    for what in ("backfill", "work of the backfill", "tick", "work of the tick", "checks of the tick"):
        base = taken.values[f"{what}, v3"]
        for road in list(ROADS)[1:]:
            for one, other in zip(taken.values[f"{what}, {road}"], base, strict=True):
                taken.add(f"{what}, {road}, to v3", one / other, "times")
    return taken


def _measure(spark: SparkSession, road: str, days: int, taken: Figures) -> None:
    version, signal = ROADS[road]
    year = days_before(days)
    hour = Window(floor_hour(PRESENT), floor_hour(PRESENT) + HOUR)
    for now, window in ((PRESENT, year), (PRESENT + HOUR, hour)):
        StoredApi(now, version=version).prepare(ZONES, window, (*power_feeds(signal), CARBON))
    with tempfile.TemporaryDirectory() as folder:
        lakehouse = FolderLakehouse(spark, Path(folder))
        for table in (POWER_DATA, REJECTED_RESPONSES):
            lakehouse.create(table)
        for what, now, window in (("backfill", PRESENT, year), ("tick", PRESENT + HOUR, hour)):
            api = StoredApi(now, version=version)
            began = time.process_time()
            with taken.clock(f"{what}, {road}"):
                _run(lakehouse, api, signal, window)
            # The engine's threads are this process's; other processes do not change it.
            taken.add(f"work of the {what}, {road}", time.process_time() - began)
            taken.add(f"calls of the {what}, {road}", api.calls, "calls")
        scene = CheckContext(lakehouse, ZONES, hour, PRESENT + HOUR)
        with taken.clock(f"checks of the tick, {road}"):
            for table in (*bronze_tables(signal), ENERGY_DATA, ml_features(ZONES)):
                pass_checks(table, scene)


def _run(lakehouse: FolderLakehouse, api: StoredApi, signal: str, window: Window) -> None:
    for feeds, table in zip((power_feeds(signal), (CARBON,)), bronze_tables(signal), strict=True):
        lakehouse.create(table)
        _, failures, _ = ingest(lakehouse, table, fetch(api, feeds, ZONES, window, api.now))
        assert not failures, failures
    merge_silver(lakehouse, silver_window(window))
    merge_gold(lakehouse, ZONES, gold_window(window))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--days", type=int, default=365)
    options = parser.parse_args()
    print(measure(options.repeats, options.days).table())
