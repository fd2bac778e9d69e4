"""features.load: gold as stored, as it was at a moment, and each row as it was known in its time."""

from __future__ import annotations

import builtins
import os
import random
import shutil
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType
from pyspark.sql import SparkSession

from emaps_dagster import features
from emaps_dagster.contracts.errors import EmapsError, FeaturesError, LakehouseError, NoFeaturesError
from emaps_dagster.contracts.tables import ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER
from emaps_dagster.features import computing
from emaps_dagster.lakehouse import spark_sessions as engine
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.pipeline.rebuild import rebuild_gold
from emaps_dagster.simulator.provider import Provider
from harness.history_builder import Past
from harness.long_runs import LONG

# The whole proof: EMAPS_TEST_AS_OF_PAIRS=200 .venv/bin/python -m pytest
# emaps_dagster_tests/features/test_features.py -s
# with --timeout=3600. Read at import: a test sees no EMAPS_ variables.
PAIRS = int(os.environ.get("EMAPS_TEST_AS_OF_PAIRS", "5" if LONG else "3"))
SEED = int(os.environ.get("EMAPS_TEST_SEED", "20240501"))
MINUTE = timedelta(minutes=1)
# Every merge over a turn of the month is two: only the whole proof takes the time.
START = datetime(2024, 4, 29 if PAIRS > 50 else 15, 6, tzinfo=timezone.utc)
ZONES = ("GR", "BG")
GOLD = ml_features(ZONES)
# Accepts every answer.
ALL = ("missing", "backfilled")


@dataclass(frozen=True)
class Snapshot:
    """Gold's Delta version when the pipeline was up to date at `taken`; the next response came at `until`."""

    taken: datetime
    until: datetime
    version: int


@dataclass(frozen=True)
class History:
    warehouse: Path
    window: Window
    snapshots: tuple[Snapshot, ...]

    def gold(self, snapshot: Snapshot, hours: Window, zone: str) -> pa.Table:
        table = DeltaTable(str(self.warehouse / "gold" / "ml_features"), version=snapshot.version)
        strings = {name: pa.string() for name in ("zone", "year_month")}
        rows = table.to_pyarrow_table().select(GOLD.column_names)
        rows = rows.cast(pa.schema([pa.field(f.name, strings.get(f.name, f.type)) for f in rows.schema]))
        at, of = pc.field("datetime"), pc.field("zone")
        return rows.filter((of == zone) & (at >= pa.scalar(hours.start)) & (at < pa.scalar(hours.end))).sort_by(
            "datetime"
        )


