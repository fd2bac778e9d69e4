"""Training rows where power came by both roads: the values that gold held at each issue time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession

from emaps_dagster import forecasting
from emaps_dagster.contracts.signals import MIX_SIGNALS
from emaps_dagster.contracts.tables import ENERGY_DATA
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import FEEDS
from emaps_dagster_tests.support.pipeline_harness import BASE, World, stored_rows

ROADS = ("electricity-mix", "power-breakdown", "electricity-mix")
FIRST = BASE + 30 * HOUR
DELAY = timedelta(minutes=7)
COLUMNS = ("production_total", "carbon_intensity")


def test_a_row_has_the_values_that_silver_held_at_its_issue_time(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path / "warehouse")
    expected = {}
    for number, road in enumerate(ROADS):
        now = FIRST + number * HOUR + DELAY
        world.provider.now, world.road = now, road
        revised = [FIRST + (number - back) * HOUR for back in (2, 3, 4)]
        world.provider.opinions |= {(feed.name, hour): number for feed in (*FEEDS, *MIX_SIGNALS) for hour in revised}
        origin = floor_hour(now) - HOUR
        world.run(Window(origin, origin + HOUR))
        silver = stored_rows(world.folder, ENERGY_DATA)
        for name in COLUMNS:
            for back in (2, 3, 4):
                expected[now, f"lag_{name}_{back}h"] = silver["GR", origin - (back - 1) * HOUR][name]
    rows = forecasting.training_set(
        "GR",
        FIRST,
        FIRST + len(ROADS) * HOUR,
        horizons=[1],
        known_at=DELAY,
        lags=(2, 3, 4),
        columns=COLUMNS,
        on_unknown="drop",
        targets=["production_total"],
        warehouse=world.folder,
    )
    assert {name for _, name in expected} <= set(rows.X.columns)
    found = {
        (at.to_pydatetime(), name): None if pd.isna(row[name]) else row[name]
        for (_, at, _), row in rows.X.iterrows()
        for name in rows.X.columns
        if name.startswith("lag_")
    }
    issued = {at for at, _ in found}
    assert len(issued) == 2
    assert found == {key: value for key, value in expected.items() if key[0] in issued}
    known = forecasting.coverage("GR", FIRST, FIRST + 3 * HOUR, known_at="1h", warehouse=world.folder)
    assert list(known["power"]) == ["known", "known", "missing"]
