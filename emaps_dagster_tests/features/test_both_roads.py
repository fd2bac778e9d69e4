"""Rows as known where bronze holds electricity-mix: what gold stored then, whichever road delivered an hour first."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from emaps_dagster import features
from emaps_dagster.contracts.signals import MIX_SIGNALS
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import FEEDS
from emaps_dagster_tests.support.pipeline_harness import BASE, World

# Roads of hourly runs; each run comes with a new version of the three hours before it.
ROADS = ("electricity-mix", "power-breakdown", "electricity-mix")
FIRST = BASE + 30 * HOUR
DELAY = timedelta(minutes=7)
COLUMNS = ["import_BG", "rolling_avg_production_total_24h", "hours_estimated_24h"]
HOURS = {"start": BASE, "end": FIRST + len(ROADS) * HOUR}


def load(world: World, **question: Any) -> pa.Table:
    return features.load_arrow("GR", **HOURS, **question, allow=["missing", "backfilled"], warehouse=world.folder)


def run(world: World, number: int) -> datetime:
    """One hourly run; returns its moment."""
    now = FIRST + number * HOUR + DELAY
    world.provider.now, world.road = now, ROADS[number]
    revised = [FIRST + (number - back) * HOUR for back in (2, 3, 4)]
    world.provider.opinions |= {(feed.name, hour): number for feed in (*FEEDS, *MIX_SIGNALS) for hour in revised}
    world.run(Window(floor_hour(now) - HOUR, floor_hour(now)))
    return now


def test_rows_as_known_are_those_that_gold_stored_then(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path / "warehouse")
    stored: dict[datetime, pa.Table] = {}
    for number in range(len(ROADS)):
        now = run(world, number)
        stored[now] = load(world)
    assert world.failed == []
    last = stored[now]
    assert last.num_rows == 23 + 2
    assert load(world, as_of=now).equals(last)
    # A plan of all columns takes seconds.
    for at in list(stored)[:-1]:
        rows = stored[at]
        assert not rows.equals(last)
        known = load(world, as_of=at, columns=COLUMNS)
        assert known.equals(rows.select(known.column_names)), at
    assert pc.count_distinct(last["import_BG"]).as_py() > 9
    # The row of each run's own hour was made seven minutes after that hour.
    known = load(world, known_at="7min", columns=COLUMNS)
    own = [rows.filter(pc.equal(rows["datetime"], pa.scalar(at - DELAY - HOUR))) for at, rows in stored.items()]
    assert known.equals(pa.concat_tables(own).select(known.column_names))


def test_new_answers_of_electricity_mix_alone_are_seen_past_the_cache(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path / "warehouse")
    run(world, 0)
    before = load(world, known_at="1d", columns=COLUMNS)
    assert list((tmp_path / ".warehouse.features-cache").glob("*.arrow"))
    world.provider.down["carbon"] = 9
    run(world, 2)
    after = load(world, known_at="1d", columns=COLUMNS)
    assert after.num_rows == before.num_rows + 2
    assert not after.slice(0, before.num_rows).equals(before)