@pytest.fixture(scope="module")
def history(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> History:
    """Late and missed ticks, repeated bodies, backfills, feeds that fail, gaps, revisions near and far."""
    dice = random.Random(SEED)
    warehouse = tmp_path_factory.mktemp("history")
    provider = Provider(SEED)
    past = Past(FolderLakehouse(spark, warehouse), ZONES, provider)
    for _ in range(6):
        gap = START + dice.randrange(-24, 60) * HOUR
        provider.withhold(dice.choice(ZONES), gap, gap + dice.randrange(1, 9) * HOUR, feed=dice.choice([None, *FEEDS]))
    # The first on the full hour: the hour before it is known at its very end.
    moments, steps = [START], (timedelta(0), MINUTE, 23 * MINUTE, HOUR, HOUR, 5 * HOUR)
    for _ in range(max(7, PAIRS)):
        moments.append(moments[-1] + dice.choice(steps))
    snapshots, runs = [], []
    for now, following in zip(moments, [*moments[1:], moments[-1] + HOUR], strict=True):
        some_hour = floor_hour(now) - dice.randrange(1, 60) * HOUR
        if dice.random() < 0.7:
            provider.revise(dice.choice(ZONES), some_hour, at=now, feed=dice.choice([None, *FEEDS]))
        feeds = dice.choice([FEEDS, FEEDS, FEEDS, (POWER,), (CARBON,)])
        backfilled = Window(some_hour - dice.randrange(1, 30) * HOUR, some_hour)
        runs.append(past.backfill(backfilled, now, feeds) if dice.random() < 0.25 else past.tick(now, feeds=feeds))
        # Responses of one moment belong together.
        if following > now and (dice.random() < 0.4 or now == moments[-1]):
            past.merge(Window(min(run.start for run in runs), max(run.end for run in runs)))
            runs = []
            version = past.lakehouse.version(GOLD)
            assert version is not None
            snapshots.append(Snapshot(now, following, version))
    return History(warehouse, Window(START - 36 * HOUR, floor_hour(moments[-1]) + HOUR), tuple(snapshots))


def bits(rows: pa.Table) -> list[tuple[str, list[bool], list[Any]]]:
    """Every value to the last bit: -0.0 is not 0.0."""
    columns = []
    for name in rows.column_names:
        column = rows[name].combine_chunks()
        if pa.types.is_floating(column.type):
            column = pa.array(column.fill_null(0.0).to_numpy(zero_copy_only=False).view(np.int64))
        columns.append((name, rows[name].is_null().to_pylist(), column.to_pylist()))
    return sorted(columns)


def known(*question: Any, **more: Any) -> list[tuple[str, list[bool], list[Any]]] | None:
    try:
        return bits(features.load_arrow(*question, **more, allow=ALL))
    except NoFeaturesError:
        return None


def test_as_of_a_moment_equals_the_gold_of_that_moment_bit_for_bit(history: History) -> None:
    dice = random.Random(SEED)
    hours = list(history.window.hours())
    rows = 0
    for _ in range(PAIRS):
        snapshot, zone, first = dice.choice(history.snapshots), dice.choice(ZONES), dice.choice(hours)
        moment = snapshot.taken + dice.random() * (snapshot.until - snapshot.taken - timedelta(microseconds=1))
        window = Window(first, first + dice.randrange(1, 60) * HOUR)
        expected = history.gold(snapshot, window, zone)
        answer = known(zone, window.start, window.end, as_of=moment, warehouse=history.warehouse)
        assert answer == (bits(expected) if expected.num_rows else None), f"{zone} {window} as of {moment}"
        rows += expected.num_rows
    assert rows > 2 * PAIRS
    print(f"\n{PAIRS} pairs of moment and window, {len(history.snapshots)} snapshots, {rows} rows: all equal")


@pytest.mark.parametrize(("delay", "wait"), [("0h", 0), ("23min", 23), ("1d", 24 * 60)])
def test_known_at_equals_as_of_the_moment_at_which_each_row_was_made(history: History, delay: str, wait: int) -> None:
    dice = random.Random(SEED + wait)
    window, zone = history.window, "GR"
    rows = features.load_arrow(zone, window.start, window.end, known_at=delay, warehouse=history.warehouse, allow=ALL)
    # Hours that were known in time, and one that may not have been.
    drawn = [*dice.choices(rows["datetime"].to_pylist(), k=max(1, PAIRS // 6)), dice.choice(list(window.hours()))]
    for hour in drawn:
        row = rows.filter(pc.field("datetime") == pa.scalar(hour))
        expected = known(zone, hour, hour + HOUR, as_of=hour + HOUR + wait * MINUTE, warehouse=history.warehouse)
        assert (bits(row) if row.num_rows else None) == expected, f"{hour} known after {delay}"


@dataclass(frozen=True)
class Warehouse:
    """What hourly runs at minute 7 of a day left, twice: without and with what came after it."""

    before: Path
    after: Path
    last: datetime


DAY = datetime(2024, 4, 30, tzinfo=timezone.utc)
# Fewer columns are a smaller plan: faster where a test is not about all of them.
SOME = [
    *(name for value in ("production_total", "carbon_intensity") for name in (value, f"lag_{value}_1h")),
    *("rolling_avg_production_total_24h", "rolling_avg_import_BG_24h", "hours_estimated_24h", "is_estimated_carbon"),
]


@pytest.fixture(scope="module")
def warehouse(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """30 hourly ticks over a turn of the month; in `after`, two days later, hours are delivered again."""
    folder = tmp_path_factory.mktemp("warehouse")
    ticks = [DAY + number * HOUR + 7 * MINUTE for number in range(1, 31)]
    for name in ("before", "after"):
        provider = Provider(7)
        past = Past(FolderLakehouse(spark, folder / name), ("GR",), provider)
        run = past.tick(*ticks)
        if name == "after":
            for number in range(30):
                provider.revise("GR", DAY + number * HOUR, at=ticks[-1])
            past.backfill(Window(DAY - 24 * HOUR, DAY + 30 * HOUR), ticks[-1] + 48 * HOUR)
        past.merge(run)
    return Warehouse(folder / "before", folder / "after", ticks[-1])


def test_what_is_reported_later_changes_gold_and_no_row_that_was_known_before(warehouse: Warehouse) -> None:
    def twice(**when: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        before, after = (
            features.load("GR", DAY, DAY + 30 * HOUR, **when, warehouse=folder, columns=SOME)
            for folder in (warehouse.before, warehouse.after)
        )
        return before, after

    before, after = twice()
    assert (before["production_total"] != after["production_total"]).all()
    for when in ({"known_at": "17h"}, {"as_of": warehouse.last}):
        pd.testing.assert_frame_equal(*twice(**when), check_exact=True)


def test_an_hour_shows_its_estimate_while_that_was_all_that_was_known(warehouse: Warehouse) -> None:
    columns = ["production_total", "is_estimated_power", "hours_observed_24h", "hours_estimated_24h"]
    rows = features.load("GR", DAY, DAY + 30 * HOUR, known_at="15min", warehouse=warehouse.after, columns=columns)
    # The provider measures an hour 2 to 4 passes after it began: it is an estimate soon after its end.
    assert rows["is_estimated_power"].all()
    assert rows["hours_estimated_24h"].between(1, 5).all()
    assert (rows["hours_observed_24h"] >= 23).all()
    final = features.load("GR", DAY, DAY + 26 * HOUR, warehouse=warehouse.after, columns=columns)
    assert not final["is_estimated_power"].any()
    assert set(final["hours_estimated_24h"]) == {0}


def test_the_lag_is_the_previous_hour_as_it_was_known_then_not_as_the_previous_row_had_it(
    warehouse: Warehouse,
) -> None:
    hour = DAY + 20 * HOUR
    soon = {"known_at": "15min", "warehouse": warehouse.after, "columns": SOME}
    rows = features.load("GR", hour - HOUR, hour + HOUR, **soon)
    then = {"as_of": hour + HOUR + 15 * MINUTE, "warehouse": warehouse.after, "columns": SOME}
    (known_then,) = features.load("GR", hour - HOUR, hour, **then)["production_total"]
    assert rows["lag_production_total_1h"].iloc[1] == known_then
    assert rows["production_total"].iloc[0] != known_then


def test_gold_as_stored_is_read_without_a_spark_session_in_the_contracts_order(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AssertionError("a session was started")

    monkeypatch.setattr(computing, "embedded_session", refuse)
    rows = features.load("GR", DAY, DAY + 30 * HOUR, warehouse=warehouse.before)
    assert list(rows.index) == [DAY + number * HOUR for number in range(30)]
    assert rows.index.name == "datetime"
    names = [name for name in ml_features(("GR",)).column_names if name not in ("zone", "datetime")]
    assert list(rows.columns) == names
    stored = DeltaTable(str(warehouse.before / "gold" / "ml_features")).to_pandas().set_index("datetime").sort_index()
    assert np.array_equal(rows["carbon_intensity"], stored["carbon_intensity"].loc[DAY:])


def test_types_do_not_depend_on_what_the_hours_hold(warehouse: Warehouse) -> None:
    rows = features.load("GR", DAY, DAY + 2 * HOUR, warehouse=warehouse.before)
    types = {name: str(rows[name].dtype) for name in rows}
    assert types["hour"] == types["hours_estimated_24h"] == "int32"
    assert types["local_hour"] == "Int32"
    assert types["is_holiday"] == types["is_estimated_power"] == "boolean"
    assert {types[name] for name in rows if name.startswith(("production", "lag", "rolling_avg"))} == {"float64"}
    assert {types[name] for name in rows if name.startswith("rolling_count")} == {"int32"}
    assert rows["production_nuclear"].isna().all()


def test_columns_come_as_asked_and_the_key_is_the_index(warehouse: Warehouse) -> None:
    asked = ["rolling_avg_carbon_intensity_24h", "hour"]
    for when in ({}, {"as_of": warehouse.last}, {"known_at": "1h"}):
        rows = features.load("GR", DAY, DAY + HOUR, **when, columns=asked, warehouse=warehouse.before)
        assert list(rows.columns) == asked


def test_several_zones_are_indexed_by_zone_and_hour(history: History) -> None:
    start, end = START - 6 * HOUR, START
    for when in ({}, {"as_of": history.snapshots[-1].taken}):
        rows = features.load(ZONES, start, end, **when, columns=["hour"], warehouse=history.warehouse, allow="missing")
        assert rows.index.names == ["zone", "datetime"]
        assert rows.index.is_monotonic_increasing
        assert set(rows.index.get_level_values("zone")) == set(ZONES)


def test_a_list_of_one_zone_is_indexed_as_several_are(warehouse: Warehouse) -> None:
    rows = features.load(["GR"], DAY, DAY + HOUR, warehouse=warehouse.before)
    assert list(rows.index) == [("GR", DAY)]


def test_arrow_and_polars_say_the_same_as_pandas(warehouse: Warehouse) -> None:
    question = ("GR", DAY, DAY + 30 * HOUR)
    arrow = features.load_arrow(*question, warehouse=warehouse.before)
    assert arrow.column_names[:2] == ["zone", "datetime"]
    assert arrow.schema.field("datetime").type == pa.timestamp("us", "UTC")
    polars = features.load_polars(*question, warehouse=warehouse.before)
    assert polars.schema["datetime"] == pl.Datetime("us", "UTC")
    assert bits(polars.to_arrow().cast(arrow.schema)) == bits(arrow)
    pandas = features.load(*question, warehouse=warehouse.before)
    assert list(pandas["consumption_gas"]) == arrow["consumption_gas"].to_pylist()


def test_a_stored_row_and_its_recomputation_have_one_schema(warehouse: Warehouse) -> None:
    stored, recomputed = (
        features.load_arrow("GR", DAY, DAY + HOUR, as_of, warehouse=warehouse.before)
        for as_of in (None, warehouse.last)
    )
    assert stored.schema.remove_metadata() == recomputed.schema.remove_metadata()
    assert bits(stored) == bits(recomputed)


def test_polars_that_is_not_installed_is_named(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_polars(name: str, *rest: Any, **more: Any) -> Any:
        if name == "polars":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_polars)
    with pytest.raises(FeaturesError, match="pip install polars"):
        features.load_polars("GR", DAY, DAY + HOUR, warehouse=warehouse.before)


@pytest.mark.parametrize(
    "start",
    [
        date(2024, 4, 30),
        "2024-04-30",
        "2024-04-30T00:00Z",
        "2024-04-30T03:00+03:00",
        pd.Timestamp("2024-04-30", tz="UTC"),
        DAY.astimezone(timezone(timedelta(hours=3))),
    ],
)
def test_a_moment_can_be_said_in_many_ways(warehouse: Warehouse, start: Any) -> None:
    rows = features.load("GR", start, DAY + HOUR, warehouse=warehouse.before, columns=["hour"])
    assert list(rows.index) == [DAY]


def test_the_folder_of_the_settings_is_read_when_none_is_given(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMAPS_WAREHOUSE", str(warehouse.before))
    assert len(features.load("GR", DAY, DAY + HOUR)) == 1
    monkeypatch.setenv("EMAPS_DEPLOYMENT", "databricks")
    with pytest.raises(FeaturesError, match="catalog"):
        features.load("GR", DAY, DAY + HOUR)


def test_without_a_range_the_answer_is_all_that_gold_holds(warehouse: Warehouse) -> None:
    few: dict[str, Any] = {"warehouse": warehouse.before, "columns": ["hour"]}
    # The first run's /history begins 22 hours before its day.
    assert list(features.load("GR", **few).index) == [DAY + number * HOUR for number in range(-22, 30)]
    assert list(features.load("GR", start=DAY, **few).index) == [DAY + number * HOUR for number in range(30)]
    assert len(features.load("GR", end=DAY, **few, as_of=warehouse.last)) == 22
    with pytest.raises(NoFeaturesError, match="holds no zone FR; it holds GR"):
        features.load(["GR", "FR"], **few)


def test_a_folder_with_an_odd_name_is_read_as_well(warehouse: Warehouse, tmp_path: Path) -> None:
    odd = tmp_path / "my data"
    shutil.copytree(warehouse.before, odd)
    for when in ({}, {"as_of": warehouse.last}):
        assert len(features.load("GR", DAY, DAY + HOUR, **when, warehouse=odd, columns=["hour"])) == 1


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"start": datetime(2024, 4, 30)}, "no time zone"),  # noqa: DTZ001
        ({"start": "2024-04-30T00:00"}, "no time zone"),
        ({"start": "yesterday"}, "not an ISO 8601 time"),
        ({"start": 20240430}, "aware datetime"),
        ({"start": DAY + 5 * MINUTE}, "a full UTC hour"),
        ({"end": DAY}, "is not before end"),
        ({"end": DAY - HOUR}, "is not before end"),
        ({"start": "1999-01-01"}, "2000 to 2199"),
        ({"as_of": datetime(2024, 4, 30, 12)}, "no time zone"),  # noqa: DTZ001
        ({"as_of": "2024-04-30"}, "aware datetime"),
        ({"as_of": date(2024, 4, 30)}, "aware datetime"),
        ({"as_of": DAY, "known_at": "1h"}, "Give one of them"),
        ({"known_at": "1"}, "a number with its unit"),
        ({"known_at": "an hour"}, "a number with its unit"),
        ({"known_at": -HOUR}, "a number with its unit"),
        ({"known_at": timedelta(days=4000)}, "3650 days at most"),
        ({"zone": []}, "No zone"),
        ({"columns": "hour"}, "a list of names"),
        ({"columns": ["carbon_intensty"]}, "near it are carbon_intensity"),
        ({"columns": ["carbon_intensty"], "as_of": DAY}, "near it are carbon_intensity"),
        ({"columns": ["qqq"]}, "docs/tables.md"),
        ({"allow": "everything"}, "allow holds 'everything'; 'missing' accepts fewer rows"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_in_a_sentence(
    warehouse: Warehouse, question: dict[str, Any], says: str
) -> None:
    asked = {"zone": "GR", "start": DAY, "end": DAY + HOUR, **question}
    with pytest.raises(FeaturesError, match=says) as refused:
        features.load(**asked, warehouse=warehouse.before)
    assert not isinstance(refused.value, NoFeaturesError)


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"zone": "FR"}, "holds no zone FR; it holds GR"),
        ({"zone": "x' OR '1'='1"}, "holds no zone x' OR"),
        ({"zone": "FR", "as_of": DAY}, "no response of zone FR; it holds GR"),
        (
            {"start": "2023-01-01", "end": "2023-01-02"},
            r"no hour of zone GR in .*; it holds hours in \[2024-04-29T02:00Z",
        ),
        ({"start": "2023-01-01", "end": "2023-01-02", "known_at": "1h"}, "no hour of zone GR in .* it holds hours in"),
        ({"as_of": DAY}, "was known at 2024-04-30T00:00:00Z: its first response was ingested at 2024-04-30T01:07:00Z"),
        (
            {"start": DAY + 9 * HOUR, "end": DAY + 10 * HOUR, "as_of": DAY + 8 * HOUR},
            "was known and over at 2024-04-30T08",
        ),
        (
            {"known_at": "6min"},
            r"was known 0:06:00 after its end\. 1 were first ingested 0:07:00 after their end at the earliest, half of "
            "them 0:07:00 or more: a longer known_at has them",
        ),
    ],
)
def test_what_cannot_be_answered_is_said_with_what_there_is(
    warehouse: Warehouse, question: dict[str, Any], says: str
) -> None:
    few: dict[str, Any] = {"warehouse": warehouse.before, "columns": ["hour"]}
    with pytest.raises(NoFeaturesError, match=says):
        features.load(**{"zone": "GR", "start": DAY, "end": DAY + HOUR, **question}, **few)


@pytest.mark.parametrize("when", [{}, {"as_of": DAY}, {"known_at": "1h"}])
def test_a_folder_without_tables_is_named_and_not_made(tmp_path: Path, when: dict[str, Any]) -> None:
    folder = tmp_path / "no such folder"
    with pytest.raises(NoFeaturesError, match="no such folder"):
        features.load("GR", DAY, DAY + HOUR, **when, warehouse=folder)
    assert not folder.exists()


@pytest.mark.parametrize("zones", ["GR,BG", "DE"])
def test_zones_come_from_the_stored_gold_and_not_from_the_settings(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, zones: str
) -> None:
    monkeypatch.setenv("EMAPS_ZONES", zones)
    stored = features.load_arrow("GR", DAY, DAY + 2 * HOUR, warehouse=warehouse.before)
    for when in ({"as_of": warehouse.last}, {"known_at": "1h"}):
        rows = features.load_arrow("GR", DAY, DAY + 2 * HOUR, **when, warehouse=warehouse.before)
        assert rows.column_names == stored.column_names
        assert "import_MK" in rows.column_names
        assert "import_RO" not in rows.column_names


def test_without_gold_the_zones_are_those_of_the_settings(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(warehouse.before / "bronze", tmp_path / "bronze")
    monkeypatch.setenv("EMAPS_ZONES", "GR,BG")
    rows = features.load_arrow("GR", DAY, DAY + HOUR, as_of=warehouse.last, warehouse=tmp_path)
    assert rows.column_names == ml_features(("GR", "BG")).column_names


def test_gold_with_flows_that_this_release_does_not_know_is_computed_after_a_rebuild(
    warehouse: Warehouse, spark: SparkSession, tmp_path: Path
) -> None:
    shutil.copytree(warehouse.before, tmp_path / "older")
    gold = DeltaTable(str(tmp_path / "older" / "gold" / "ml_features"))
    gold.alter.add_columns([Field("import_MK_N", PrimitiveType("double"))])
    question: dict[str, Any] = {"zone": "GR", "start": DAY, "end": DAY + HOUR, "warehouse": tmp_path / "older"}
    assert "import_MK_N" in features.load(**question)
    with pytest.raises(FeaturesError, match=r"does not know: its import_MK_N\. Rebuild gold"):
        features.load(**question, as_of=warehouse.last)
    rebuild_gold(FolderLakehouse(spark, tmp_path / "older"), ("GR",), Window(DAY, DAY + 30 * HOUR))
    assert "import_MK_N" not in features.load(**question, as_of=warehouse.last)


def test_a_session_of_the_jvm_beside_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyspark.sql.utils.is_remote", lambda: False)
    monkeypatch.setattr(SparkSession, "getActiveSession", object)
    with pytest.raises(LakehouseError, match=r"spark\.stop"), engine.embedded_session():
        pass
    assert issubclass(LakehouseError, EmapsError)
