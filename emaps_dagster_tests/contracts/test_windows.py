"""Windows of whole hours, and which hours of each layer a run touches."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emaps_dagster.contracts.windows import (
    HOUR,
    Window,
    floor_hour,
    gold_context,
    gold_window,
    parse_utc,
    silver_window,
    utc_now,
)

UTC = timezone.utc


def window(start: str, end: str) -> Window:
    return Window(*(datetime.strptime(text, "%Y-%m-%d %H").replace(tzinfo=UTC) for text in (start, end)))


STARTS = st.integers(0, 24 * 366 * 8).map(lambda hours: datetime(2020, 1, 1, tzinfo=UTC) + hours * HOUR)
WINDOWS = st.builds(lambda start, hours: Window(start, start + hours * HOUR), STARTS, st.integers(1, 24 * 100))
SHORT = st.builds(lambda start, hours: Window(start, start + hours * HOUR), STARTS, st.integers(1, 60))


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (datetime(2024, 1, 1), datetime(2024, 1, 2, tzinfo=UTC), "whole UTC hours"),  # noqa: DTZ001 the naive case
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2), "whole UTC hours"),  # noqa: DTZ001 the naive case
        (datetime(2024, 1, 1, 0, 30, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC), "00:30"),
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 1, 0, 0, 1, tzinfo=UTC), "00.000001"),
        (datetime(2024, 1, 1, tzinfo=timezone(2 * HOUR)), datetime(2024, 1, 2, tzinfo=UTC), r"\+02:00"),
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), "at least one hour"),
        (datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), "at least one hour"),
    ],
)
def test_anything_but_whole_utc_hours_is_no_window(start: datetime, end: datetime, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Window(start, end)


def test_a_window_holds_its_start_and_not_its_end() -> None:
    day = window("2024-01-01 00", "2024-01-01 03")
    assert list(day.hours()) == [datetime(2024, 1, 1, of_day, tzinfo=UTC) for of_day in (0, 1, 2)]
    assert [datetime(2024, 1, 1, of_day, tzinfo=UTC) in day for of_day in (0, 2, 3)] == [True, True, False]
    assert datetime(2023, 12, 31, 23, tzinfo=UTC) not in day
    assert str(day) == "[2024-01-01T00:00Z, 2024-01-01T03:00Z)"


@pytest.mark.parametrize(
    ("start", "end", "months"),
    [
        ("2024-01-31 23", "2024-02-01 00", ["2024-01"]),
        ("2024-01-31 23", "2024-02-01 01", ["2024-01", "2024-02"]),
        ("2024-02-01 00", "2024-03-01 00", ["2024-02"]),
        ("2023-12-31 00", "2024-03-01 01", ["2023-12", "2024-01", "2024-02", "2024-03"]),
        ("2023-01-31 05", "2023-03-01 00", ["2023-01", "2023-02"]),
    ],
)
def test_the_months_of_a_window_are_those_of_its_hours(start: str, end: str, months: list[str]) -> None:
    assert window(start, end).months() == months


def test_a_window_is_cut_at_the_turns_of_months() -> None:
    assert window("2023-12-30 22", "2024-02-01 02").by_month() == [
        window("2023-12-30 22", "2024-01-01 00"),
        window("2024-01-01 00", "2024-02-01 00"),
        window("2024-02-01 00", "2024-02-01 02"),
    ]


@settings(deadline=None)
@given(WINDOWS)
def test_the_parts_of_a_window_cover_it_once_and_each_lies_in_one_month(whole: Window) -> None:
    parts = whole.by_month()
    assert parts[0].start == whole.start
    assert parts[-1].end == whole.end
    assert [part.end for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert all(f"{part.start:%Y-%m}" == f"{part.end - HOUR:%Y-%m}" for part in parts)
    assert whole.months() == sorted({f"{hour:%Y-%m}" for hour in whole.hours()})


@settings(deadline=None)
@given(WINDOWS, st.integers(0, 24 * 100))
def test_parts_of_some_months_are_as_long_as_they_may_and_never_shorter_than_one(whole: Window, hours: int) -> None:
    parts, months = list(whole.in_months(hours * HOUR)), whole.by_month()
    assert [month for part in parts for month in part.by_month()] == months
    assert all(part in months or part.duration <= hours * HOUR for part in parts)
    # No two neighbours would have fitted into one.
    for part, after in itertools.pairwise(parts):
        assert after.by_month()[0].end - part.start > hours * HOUR


@settings(deadline=None)
@given(WINDOWS, st.integers(0, 100), st.integers(0, 100))
def test_widening_adds_hours_on_both_sides(whole: Window, before: int, after: int) -> None:
    wide = whole.widen(before * HOUR, after * HOUR)
    assert (whole.start - wide.start, wide.end - whole.end) == (before * HOUR, after * HOUR)
    assert len(list(wide.hours())) == len(list(whole.hours())) + before + after


def test_what_one_tick_touches() -> None:
    tick = window("2024-05-04 09", "2024-05-04 10")
    assert silver_window(tick) == window("2024-05-02 10", "2024-05-06 09")
    assert gold_window(tick) == window("2024-05-02 10", "2024-05-07 08")
    assert gold_context(gold_window(tick)) == window("2024-05-01 11", "2024-05-07 08")


def test_what_a_backfill_touches() -> None:
    month = window("2024-05-01 00", "2024-06-01 00")
    assert silver_window(month) == window("2024-04-29 01", "2024-06-02 23")
    assert gold_window(month) == window("2024-04-29 01", "2024-06-03 22")
    assert gold_context(gold_window(month)) == window("2024-04-28 02", "2024-06-03 22")


@settings(deadline=None)
@given(SHORT, st.integers(0, 23), st.integers(0, 24))
def test_silver_reaches_every_hour_of_a_history_body_that_holds_an_hour_of_the_run_even_one_a_day_late(
    run: Window, place: int, late: int
) -> None:
    # 24 hours, of which the one at `place` is the first of the run; then all of them up to a day earlier.
    first = run.start - (place + late) * HOUR
    touched = silver_window(run)
    assert first in touched
    assert first + 23 * HOUR in touched


@settings(deadline=None)
@given(SHORT, st.data())
def test_gold_takes_every_hour_whose_24_hours_hold_a_changed_hour_of_silver(run: Window, data: st.DataObject) -> None:
    changed = data.draw(st.sampled_from(list(silver_window(run).hours())))
    depends = [changed + number * HOUR for number in range(24)]
    assert all(hour in gold_window(run) for hour in depends)


@settings(deadline=None)
@given(SHORT, st.data())
def test_gold_has_the_24_hours_that_each_of_its_rows_reads(run: Window, data: st.DataObject) -> None:
    gold = gold_window(run)
    hour = data.draw(st.sampled_from(list(gold.hours())))
    assert all(hour - number * HOUR in gold_context(gold) for number in range(24))
    assert gold_context(gold).start == gold.start - 23 * HOUR
    assert gold_context(gold).end == gold.end


def test_an_hour_begins_at_its_full_hour() -> None:
    assert floor_hour(datetime(2024, 1, 1, 5, 59, 59, 999_999, tzinfo=UTC)) == datetime(2024, 1, 1, 5, tzinfo=UTC)
    assert floor_hour(datetime(2024, 1, 1, 5, tzinfo=UTC)) == datetime(2024, 1, 1, 5, tzinfo=UTC)


def test_the_present_is_aware_and_utc() -> None:
    assert utc_now().utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-04T10:07:00Z", datetime(2024, 5, 4, 10, 7, tzinfo=timezone.utc)),
        (" 2024-05-04T10:07:00.250+03:00 ", datetime(2024, 5, 4, 7, 7, 0, 250_000, tzinfo=timezone.utc)),
        ("2024-05-04", datetime(2024, 5, 4, tzinfo=timezone.utc)),
    ],
)
def test_a_time_is_read_as_utc(text: str, moment: datetime) -> None:
    assert parse_utc(text) == moment
    assert parse_utc(text).tzinfo is timezone.utc


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01", "0001-01-01T00:00+01:00", "9999-12-31T23:00-05:00"])
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|calendar|month"):
        parse_utc(text)


def test_a_time_without_a_zone_can_be_refused() -> None:
    with pytest.raises(ValueError, match="'2024-05-04T10:07' has no time zone"):
        parse_utc("2024-05-04T10:07", naive_is_utc=False)
