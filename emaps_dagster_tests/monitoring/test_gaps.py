"""Which missing hours are requested, when again, and what is reported of those that stay missing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.monitoring import gaps, revisions
from emaps_dagster.monitoring.gaps import IncompleteHours, Tries
from emaps_dagster.monitoring.hour_ranges import overlaps_or_adjoins
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.upkeep_hours import CARRIED, FIRST, NOW, hours, some_hours, window

PAID = {"GR": FIRST, "BG": FIRST}
UNPAID = {"GR": CARRIED, "BG": CARRIED}


NOTHING = gaps.GapsCursor()


def decide(
    holes: IncompleteHours, memory: gaps.GapsCursor = NOTHING, *, now: datetime = NOW, **options: Any
) -> gaps.Decision:
    return gaps.decide(now, holes, options.pop("oldest_available", PAID), memory, **options)


def test_a_hole_of_any_zone_is_requested_in_one_run() -> None:
    decision = decide(IncompleteHours({"GR": hours(("05-01T00", "05-01T05")), "BG": hours(("05-01T03", "05-01T08"))}))
    assert decision.fetch == [window("05-01T00", "05-01T08")]
    assert decision.merge == []


def test_holes_a_day_apart_are_one_run_and_farther_ones_are_not() -> None:
    near = hours(("04-01T00", "04-01T02"), ("04-02T01", "04-02T02"))
    assert decide(IncompleteHours({"GR": near})).fetch == [window("04-01T00", "04-02T02")]
    far = hours(("04-01T00", "04-01T02"), ("04-07T01", "04-07T02"))
    assert decide(IncompleteHours({"GR": far})).fetch == [
        window("04-01T00", "04-01T02"),
        window("04-07T01", "04-07T02"),
    ]


def test_what_history_carries_and_what_no_run_has_tried_is_left_to_the_next_tick() -> None:
    not_fetched = hours(("05-02T00", "05-02T04"), ("05-03T20", "05-03T22"))
    decision = decide(IncompleteHours({"GR": not_fetched}, untried=hours(("05-02T00", "05-02T04"))))
    assert decision.fetch == []
    assert decision.sentences == [
        "The next tick requests [2024-05-02T00:00Z, 2024-05-02T04:00Z), [2024-05-03T20:00Z, 2024-05-03T22:00Z)."
    ]


def test_what_the_plan_does_not_serve_is_reported_as_lost_and_never_requested() -> None:
    decision = decide(IncompleteHours({"GR": hours(("05-01T00", "05-01T07"))}), oldest_available=UNPAID)
    assert decision.fetch == decision.merge == []
    assert decision.sentences == [
        "Lost, since the plan serves no past-range: GR [2024-05-01T00:00Z, 2024-05-01T07:00Z). "
        "A plan that has it brings them back."
    ]


def test_what_bronze_has_is_merged_without_a_call() -> None:
    decision = decide(IncompleteHours({}, not_merged=hours(("05-01T00", "05-01T07"))), oldest_available=UNPAID)
    assert decision.fetch == []
    assert decision.merge == [window("05-01T00", "05-01T07")]


def test_what_is_merged_by_a_run_nearby_needs_no_run_of_its_own() -> None:
    holes = IncompleteHours({"GR": hours(("05-01T00", "05-01T01"))}, not_merged=hours(("05-01T05", "05-01T07")))
    decision = decide(holes)
    assert (decision.fetch, decision.merge) == ([window("05-01T00", "05-01T01")], [])


def test_hours_whose_run_failed_wait_until_the_provider_answers_again() -> None:
    holes = IncompleteHours({}, failed=hours(("05-04T02", "05-04T05")))
    waiting = decide(holes, provider_ok=False)
    assert waiting.fetch == []
    assert waiting.sentences == ["Failed hours wait until a tick succeeds: [2024-05-04T02:00Z, 2024-05-04T05:00Z)."]
    assert decide(holes, provider_ok=True).fetch == [window("05-04T02", "05-04T05")]
    assert decide(holes, provider_ok=True, oldest_available=UNPAID).fetch == [window("05-04T02", "05-04T05")]
    older = IncompleteHours({}, failed=hours(("05-02T02", "05-02T05")))
    assert decide(older, provider_ok=True, oldest_available=UNPAID).fetch == []


def test_a_hole_whose_record_is_quarantined_is_reported_and_requested_as_any_other() -> None:
    not_fetched = hours(("05-01T00", "05-01T02"))
    bad = hours(("05-01T01", "05-01T02"))
    memory, now, said = gaps.GapsCursor(), NOW, []
    for _ in range(4):
        decision = decide(IncompleteHours({"GR": not_fetched}, quarantined={"GR": bad}), memory, now=now)
        assert decision.fetch == [window("05-01T00", "05-01T02")]
        memory, now, said = decision.memory, now + timedelta(hours=8), decision.sentences
    assert said[0] == (
        "The record is quarantined, and the hour waits for the provider to mend it: GR [2024-05-01T01:00Z, "
        "2024-05-01T02:00Z). bronze.rejected_records says why."
    )
    # It does have that hour, in its way.
    assert said[1].startswith("The provider does not have [2024-05-01T00:00Z, 2024-05-01T01:00Z)")


def test_hours_near_a_run_that_is_going_on_wait() -> None:
    holes = IncompleteHours({"GR": hours(("05-01T00", "05-01T01"), ("03-01T00", "03-01T01"))})
    decision = decide(holes, active_windows=[window("05-01T01", "05-01T21")])
    assert decision.fetch == [window("03-01T00", "03-01T01")]
    assert decision.sentences == [
        "[2024-05-01T00:00Z, 2024-05-01T01:00Z) wait for a run that is queued or going on nearby."
    ]
    assert decision.memory.fetched.keys() == hours(("03-01T00", "03-01T01"))


def test_a_hole_that_stays_is_requested_less_and_less_and_then_reported() -> None:
    holes = IncompleteHours({"GR": hours(("05-01T00", "05-01T02"))})
    memory, now, asked = gaps.GapsCursor(), NOW, []
    said: list[str] = []
    while now < NOW + timedelta(days=30):
        decision = decide(holes, memory, now=now)
        memory = decision.memory
        if decision.fetch:
            asked.append((now - NOW) // HOUR)
        said += [sentence for sentence in decision.sentences if sentence not in said]
        now += timedelta(minutes=30)
    # After 1, 2, 4 ... 128 hours, then every week.
    assert asked == [0, 1, 3, 7, 15, 31, 63, 127, 255, 423, 591]
    assert (
        "The provider does not have [2024-05-01T00:00Z, 2024-05-01T02:00Z): requested up to 3 times, "
        "next at 2024-05-04T17:20Z or later." in said
    )


def test_hours_of_nulls_are_reported_and_requested_again_like_holes_and_less_and_less() -> None:
    holes = IncompleteHours({}, silent={"GR": hours(("05-01T00", "05-01T02"))})
    memory, now, asked = gaps.GapsCursor(), NOW, []
    while now < NOW + timedelta(days=12):
        decision = decide(holes, memory, now=now)
        memory = decision.memory
        asked += [((now - NOW) // HOUR, *decision.fetch)] if decision.fetch else []
        now += timedelta(minutes=30)
        nulls = "The provider answered with nulls only: GR [2024-05-01T00:00Z, 2024-05-01T02:00Z)."
        assert decision.sentences[0] == nulls
    assert [hour for hour, *_ in asked] == [0, 1, 3, 7, 15, 31, 63, 127, 255]
    assert asked[0][1:] == (window("05-01T00", "05-01T02"),)
    assert decide(IncompleteHours({}), memory).memory == gaps.GapsCursor()


def test_hours_of_nulls_that_the_plan_does_not_serve_are_reported_and_never_requested() -> None:
    recent = hours(("05-03T20", "05-03T21"))
    decision = decide(
        IncompleteHours({}, silent={"BG": hours(("05-01T00", "05-01T02")) | recent}), oldest_available=UNPAID
    )
    assert decision.fetch == decision.merge == []
    assert decision.sentences == [
        "The provider answered with nulls only: BG [2024-05-01T00:00Z, 2024-05-01T02:00Z), "
        "[2024-05-03T20:00Z, 2024-05-03T21:00Z).",
        "Lost, since the plan serves no past-range: BG [2024-05-01T00:00Z, 2024-05-01T02:00Z). "
        "A plan that has it brings them back.",
        "The next tick requests [2024-05-03T20:00Z, 2024-05-03T21:00Z).",
    ]


def test_a_hole_that_was_filled_is_forgotten() -> None:
    memory = decide(IncompleteHours({"GR": hours(("05-01T00", "05-01T02"))})).memory
    assert decide(IncompleteHours({}), memory).memory == gaps.GapsCursor()


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.sampled_from(["GR", "BG"]), some_hours()),
    some_hours(),
    some_hours(),
    st.sampled_from([PAID, UNPAID, {"GR": FIRST, "BG": CARRIED}]),
    st.lists(st.integers(0, 90), max_size=2),
    st.integers(1, 24),
)
def test_whatever_is_missing_evaluations_end_and_each_requests_within_bounds_only_for_what_can_be_had(
    not_fetched: dict[str, set[datetime]],
    not_merged: set[datetime],
    failed: set[datetime],
    oldest_available: dict[str, datetime],
    busy_days: list[int],
    step: int,
) -> None:
    active_windows = [
        Window(utc(2024, 5, 4) - days * 24 * HOUR, utc(2024, 5, 4, 5) - days * 24 * HOUR) for days in busy_days
    ]
    memory, now = gaps.GapsCursor(), NOW
    asked: dict[datetime, list[datetime]] = {}
    for _ in range(12):
        decision = decide(
            IncompleteHours(not_fetched, not_merged, failed),
            memory,
            now=now,
            oldest_available=oldest_available,
            active_windows=active_windows,
        )
        chosen = [*decision.fetch, *decision.merge]
        assert len(decision.fetch) <= 4
        assert sum((one.end - one.start) // HOUR for one in decision.fetch) <= 31 * 24
        assert not any(overlaps_or_adjoins(one, other) for one in chosen for other in active_windows)
        assert not any(overlaps_or_adjoins(one, other) for n, one in enumerate(chosen) for other in chosen[:n])
        wanted = set().union(failed, *not_fetched.values())
        for one in decision.fetch:
            assert one.start in wanted
            assert one.start >= min(oldest_available.values())
            for hour in one.hours():
                asked.setdefault(hour, []).append(now)
        # A cursor comes back as it was, and stays small.
        memory = gaps.GapsCursor.loads(decision.memory.dumps())
        assert memory == decision.memory
        assert len(decision.memory.dumps()) < 100_000
        now += step * HOUR
    # Bridged hours may be asked for with their neighbours; none is asked for at every look.
    assert all(len(moments) <= 9 for moments in asked.values()) or step > 1


@settings(deadline=None, max_examples=50)
@given(some_hours(30).filter(bool))
def test_holes_that_can_be_filled_are_all_requested_within_a_few_evaluations(not_fetched: set[datetime]) -> None:
    memory, left = gaps.GapsCursor(), {hour for hour in not_fetched if hour < CARRIED}
    for look in range(60):
        decision = decide(IncompleteHours({"GR": left}), memory, now=NOW + look * timedelta(minutes=30))
        left = left - {hour for one in decision.fetch for hour in one.hours()}
        memory = decision.memory
        if not left:
            return
    pytest.fail(f"never asked for: {sorted(left)}")


@pytest.mark.parametrize("text", [None, "", "{", '{"v": 99, "fetched": [], "merged": []}', '{"v": 1}', "[]", "17"])
def test_a_cursor_of_another_release_begins_afresh(text: str | None) -> None:
    assert gaps.GapsCursor.loads(text) == gaps.GapsCursor()
    assert revisions.RevisionsCursor.loads(text) == revisions.RevisionsCursor()


def test_the_try_that_follows_is_later_each_time_and_at_most_a_week_away() -> None:
    pauses = [Tries(count, NOW).next_at - NOW for count in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[0] == HOUR
    assert pauses[-1] == timedelta(days=7)
