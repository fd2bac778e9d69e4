"""Silver rows to features: by time and never by row, nulls as nulls, the same to the last bit in any window."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from emaps_dagster.contracts.tables import ml_features
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.gold import features
from emaps_dagster_tests.support.builders import as_rows, silver, utc

pytestmark = pytest.mark.both_engines
# What the JVM computes is compared in tests of more hours here, and bit by bit in test_engines_agree.py.
OF_NO_ENGINE = pytest.mark.embedded_alone(reason="it shows what the transform says, which both engines compute alike")

T = utc(2024, 5, 4)
GR = ("GR",)


def series(spark: SparkSession, values: dict[int, float | None], name: str = "consumption_total") -> Any:
    return silver(spark, [{"datetime": T + number * HOUR, name: value} for number, value in values.items()])


def features_of(
    spark: SparkSession, values: dict[int, float | None], start: int, end: int, name: str = "consumption_total"
) -> dict[int, tuple[float | None, float | None, int]]:
    """Lag, mean and hours observed of each hour after T."""
    rows = as_rows(features(series(spark, values, name), GR, T + start * HOUR, T + end * HOUR))
    return {
        (row["datetime"] - T) // HOUR: (
            row[f"lag_{name}_1h"],
            row[f"rolling_avg_{name}_24h"],
            row["hours_observed_24h"],
        )
        for row in rows
    }


def test_lag_and_mean_go_by_time_across_a_hole(spark: SparkSession) -> None:
    # Hour 3 is missing; hour 5 is there without a value; hour 28 is 24 hours after hour 4.
    values = {0: 10.0, 1: 20.0, 2: 60.0, 4: 100.0, 5: None, 6: 40.0, 28: 7.0}
    assert features_of(spark, values, 0, 29) == {
        0: (None, 10.0, 1),
        1: (10.0, 15.0, 2),
        2: (20.0, 30.0, 3),
        4: (None, 47.5, 4),
        5: (100.0, 47.5, 5),
        6: (None, 46.0, 6),
        28: (None, 23.5, 3),
    }


@OF_NO_ENGINE
def test_a_value_leaves_the_mean_after_exactly_24_hours(spark: SparkSession) -> None:
    values = {0: 240.0, **dict.fromkeys(range(1, 26), 0.0)}
    got = features_of(spark, values, 22, 26)
    assert got == {22: (0.0, 240.0 / 23, 23), 23: (0.0, 10.0, 24), 24: (0.0, 0.0, 24), 25: (0.0, 0.0, 24)}


@OF_NO_ENGINE
def test_context_is_read_and_not_returned(spark: SparkSession) -> None:
    values = dict.fromkeys(range(48), 1.0) | {9: 25.0}
    assert features_of(spark, values, 32, 34) == {32: (1.0, 2.0, 24), 33: (1.0, 1.0, 24)}


def test_nothing_but_nulls_has_no_mean_and_zero_is_a_value(spark: SparkSession) -> None:
    # A column for each case.
    hours = [
        {"production_gas": None, "production_coal": 0.0, "production_oil": None},
        {"production_gas": None, "production_coal": None, "production_oil": 0.0},
    ]
    rows = silver(spark, [{"datetime": T + number * HOUR, **values} for number, values in enumerate(hours)])
    (row,) = as_rows(features(rows, GR, T + HOUR, T + 2 * HOUR))
    assert [row[f"rolling_avg_{name}_24h"] for name in hours[0]] == [None, 0.0, 0.0]


@OF_NO_ENGINE
def test_each_mean_has_the_number_of_its_values_and_not_of_its_hours(spark: SparkSession) -> None:
    # One value in 23 hours; hour 3 is missing.
    values: dict[int, float | None] = {**dict.fromkeys(range(24)), 7: 600.0, 30: 0.0}
    del values[3]
    rows = as_rows(features(series(spark, values), GR, T, T + 31 * HOUR))
    names = [f"rolling_{kind}_consumption_total_24h" for kind in ("avg", "count")]
    seen = {(row["datetime"] - T) // HOUR: (*(row[name] for name in names), row["hours_observed_24h"]) for row in rows}
    assert seen[6] == (None, 0, 6)
    assert seen[7] == (600.0, 1, 7)
    assert seen[23] == (600.0, 1, 23)
    assert seen[30] == (300.0, 2, 18)
    assert {row["rolling_count_production_gas_24h"] for row in rows} == {0}


@OF_NO_ENGINE
def test_all_24_values_are_counted_however_large_they_are(spark: SparkSession) -> None:
    values = {"production_gas": 1e9, "production_hydro_discharge": -1e9, "production_oil": 0.0}
    rows = silver(spark, [{"datetime": T + number * HOUR, **values} for number in range(30)])
    (row,) = as_rows(features(rows, GR, T + 29 * HOUR, T + 30 * HOUR))
    counted = {name: (row[f"rolling_avg_{name}_24h"], row[f"rolling_count_{name}_24h"]) for name in values}
    assert counted == {name: (value, 24) for name, value in values.items()}


@OF_NO_ENGINE
def test_an_hour_carries_its_own_emission_factor_type(spark: SparkSession) -> None:
    types = ["lifecycle", "direct", None]
    rows = [{"datetime": T + n * HOUR, "emission_factor_type": one} for n, one in enumerate(types)]
    got = as_rows(features(silver(spark, rows), GR, T, T + 3 * HOUR))
    assert [row["emission_factor_type"] for row in got] == types


@OF_NO_ENGINE
def test_negative_storage_counts_as_it_is(spark: SparkSession) -> None:
    got = features_of(spark, {0: -100.0, 1: 50.0}, 0, 2, "production_hydro_discharge")
    assert got == {0: (None, -100.0, 1), 1: (-100.0, -25.0, 2)}


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_hours_are_observed_whatever_they_hold_and_estimated_by_either_feed(spark: SparkSession) -> None:
    rows = [
        {"datetime": T, "is_estimated_power": True, "is_estimated_carbon": False},
        {"datetime": T + HOUR, "is_estimated_power": False, "is_estimated_carbon": True},
        {"datetime": T + 2 * HOUR, "is_estimated_power": False},
        {"datetime": T + 3 * HOUR, "is_estimated_power": True, "is_estimated_carbon": True},
        {"datetime": T + 5 * HOUR},
    ]
    got = as_rows(features(silver(spark, rows), GR, T, T + 6 * HOUR))
    assert [(row["hours_observed_24h"], row["hours_estimated_24h"]) for row in got] == [
        (1, 1),
        (2, 2),
        (3, 2),
        (4, 3),
        (5, 3),
    ]
    assert [row["is_estimated_power"] for row in got] == [True, False, False, True, None]


def test_every_key_column_has_a_lag_and_a_mean_and_the_columns_are_the_contract(spark: SparkSession) -> None:
    frame = features(series(spark, {0: 1.0}), GR, T, T + HOUR)
    table = ml_features(GR)
    assert frame.columns == table.column_names
    # Modes of production and of consumption, totals, the carbon intensity, and flows of five neighbours.
    of_each = 12 + 12 + 4 + 1 + 10
    for prefix in ("lag_", "rolling_avg_", "rolling_count_"):
        assert len([name for name in frame.columns if name.startswith(prefix)]) == of_each
    (row,) = as_rows(frame)
    assert {name for name, value in row.items() if value is None} >= {"carbon_intensity", "import_IT_SO"}


def test_a_neighbours_flow_has_its_own_columns(spark: SparkSession) -> None:
    # Two hours each, days apart, so that none of them is in another's mean.
    cases: list[tuple[dict[str, Any], float | None]] = [
        ({"IT-SO": 5.0, "AL": 1.0}, 5.0),
        ({"IT-SO": 0.0}, 0.0),
        ({"IT-SO": None}, None),
        ({}, None),
    ]
    hours = [T + number * 72 * HOUR for number in range(len(cases))]
    rows = [
        row
        for hour, (flows, _) in zip(hours, cases, strict=True)
        for row in (
            {"datetime": hour, "import_by_zone": flows, "export_by_zone": {"TR": 3.0}},
            {"datetime": hour + HOUR},
        )
    ]
    found = {row["datetime"]: row for row in as_rows(features(silver(spark, rows), GR, T, hours[-1] + 2 * HOUR))}
    assert len(found) == 2 * len(cases)
    for hour, (_, value) in zip(hours, cases, strict=True):
        first, second = found[hour], found[hour + HOUR]
        assert (first["import_IT_SO"], first["export_TR"], first["export_IT_SO"]) == (value, 3.0, None)
        assert (second["lag_import_IT_SO_1h"], second["rolling_avg_import_IT_SO_24h"]) == (value, value)


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_zones_do_not_mix(spark: SparkSession) -> None:
    both = series(spark, {0: 1.0, 1: 2.0}).union(silver(spark, [{"datetime": T, "consumption_total": 9.0}], "BG"))
    rows = as_rows(features(both, ("GR", "BG"), T, T + 2 * HOUR))
    assert [(r["zone"], r["lag_consumption_total_1h"], r["rolling_avg_consumption_total_24h"]) for r in rows] == [
        ("BG", None, 9.0),
        ("GR", None, 1.0),
        ("GR", 1.0, 1.5),
    ]


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_no_silver_gives_no_gold(spark: SparkSession) -> None:
    assert as_rows(features(silver(spark, []), GR, T, T + HOUR)) == []


def bits(rows: Iterable[dict[str, Any]]) -> list[Any]:
    """Rows with every float as its bytes: -0.0 is not 0.0, and the last bit counts."""
    return [
        {n: struct.pack("<d", v) if isinstance(v, float) else v for n, v in row.items()}
        for row in sorted(rows, key=lambda row: (row["zone"], row["datetime"]))
    ]


# Decimals that no double holds exactly: a float sum would differ with the hour where it began.
NUMBERS = st.one_of(st.none(), st.integers(-50_000, 50_000).map(lambda n: n / 10), st.floats(-1e9, 1e9, width=32))


@pytest.mark.embedded_alone("its many examples take minutes on the JVM")
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.dictionaries(st.integers(0, 79), NUMBERS, min_size=1, max_size=60), min_size=4, max_size=4),
    st.lists(st.integers(0, 80), min_size=1, max_size=2),
)
def test_pieces_of_any_size_equal_the_whole_to_the_last_bit(
    spark: SparkSession, histories: list[dict[int, float | None]], cuts: list[int]
) -> None:
    # Each history is of a zone of its own, so that one plan computes four of them.
    rows = [
        {"zone": f"Z{number}", "datetime": T + hour * HOUR, "consumption_total": value}
        for number, values in enumerate(histories)
        for hour, value in values.items()
    ]
    frame = silver(spark, rows)
    with pytest.MonkeyPatch.context() as patch:
        # The whole as many hours are summed, the pieces as few are.
        patch.setattr("emaps_dagster.transforms.gold._MANY", HOUR)
        whole = as_rows(features(frame, GR, T, T + 80 * HOUR))
    edges = sorted({0, *cuts, 80})
    pieces = [
        row
        for start, end in itertools.pairwise(edges)
        for row in as_rows(features(frame, GR, T + start * HOUR, T + end * HOUR))
    ]
    assert bits(pieces) == bits(whole)
    assert len(whole) == len(rows)


def test_sums_of_many_hours_are_those_of_few_to_the_last_bit(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a hole of an hour, one of a day and one of two, and a value that no double holds exactly.
    hours = [n for n in range(120) if n != 7 and not 30 <= n < 54 and not 60 <= n < 108]
    frame = series(spark, {n: None if n % 11 == 0 else n / 10 for n in hours})
    short = as_rows(features(frame, GR, T, T + 120 * HOUR))
    monkeypatch.setattr("emaps_dagster.transforms.gold._MANY", HOUR)
    long = as_rows(features(frame, GR, T, T + 120 * HOUR))
    assert bits(long) == bits(short)
    counted = [sum(n - 24 < other <= n for other in hours) for n in hours]
    assert [row["hours_observed_24h"] for row in long] == counted


@OF_NO_ENGINE
def test_the_window_must_not_be_cut_off(spark: SparkSession) -> None:
    """What the pipeline this began with did: a window without its context gives lag null and a mean of one hour."""
    values = {number: float(number) for number in range(48)}
    whole, cut = series(spark, values), series(spark, {n: v for n, v in values.items() if n >= 30})
    start, end = T + 30 * HOUR, T + 31 * HOUR
    (right,) = as_rows(features(whole, GR, start, end))
    (wrong,) = as_rows(features(cut, GR, start, end))
    assert (right["lag_consumption_total_1h"], right["rolling_avg_consumption_total_24h"]) == (29.0, 18.5)
    assert (wrong["lag_consumption_total_1h"], wrong["rolling_avg_consumption_total_24h"]) == (None, 30.0)
    assert timedelta(hours=23) + start - end == timedelta(hours=22)
