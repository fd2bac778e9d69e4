"""Which ranges hours are asked for in, and what a tick catches up."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.monitoring.hour_ranges import catch_up, oldest_history_hour, to_windows
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.upkeep_hours import CARRIED, FIRST, NOW, hours, some_hours, window


@pytest.mark.parametrize(
    ("bridge", "most", "ranges"),
    [
        (0, None, [("05-01T00", "05-01T03"), ("05-01T05", "05-01T06"), ("05-02T07", "05-02T08")]),
        (2, None, [("05-01T00", "05-01T06"), ("05-02T07", "05-02T08")]),
        (0, 2, [("05-01T00", "05-01T06"), ("05-02T07", "05-02T08")]),
        (0, 1, [("05-01T00", "05-02T08")]),
    ],
)
def test_hours_are_the_fewest_ranges(bridge: int, most: int | None, ranges: list[tuple[str, str]]) -> None:
    given = hours(("05-01T00", "05-01T03"), ("05-01T05", "05-01T06"), ("05-02T07", "05-02T08"))
    assert to_windows(given, bridge=bridge * HOUR, most=most) == [window(*one) for one in ranges]


@settings(deadline=None, max_examples=50)
@given(some_hours(), st.integers(0, 30), st.none() | st.integers(1, 5))
def test_ranges_hold_every_hour_lie_apart_and_are_as_few_as_asked(
    given: set[datetime], bridge: int, most: int | None
) -> None:
    ranges = to_windows(given, bridge=bridge * HOUR, most=most)
    assert given <= {hour for one in ranges for hour in one.hours()}
    assert all(one.start in given and one.end - HOUR in given for one in ranges)
    assert all(right.start - left.end > bridge * HOUR for left, right in pairwise(ranges))
    assert most is None or len(ranges) <= most


@pytest.mark.parametrize(
    ("untried_from", "past_range", "asked_from"),
    [
        pytest.param("05-04T09", False, "05-04T09", id="nothing was missed"),
        pytest.param("05-04T04", False, "05-04T04", id="five ticks were missed"),
        pytest.param("05-01T00", False, "05-03T11", id="three days were missed: what history carries"),
        pytest.param("05-01T00", True, "05-01T00", id="three days were missed, and the plan serves them"),
        pytest.param("04-24T11", True, "04-24T11", id="ten days were missed: one call"),
        pytest.param("04-01T00", True, "05-03T11", id="a month was missed: the sensor `gaps` has the rest"),
        pytest.param("01-01T00", True, "05-03T11", id="nothing was ever run"),
    ],
)
def test_a_tick_catches_up_what_was_missed_in_one_range(untried_from: str, past_range: bool, asked_from: str) -> None:
    tried = set(window("01-01T00", untried_from).hours()) if untried_from > "01-01T00" else set()
    assert catch_up(NOW, FIRST, tried, past_range=past_range) == window(asked_from, "05-04T10")


def test_a_tick_does_not_run_an_hour_again_that_failed_or_was_made() -> None:
    tried = hours(("05-01T00", "05-04T03"), ("05-04T05", "05-04T10"))
    assert catch_up(NOW, FIRST, tried, past_range=False) == window("05-04T03", "05-04T10")
    assert catch_up(NOW, FIRST, tried | hours(("05-04T03", "05-04T05")), past_range=False) == window(
        "05-04T09", "05-04T10"
    )


def test_hours_before_the_first_that_was_run_are_no_missed_ticks() -> None:
    assert catch_up(NOW, FIRST, hours(("05-02T00", "05-04T08")), past_range=True) == window("05-04T08", "05-04T10")


def test_a_tick_before_the_first_partition_is_over_asks_for_no_hour_before_it() -> None:
    assert catch_up(NOW, utc(2024, 5, 4, 8), (), past_range=True) == window("05-04T08", "05-04T10")


def test_the_oldest_hour_of_history_is_23_hours_before_the_running_one() -> None:
    assert oldest_history_hour(NOW) == CARRIED
