"""Forecasting rows from a few responses: what was known at each issue time, literally."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.forecast_plan import forecast_plan, lag_hours
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.forecasting import latest
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.transforms.training_rows import final_targets, issues_table, origin_of, training_rows
from emaps_dagster_tests.support.builders import as_rows, body, bronze, record, silver, utc

pytestmark = pytest.mark.both_engines

# The day before Greece's clocks go forward; all hours below are counted from here.
DAY = utc(2024, 3, 30)
PLAN = forecast_plan(
    "GR",
    columns=["consumption_total", "import_BG"],
    targets="carbon_intensity",
    horizons=[1, 2, 25],
    lags=[1, 24, 48],
    means=[2],
)


def at(hours: float) -> datetime:
    return DAY + timedelta(hours=hours)


def power(hour: float, load: float | None, flow: float | None = None, **more: Any) -> dict[str, Any]:
    return record(at(hour), powerConsumptionTotal=load, powerImportBreakdown={"BG": flow}, **more)


# One plan for all tests of an engine: on the JVM each takes seconds.
MOMENTS = (23.5, 25.5, 26, 26.5, 27, 27.25, 27.5, 28.25)
Rows = dict[tuple[float, int], dict[str, Any]]


def responses(spark: SparkSession) -> tuple[DataFrame, DataFrame]:
    """Bronze: a revision at 27:30, a hole at hour 26, a null at hour 27, an hour that is known at its very end."""
    powers = bronze(
        spark,
        (body(power(0, 100.0, 1.0), power(1, 110.0), power(2, 0.0)), at(24)),
        (body(power(24, 240.0, 5.0, isEstimated=True), power(25, 250.0, isEstimated=True)), at(26)),
        (body(power(25, 251.0, 7.0, isEstimated=False)), at(27.5)),
        (body(power(27, None)), at(28)),
        (body(power(0, 9999.0), power(26, 9999.0), power(28, 9999.0)), at(100)),
    )
    carbons = bronze(
        spark,
        (body(record(at(2), carbonIntensity=300.0), record(at(25), carbonIntensity=400.0)), at(26)),
        (body(record(at(25), carbonIntensity=410.0)), at(26) + timedelta(microseconds=1)),
    )
    return powers, carbons


@cache
def rows_of(spark: SparkSession, *, final: bool = False) -> Rows:
    """The rows of all issue times, by hours after DAY and horizon."""
    moments = [at(hours) for hours in MOMENTS]
    issues = spark.createDataFrame(issues_table([("GR", moment) for moment in moments]))
    origins = Window(origin_of(min(moments)), origin_of(max(moments)) + HOUR)
    found = as_rows(training_rows(*responses(spark), issues, origins, PLAN, final=final))
    return {((row["issued_at"] - DAY) / HOUR, row["horizon"]): row for row in found}


def some(row: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def test_a_row_holds_what_was_known_at_its_issue_time(spark: SparkSession) -> None:
    rows = rows_of(spark)
    assert len(rows) == len(MOMENTS) * 3
    load = ("value_consumption_total", "age_consumption_total_h")
    # At 26:00 the hour 25 is over and known; at 27:00 the hour 26 is over and unknown.
    assert some(rows[26, 1], *load) == (250.0, 0.0)
    assert some(rows[27, 1], *load) == (250.0, 1.0)
    # The revision counts from the moment of its ingestion on.
    assert some(rows[27.5, 1], *load) == (251.0, 1.0)
    # Hour 27 is known and null, so that the last value is older than the last record.
    assert some(rows[28.25, 1], *load, "_age_power", "_age_carbon") == (251.0, 2.0, 0, 2)
    flow = ("value_import_BG", "age_import_BG_h")
    assert [some(rows[moment, 1], *flow) for moment in (26, 27.5)] == [(5.0, 1.0), (7.0, 1.0)]


def test_lags_are_counted_from_the_target_hour_and_absent_where_that_hour_is_not_over(spark: SparkSession) -> None:
    rows = rows_of(spark)
    lags = ("lag_consumption_total_1h", "lag_consumption_total_24h", "lag_consumption_total_48h")
    # Origin 25; targets 26, 27 and 50.
    assert some(rows[26, 1], *lags) == (250.0, 0.0, None)
    assert some(rows[26, 2], *lags) == (None, None, None)
    # 24 hours before the target 50 lies hour 26, which is not over: both lags are 48 hours.
    assert some(rows[26, 25], *lags) == (None, 0.0, 0.0)
    # Origin 26, which is unknown; target 51.
    assert some(rows[27.5, 1], *lags) == (None, None, None)
    assert some(rows[27.5, 25], *lags) == (None, None, None)
    assert [rows[26, k]["target_time"] for k in (1, 2, 25)] == [at(26), at(27), at(50)]


def test_means_are_by_time_and_count_their_values(spark: SparkSession) -> None:
    rows = rows_of(spark)
    mean = ("mean_consumption_total_2h", "count_consumption_total_2h")
    assert some(rows[26, 25], *mean) == (245.0, 2)
    assert some(rows[27, 1], *mean) == (250.0, 1)
    assert some(rows[28.25, 2], *mean) == (None, 0)
    # The hours 2 and 26 to 24 of the day up to the origins 25 and 27; estimates: 24 and, until 27:30, 25.
    day = ("hours_known_24h", "estimated_share_24h")
    assert some(rows[26, 1], *day) == (3, 2 / 3)
    assert some(rows[28.25, 1], *day) == (3, 1 / 3)
    # The target 26 has the hour of the day of hour 2, the target 27 that of hour 3, the target 50 of 2 and 26.
    same = "same_hour_mean_consumption_total_7d"
    assert [rows[26, k][same] for k in (1, 2, 25)] == [0.0, None, 0.0]


def test_baselines_are_known_at_the_issue_time_too(spark: SparkSession) -> None:
    rows = rows_of(spark)
    naive = ("_persistence_carbon_intensity", "_daily_carbon_intensity", "_weekly_carbon_intensity")
    assert some(rows[25.5, 1], *naive) == (None, None, None)
    assert some(rows[26, 1], *naive) == (400.0, 300.0, None)
    assert some(rows[26.5, 1], *naive) == (410.0, 300.0, None)
    # The target 50 is 48 hours after hour 2, and nothing is known of hour 26.
    assert some(rows[26.5, 25], *naive) == (410.0, 300.0, None)
    # No column is of the target's own values but the baselines.
    assert not [name for name in rows[26, 1] if name.endswith("carbon_intensity") and not name.startswith("_")]


def test_an_issue_time_without_any_known_hour_has_its_rows(spark: SparkSession) -> None:
    rows = rows_of(spark)
    assert some(rows[23.5, 25], "hours_known_24h", "count_consumption_total_2h", "_age_power") == (0, 0, None)
    assert some(rows[23.5, 25], "value_consumption_total", "estimated_share_24h") == (None, None)


def test_final_rows_hold_what_is_known_today_and_no_hour_after_the_origin(spark: SparkSession) -> None:
    rows = rows_of(spark, final=True)
    assert some(rows[27.25, 1], "value_consumption_total", "mean_consumption_total_2h") == (9999.0, (9999 + 251) / 2)
    # Origin 22, target 23; origin 26, target 27.
    assert some(rows[23.5, 1], "value_consumption_total", "age_consumption_total_h") == (0.0, 20.0)
    assert rows[27.25, 2]["hours_known_24h"] == 3


def test_the_calendar_is_of_the_target_hour_in_local_time(spark: SparkSession) -> None:
    row = rows_of(spark)[26, 25]
    # 1 April 2024, 02:00 UTC: summer time since the day before.
    names = ("hour", "day_of_week", "month", "local_hour", "local_day_of_week", "is_weekend", "is_holiday")
    assert some(row, *names) == (2, 2, 4, 5, 2, 0, 0)


def test_targets_are_silvers_values(spark: SparkSession) -> None:
    plan = forecast_plan("GR", columns=[], targets=["import_BG", "carbon_intensity"], horizons=1, lags=(), means=())
    hours = [{"datetime": at(1), "carbon_intensity": 5.0, "import_by_zone": {"BG": 2.0}}, {"datetime": at(2)}]
    found = final_targets(silver(spark, hours), plan).toArrow().sort_by("target_time").to_pylist()
    assert [list(row.values())[2:] for row in found] == [[2.0, 5.0], [None, None]]


def test_a_session_of_ones_own_reads_the_tables(lakehouse: Lakehouse, spark: SparkSession, warehouse: Path) -> None:
    # Here and not in forecasting/, as this module has a JVM already.
    for table, rows in zip((POWER_DATA, CARBON_DATA), responses(spark), strict=True):
        lakehouse.create(table)
        lakehouse.append(table, rows)
    asked: dict[str, Any] = {"columns": ["import_BG"], "horizons": 25, "lags": [24], "means": [2]}
    rows = latest("GR", at=at(27.5), **asked, warehouse=warehouse, session=spark)
    assert list(rows.index) == [("GR", at(27.5), 25)]
    known = {"value_import_BG": 7.0, "age_import_BG_h": 1.0, "mean_import_BG_2h": 7.0, "count_import_BG_2h": 1}
    assert rows[list(known)].to_dict("records") == [known]


@pytest.mark.embedded_alone("plain Python")
@pytest.mark.parametrize(
    ("horizon", "expected"),
    [
        (1, [1, 2, 24, 48, 168]),
        (2, [None, 2, 24, 48, 168]),
        (24, [None, None, 24, 48, 168]),
        (25, [None, None, 48, 48, 168]),
        (48, [None, None, 48, 48, 168]),
        (49, [None, None, 72, 72, 168]),
        (169, [None, None, 192, 192, 192]),
    ],
)
def test_the_rule_of_lags_by_horizon(spark: SparkSession, horizon: int, expected: list[int | None]) -> None:
    assert [lag_hours(lag, horizon) for lag in (1, 2, 24, 48, 168)] == expected
