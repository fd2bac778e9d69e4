"""The calendar of an hour: UTC and local, weekends and holidays."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from pyspark.sql import SparkSession

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.gold import features
from emaps_dagster.transforms.time_features import with_time_features
from emaps_dagster_tests.support.builders import as_rows, silver, utc

pytestmark = pytest.mark.both_engines
# What the JVM computes is compared in the first test, and bit by bit in test_engines_agree.py.
OF_NO_ENGINE = pytest.mark.embedded_alone(reason="it shows what the transform says, which both engines compute alike")

T = utc(2024, 5, 4)
GR = ("GR",)


def test_time_features_are_utc_and_local_ones_are_of_athens(spark: SparkSession) -> None:
    names = ("hour", "day_of_week", "month", "local_hour", "local_day_of_week", "is_weekend", "is_holiday")
    expected = {
        # hour, day_of_week (1 = Sunday), month, local hour, local day, weekend, holiday
        utc(2024, 2, 29, 12): (12, 5, 2, 14, 5, False, False),
        utc(2024, 3, 31, 0): (0, 1, 3, 2, 1, True, False),  # the last hour of winter time
        utc(2024, 3, 31, 1): (1, 1, 3, 4, 1, True, False),  # 03:00 does not exist that day
        utc(2024, 5, 3, 20): (20, 6, 5, 23, 6, False, True),  # Good Friday of the Orthodox calendar
        utc(2024, 5, 3, 21): (21, 6, 5, 0, 7, True, False),  # already Saturday in Athens
        utc(2024, 5, 5, 20): (20, 1, 5, 23, 1, True, False),  # Easter Sunday, no listed holiday of its own
        utc(2024, 5, 5, 21): (21, 1, 5, 0, 2, False, True),  # Easter Monday has begun in Athens
        utc(2024, 10, 27, 0): (0, 1, 10, 3, 1, True, False),
        utc(2024, 10, 27, 1): (1, 1, 10, 3, 1, True, False),  # 03:00 comes twice
        utc(2024, 12, 31, 22): (22, 3, 12, 0, 4, False, True),  # New Year in Athens
    }
    rows = silver(spark, [{"datetime": hour} for hour in expected])
    found = as_rows(features(rows, GR, min(expected), max(expected) + HOUR))
    assert {row["datetime"]: tuple(row[name] for name in names) for row in found} == expected


@OF_NO_ENGINE
def test_a_lone_last_hour_of_a_year_is_a_holiday_of_the_next(spark: SparkSession) -> None:
    hour = utc(2024, 12, 31, 22)
    (row,) = as_rows(features(silver(spark, [{"datetime": hour}]), GR, hour, hour + HOUR))
    assert (row["local_hour"], row["is_holiday"]) == (0, True)


@OF_NO_ENGINE
def test_a_zone_without_known_facts_keeps_utc_features_and_null_local_ones(spark: SparkSession) -> None:
    (row,) = as_rows(features(silver(spark, [{"datetime": T, "carbon_intensity": 5.0}], "FR"), ("FR",), T, T + HOUR))
    assert (row["hour"], row["lag_carbon_intensity_1h"], row["rolling_avg_carbon_intensity_24h"]) == (0, None, 5.0)
    assert [row[name] for name in ("local_hour", "local_day_of_week", "is_weekend", "is_holiday")] == [None] * 4


@OF_NO_ENGINE
@pytest.mark.parametrize("around", [timedelta(0), timedelta(days=3), timedelta(days=400)])
def test_a_holiday_does_not_depend_on_the_window(spark: SparkSession, around: timedelta) -> None:
    # Good Friday of 2024 in Athens, from 21:00 UTC to 21:00 UTC: the hours at both of its ends.
    hours = {utc(2024, 5, 2, 20): False, utc(2024, 5, 2, 21): True, utc(2024, 5, 3, 20): True, T: False}

    def is_holiday(hour: datetime) -> bool:
        rows = silver(spark, [{"datetime": hour}]).select("zone", "datetime")
        (row,) = as_rows(with_time_features(rows, hour - around, hour + HOUR + around))
        return bool(row["is_holiday"])

    assert {hour: is_holiday(hour) for hour in hours} == hours
