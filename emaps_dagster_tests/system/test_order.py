"""Hours one by one in random order, the same hours in one run, and a rebuild from bronze: equal to the last bit.

The assets' own code path over HTTP, without Dagster. EMAPS_TEST_HOURS=336 makes it the two weeks of issue 3.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, REJECTED_RESPONSES, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, gold_window, silver_window
from emaps_dagster.contracts.zones import CARBON, POWER
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.fetch import fetch
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.ingest import ingest
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster.simulator.server import Simulator

HOURS = int(os.environ.get("EMAPS_TEST_HOURS", "12"))
# A clock that stands still, so that the provider says the same whenever it is asked: of hours before midnight, which
# is the turn of a month, by /past-range, of later ones by /history.
NOW = datetime(2024, 5, 1, 23, 7, tzinfo=timezone.utc)
END = datetime(2024, 5, 1, 6, tzinfo=timezone.utc)
ZONES = ("GR", "BG")
GOLD = ml_features(ZONES)
WHOLE = Window(END - HOURS * HOUR, END)


def run(client: ElectricityMapsClient, lakehouse: FolderLakehouse, window: Window) -> bool:
    """What the assets do for the hours of one run; false when a feed failed, and silver and gold did not run."""
    failures = []
    for feed, table in ((POWER, POWER_DATA), (CARBON, CARBON_DATA)):
        lakehouse.create(table)
        lakehouse.create(REJECTED_RESPONSES)
        failures += ingest(lakehouse, table, fetch(client, feed, ZONES, window, NOW))[1]
    if failures:
        return False
    merge(lakehouse, window)
    return True


def merge(lakehouse: FolderLakehouse, window: Window) -> None:
    merge_silver(lakehouse, silver_window(window))
    merge_gold(lakehouse, ZONES, gold_window(window))


def content(lakehouse: FolderLakehouse, table: Table) -> list[str]:
    """The rows in the order of their keys, every number as written by repr: equal text is equal to the last bit."""
    rows = DeltaTable(lakehouse.location(table)).to_pyarrow_table().to_pylist()
    return [repr(row) for row in sorted(rows, key=lambda row: (row["zone"], row["datetime"]))]


@pytest.mark.timeout(3600)
def test_random_hours_one_run_and_a_rebuild_are_equal_bit_for_bit(spark: SparkSession, tmp_path: Path) -> None:
    hour_by_hour, at_once, rebuilt = (FolderLakehouse(spark, tmp_path / name) for name in ("hours", "once", "rebuilt"))
    gap = Window(WHOLE.start + 3 * HOUR, WHOLE.start + 5 * HOUR)
    with Simulator(zones=ZONES, now=NOW) as sim, ElectricityMapsClient(sim.url, clock=lambda: NOW) as client:
        for zone in ZONES:
            sim.provider.withhold(zone, gap.start, gap.end)
        sim.provider.silence("GR", "solar", WHOLE.start + 8 * HOUR, WHOLE.start + 10 * HOUR)
        sim.provider.drop_neighbour("GR", "TR", WHOLE.start + 6 * HOUR, WHOLE.start + 9 * HOUR)
        sim.provider.duplicate("GR", WHOLE.start + 2 * HOUR, variant=3)
        hours = list(WHOLE.hours())
        random.Random(7).shuffle(hours)
        began = time.perf_counter()
        failed = sorted(hour for hour in hours if not run(client, hour_by_hour, Window(hour, hour + HOUR)))
        took = time.perf_counter() - began
        # Hours that the provider lacks fail; all others do not mind.
        assert failed == list(gap.hours())
        assert run(client, at_once, WHOLE)
    shutil.copytree(hour_by_hour.warehouse / "bronze", rebuilt.warehouse / "bronze")
    merge(rebuilt, WHOLE)
    print(f"{HOURS} runs of one hour in {took:.0f} s")

    for table in (ENERGY_DATA, GOLD):
        rows = content(hour_by_hour, table)
        assert rows == content(at_once, table), table.qualified_name
        assert rows == content(rebuilt, table), table.qualified_name
    stored = DeltaTable(hour_by_hour.location(GOLD)).to_pyarrow_table()
    present = {row["datetime"] for row in stored.select(["datetime"]).to_pylist()}
    assert set(WHOLE.hours()) - set(gap.hours()) <= present
    assert not present & set(gap.hours())
