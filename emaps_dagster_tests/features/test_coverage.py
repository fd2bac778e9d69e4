"""features.load says what an answer lacks and what of it a backfill made known (issue 16, item 23)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from emaps_dagster import features
from emaps_dagster.contracts.errors import BackfilledFeaturesError, FeaturesError, NoFeaturesError, PartialFeaturesError
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.simulator.provider import Provider
from harness.history_builder import Past

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
APRIL = datetime(2024, 4, 1, tzinfo=timezone.utc)
# A week that was fetched on the 20th, when hourly runs began.
WEEK = Window(APRIL, APRIL + 7 * DAY)
BEGAN = APRIL + 19 * DAY
# The first run's /history reaches back to 02:00 of the day before.
TICKED = Window(BEGAN - 22 * HOUR, BEGAN + 12 * HOUR)
# Withheld by the provider until they were fetched five days later.
LATE = Window(BEGAN + 4 * HOUR, BEGAN + 6 * HOUR)
# Only their carbon intensity was withheld.
LATE_CARBON = Window(BEGAN + 8 * HOUR, BEGAN + 9 * HOUR)


@pytest.fixture(scope="module")
def warehouse(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coverage")
    provider = Provider(7)
    past = Past(FolderLakehouse(spark, folder), ("GR",), provider)
    past.backfill(WEEK, BEGAN + 7 * MINUTE)
    provider.withhold("GR", LATE.start, LATE.end)
    provider.withhold("GR", LATE_CARBON.start, LATE_CARBON.end, feed=CARBON)
    past.tick(*(BEGAN + number * HOUR + 7 * MINUTE for number in range(1, 13)))
    settled = Past(past.lakehouse, ("GR",), Provider(7))
    settled.backfill(LATE, BEGAN + 5 * DAY)
    settled.backfill(LATE_CARBON, BEGAN + 5 * DAY, (CARBON,))
    past.merge(WEEK)
    past.merge(TICKED)
    return folder


@pytest.fixture
def load(warehouse: Path) -> Callable[..., Any]:
    def ask(hours: Window, **more: Any) -> Any:
        return features.load("GR", hours.start, hours.end, warehouse=warehouse, columns=["carbon_intensity"], **more)

    return ask


def refused(error: type[FeaturesError], ask: Callable[..., Any], hours: Window, **more: Any) -> str:
    with pytest.raises(error) as caught:
        ask(hours, **more)
    assert caught.type is error
    return re.sub(r" at /\S+", "", str(caught.value))


# Gold as it is stored


def test_gold_that_lacks_hours_says_which(load: Callable[..., Any]) -> None:
    hours = Window(APRIL + 6 * DAY, BEGAN)
    assert refused(PartialFeaturesError, load, hours) == (
        "gold.ml_features lacks 266 of the 312 requested hours: zone GR 266 in [2024-04-08T00:00Z, 2024-04-19T02:00Z). "
        "Run the pipeline for these hours, request others, or accept fewer rows with allow='missing'."
    )
    assert len(load(hours, allow="missing")) == 46
    assert len(load(Window(BEGAN - 22 * HOUR, BEGAN))) == 22


def test_hours_to_come_are_missing_as_well(load: Callable[..., Any]) -> None:
    years = Window(TICKED.start, datetime(2029, 1, 1, tzinfo=timezone.utc))
    said = refused(PartialFeaturesError, load, years)
    assert "zone GR " in said
    assert re.search(r"\[2024-04-20T12:00Z, 2029-01-01T00:00Z\)\. \d{2},\d{3} of them are not over yet\.", said)


def test_many_ranges_are_counted_and_not_listed(warehouse: Path, spark: SparkSession, tmp_path: Path) -> None:
    past = Past(FolderLakehouse(spark, tmp_path / "holes"), ("GR", "BG"), Provider(7))
    for number in range(8):
        hour = APRIL + 2 * number * HOUR
        past.backfill(Window(hour, hour + HOUR), BEGAN)
    past.backfill(Window(APRIL + HOUR, APRIL + 2 * HOUR), BEGAN)
    past.merge(Window(APRIL, APRIL + 16 * HOUR))
    with pytest.raises(PartialFeaturesError) as caught:
        features.load(["GR", "BG"], APRIL, APRIL + 16 * HOUR, warehouse=tmp_path / "holes")
    said = str(caught.value)
    assert "lacks 14 of the 32 requested hours: zone GR 7 in [2024-04-01T03:00Z, 2024-04-01T04:00Z), " in said
    assert "2024-04-01T12:00Z) and 2 more ranges; zone BG 7 in " in said
    # The remedy: the pipeline runs for these hours.
    hours = Window(APRIL, APRIL + 16 * HOUR)
    past.backfill(hours, BEGAN)
    past.merge(hours)
    assert len(features.load(["GR", "BG"], hours.start, hours.end, warehouse=tmp_path / "holes")) == 32


# As of a moment


def test_hours_that_were_not_known_at_a_moment_are_counted(load: Callable[..., Any]) -> None:
    moment = BEGAN + 3 * HOUR + 30 * MINUTE
    hours = Window(BEGAN - 26 * HOUR, BEGAN + 6 * HOUR)
    assert refused(PartialFeaturesError, load, hours, as_of=moment) == (
        "Not known at 2024-04-20T03:30:00Z were 7 of the 32 requested hours: zone GR 7 in "
        "[2024-04-18T22:00Z, 2024-04-19T02:00Z), [2024-04-20T03:00Z, 2024-04-20T06:00Z). 3 of them were not over: end "
        "before 2024-04-20T03:00Z. Request other hours, or accept fewer rows with allow='missing'."
    )
    assert len(load(hours, as_of=moment, allow="missing")) == 25
    assert len(load(Window(TICKED.start, BEGAN + 3 * HOUR), as_of=moment)) == 25


# Each row as it was known in its time


def test_a_backfill_is_no_knowledge_in_time_and_no_longer_delay_is_suggested(load: Callable[..., Any]) -> None:
    said = refused(NoFeaturesError, load, WEEK, known_at="1h")
    assert said == (
        "No hour of zone GR in [2024-04-01T00:00Z, 2024-04-08T00:00Z) was known 1:00:00 after its end. 168, 100% of "
        "those requested, were backfilled: first ingested 12 days, 0:07:00 after their end at the earliest, half of "
        "them 15 days, 12:07:00 or more. What was known of them in time was never fetched, and no known_at brings it "
        "back."
    )


def test_a_delay_that_reaches_into_a_backfill_says_what_is_missing_and_what_is_not_of_its_time(
    load: Callable[..., Any],
) -> None:
    both = refused(PartialFeaturesError, load, WEEK, known_at="15d")
    assert both == (
        "Not known 15 days, 0:00:00 after their end were 96 of the 168 requested hours: zone GR 96 in "
        "[2024-04-01T00:00Z, 2024-04-05T00:00Z). 96, 57% of those requested, were backfilled: first ingested 15 days, "
        "0:07:00 after their end at the earliest, half of them 17 days, 0:07:00 or more. What was known of them in "
        "time was never fetched, and no known_at brings it back. 72 of 72 rows are known 15 days, 0:00:00 after their "
        "end by a backfill only: zone GR 72 in [2024-04-05T00:00Z, 2024-04-08T00:00Z). They were first ingested 12 "
        "days, 0:07:00 after their end at the earliest, half of them 13 days, 12:07:00 or more, and show what the "
        "provider published by then, not what could be known in their time. Request hours while the pipeline ran, "
        "or accept both with allow=['missing', 'backfilled']."
    )
    assert "72 of 72 rows" in refused(BackfilledFeaturesError, load, WEEK, known_at="15d", allow="missing")
    assert "96 of the 168" in refused(PartialFeaturesError, load, WEEK, known_at="15d", allow="backfilled")
    assert len(load(WEEK, known_at="15d", allow=["missing", "backfilled"])) == 72


def test_final_values_are_not_called_known_in_time(load: Callable[..., Any]) -> None:
    said = refused(BackfilledFeaturesError, load, WEEK, known_at="130d")
    assert said.startswith("168 of 168 rows are known 130 days, 0:00:00 after their end by a backfill only: zone GR ")
    accepted = load(WEEK, known_at="130d", allow="backfilled")
    assert accepted["carbon_intensity"].tolist() == load(WEEK)["carbon_intensity"].tolist()


def test_hours_while_the_pipeline_ran_are_answered_without_a_word(load: Callable[..., Any]) -> None:
    hours = Window(BEGAN, BEGAN + 4 * HOUR)
    assert len(load(hours, known_at="15min")) == 4
    assert len(load(hours, known_at="3d")) == 4


def test_what_the_first_run_found_in_history_needs_the_delay_that_is_named(load: Callable[..., Any]) -> None:
    hours = Window(TICKED.start, BEGAN + 4 * HOUR)
    said = refused(PartialFeaturesError, load, hours, known_at="1h")
    assert "were 22 of the 26 requested hours: zone GR 22 in [2024-04-19T02:00Z, 2024-04-20T00:00Z). " in said
    assert (
        "22 were first ingested 1:07:00 after their end at the earliest, half of them 12:07:00 or more: a longer "
        "known_at has them." in said
    )
    assert "backfill" not in said
    assert len(load(hours, known_at="23h")) == 26


def test_an_hour_that_later_bodies_pass_over_is_backfilled_though_they_span_it(load: Callable[..., Any]) -> None:
    hours = Window(LATE.start - HOUR, LATE.end + HOUR)
    said = refused(PartialFeaturesError, load, hours, known_at="1h")
    assert "were 2 of the 4 requested hours: zone GR 2 in [2024-04-20T04:00Z, 2024-04-20T06:00Z). 2, 50% of " in said
    assert "first ingested 4 days, 18:00:00 after their end at the earliest" in said
    said = refused(BackfilledFeaturesError, load, hours, known_at="5d")
    assert said.startswith("2 of 4 rows are known 5 days, 0:00:00 after their end by a backfill only: zone GR 2 in ")


def test_one_feed_that_came_by_a_backfill_is_enough(load: Callable[..., Any]) -> None:
    assert load(LATE_CARBON, known_at="1h")["carbon_intensity"].isna().all()
    assert load(LATE_CARBON, known_at="4d")["carbon_intensity"].isna().all()
    assert "1 of 1 rows" in refused(BackfilledFeaturesError, load, LATE_CARBON, known_at="5d")


def test_arrow_and_polars_refuse_and_accept_alike(warehouse: Path) -> None:
    hours = (APRIL + 6 * DAY, APRIL + 8 * DAY)
    for ask in (features.load_arrow, features.load_polars):
        with pytest.raises(PartialFeaturesError, match="24 of the 48 requested hours"):
            ask("GR", *hours, warehouse=warehouse)  # type: ignore[operator]
        assert len(ask("GR", *hours, warehouse=warehouse, allow="missing")) == 24  # type: ignore[operator]
