"""Which hours are asked for, when again, and when people are told: pure decisions, and what always holds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emaps_dagster.upkeep import gaps, revisions
from emaps_dagster.upkeep.causes import Alert, Healed, Memory, Outcome, causes_of, digest
from emaps_dagster.upkeep.gaps import Holes, Tries
from emaps_dagster.upkeep.messages import text_of, without_secrets
from emaps_dagster.upkeep.plan import Plan, plan_from
from emaps_dagster.upkeep.ranges import catch_up, fewest, oldest_carried, touches
from emaps_dagster.windows import HOUR, Window
from emaps_dagster_tests.making import utc

NOW = utc(2024, 5, 4, 10) + timedelta(minutes=20)
FIRST = utc(2024, 1, 1)
# /history carries the hours from here on.
CARRIED = utc(2024, 5, 3, 11)


def window(start: str, end: str) -> Window:
    return Window(
        *(datetime.strptime(f"2024-{text}", "%Y-%m-%dT%H").replace(tzinfo=timezone.utc) for text in (start, end))
    )


def hours(*ranges: tuple[str, str]) -> set[datetime]:
    return {hour for start, end in ranges for hour in window(start, end).hours()}


def some_hours(most: int = 60) -> st.SearchStrategy[set[datetime]]:
    """Hours of the last hundred days, in clusters as holes are."""
    run = st.tuples(st.integers(0, 2400), st.integers(1, 40))
    return st.lists(run, max_size=most // 10).map(
        lambda runs: {utc(2024, 5, 4, 9) - (back + n) * HOUR for back, length in runs for n in range(length)}
    )


# --- ranges ---------------------------------------------------------------------------------------


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
    assert fewest(given, bridge=bridge * HOUR, most=most) == [window(*one) for one in ranges]


@settings(deadline=None, max_examples=50)
@given(some_hours(), st.integers(0, 30), st.none() | st.integers(1, 5))
def test_ranges_hold_every_hour_lie_apart_and_are_as_few_as_asked(
    given: set[datetime], bridge: int, most: int | None
) -> None:
    ranges = fewest(given, bridge=bridge * HOUR, most=most)
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


# --- plan -----------------------------------------------------------------------------------------

FREE = [f"{feed}/{kind}" for feed in ("carbon-intensity", "power-breakdown") for kind in ("latest", "history")]


@pytest.mark.parametrize(
    ("listed", "past_range", "updates"),
    [
        pytest.param({"GR": {"access": ["*"]}}, True, True, id="everything"),
        pytest.param({"GR": {"access": FREE}}, False, False, id="the free plan"),
        pytest.param({"GR": {"access": [*FREE, "carbon-intensity/past-range"]}}, False, False, id="one feed only"),
        pytest.param(
            {"GR": {"access": ["carbon-intensity/past-range", "power-breakdown/past"]}}, True, True, id="the past"
        ),
        pytest.param({"GR": {"zoneName": "Greece"}}, True, True, id="nothing is said of access"),
        pytest.param({}, True, False, id="the zone is not listed"),
    ],
)
def test_the_plan_is_what_the_list_of_zones_says(listed: dict[str, Any], past_range: bool, updates: bool) -> None:
    plan = plan_from(listed, ("GR",))
    assert ("GR" in plan.past_range) is past_range
    assert plan.oldest_served("GR", NOW, FIRST) == (FIRST if past_range else CARRIED)
    assert Plan.from_json(plan.as_json()) == plan
    if listed:
        assert ("GR" in plan.updated_since) is updates


# --- gaps -----------------------------------------------------------------------------------------

PAID = {"GR": FIRST, "BG": FIRST}
UNPAID = {"GR": CARRIED, "BG": CARRIED}


NOTHING = gaps.Memory()


def decide(holes: Holes, memory: gaps.Memory = NOTHING, *, now: datetime = NOW, **options: Any) -> gaps.Decision:
    return gaps.decide(now, holes, options.pop("served", PAID), memory, **options)


def test_a_hole_of_any_zone_is_asked_for_in_one_run() -> None:
    decision = decide(Holes({"GR": hours(("05-01T00", "05-01T05")), "BG": hours(("05-01T03", "05-01T08"))}))
    assert decision.fetch == [window("05-01T00", "05-01T08")]
    assert decision.merge == []


def test_holes_a_day_apart_are_one_run_and_farther_ones_are_not() -> None:
    near = hours(("04-01T00", "04-01T02"), ("04-02T01", "04-02T02"))
    assert decide(Holes({"GR": near})).fetch == [window("04-01T00", "04-02T02")]
    far = hours(("04-01T00", "04-01T02"), ("04-07T01", "04-07T02"))
    assert decide(Holes({"GR": far})).fetch == [window("04-01T00", "04-01T02"), window("04-07T01", "04-07T02")]


def test_what_history_carries_and_what_no_run_has_tried_is_left_to_the_next_tick() -> None:
    lacking = hours(("05-02T00", "05-02T04"), ("05-03T20", "05-03T22"))
    decision = decide(Holes({"GR": lacking}, untried=hours(("05-02T00", "05-02T04"))))
    assert decision.fetch == []
    assert decision.sentences == [
        "The next tick asks for [2024-05-02T00:00Z, 2024-05-02T04:00Z), [2024-05-03T20:00Z, 2024-05-03T22:00Z)."
    ]


def test_what_the_plan_does_not_serve_is_told_as_lost_and_never_asked_for() -> None:
    decision = decide(Holes({"GR": hours(("05-01T00", "05-01T07"))}), served=UNPAID)
    assert decision.fetch == decision.merge == []
    assert decision.sentences == [
        "Lost, since the plan serves no past-range: GR [2024-05-01T00:00Z, 2024-05-01T07:00Z). "
        "A plan that has it brings them back."
    ]


def test_what_bronze_has_is_merged_without_a_call() -> None:
    decision = decide(Holes({}, unmerged=hours(("05-01T00", "05-01T07"))), served=UNPAID)
    assert decision.fetch == []
    assert decision.merge == [window("05-01T00", "05-01T07")]


def test_what_is_merged_by_a_run_nearby_needs_no_run_of_its_own() -> None:
    holes = Holes({"GR": hours(("05-01T00", "05-01T01"))}, unmerged=hours(("05-01T05", "05-01T07")))
    decision = decide(holes)
    assert (decision.fetch, decision.merge) == ([window("05-01T00", "05-01T01")], [])


def test_hours_whose_run_failed_wait_until_the_provider_answers_again() -> None:
    holes = Holes({}, failed=hours(("05-04T02", "05-04T05")))
    waiting = decide(holes, well=False)
    assert waiting.fetch == []
    assert waiting.sentences == ["Failed hours wait until a tick succeeds: [2024-05-04T02:00Z, 2024-05-04T05:00Z)."]
    assert decide(holes, well=True).fetch == [window("05-04T02", "05-04T05")]
    assert decide(holes, well=True, served=UNPAID).fetch == [window("05-04T02", "05-04T05")]
    older = Holes({}, failed=hours(("05-02T02", "05-02T05")))
    assert decide(older, well=True, served=UNPAID).fetch == []


def test_hours_near_a_run_that_is_going_on_wait() -> None:
    holes = Holes({"GR": hours(("05-01T00", "05-01T01"), ("03-01T00", "03-01T01"))})
    decision = decide(holes, busy=[window("05-01T01", "05-01T21")])
    assert decision.fetch == [window("03-01T00", "03-01T01")]
    assert decision.sentences == [
        "[2024-05-01T00:00Z, 2024-05-01T01:00Z) wait for a run that is queued or going on nearby."
    ]
    assert decision.memory.fetched.keys() == hours(("03-01T00", "03-01T01"))


def test_a_hole_that_stays_is_asked_for_less_and_less_and_then_told() -> None:
    holes = Holes({"GR": hours(("05-01T00", "05-01T02"))})
    memory, now, asked = gaps.Memory(), NOW, []
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
        "The provider does not have [2024-05-01T00:00Z, 2024-05-01T02:00Z): asked for up to 3 times, "
        "next at 2024-05-04T17:20Z or later." in said
    )


def test_a_hole_that_was_filled_is_forgotten() -> None:
    memory = decide(Holes({"GR": hours(("05-01T00", "05-01T02"))})).memory
    assert decide(Holes({}), memory).memory == gaps.Memory()


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.sampled_from(["GR", "BG"]), some_hours()),
    some_hours(),
    some_hours(),
    st.sampled_from([PAID, UNPAID, {"GR": FIRST, "BG": CARRIED}]),
    st.lists(st.integers(0, 90), max_size=2),
    st.integers(1, 24),
)
def test_whatever_is_missing_looks_end_and_each_asks_within_bounds_only_for_what_can_be_had(
    lacking: dict[str, set[datetime]],
    unmerged: set[datetime],
    failed: set[datetime],
    served: dict[str, datetime],
    busy_days: list[int],
    step: int,
) -> None:
    busy = [Window(utc(2024, 5, 4) - days * 24 * HOUR, utc(2024, 5, 4, 5) - days * 24 * HOUR) for days in busy_days]
    memory, now = gaps.Memory(), NOW
    asked: dict[datetime, list[datetime]] = {}
    for _ in range(12):
        decision = decide(Holes(lacking, unmerged, failed), memory, now=now, served=served, busy=busy)
        chosen = [*decision.fetch, *decision.merge]
        assert len(decision.fetch) <= 4
        assert sum((one.end - one.start) // HOUR for one in decision.fetch) <= 31 * 24
        assert not any(touches(one, other) for one in chosen for other in busy)
        assert not any(touches(one, other) for n, one in enumerate(chosen) for other in chosen[:n])
        wanted = set().union(failed, *lacking.values())
        for one in decision.fetch:
            assert one.start in wanted
            assert one.start >= min(served.values())
            for hour in one.hours():
                asked.setdefault(hour, []).append(now)
        # A cursor comes back as it was, and stays small.
        memory = gaps.Memory.loads(decision.memory.dumps())
        assert memory == decision.memory
        assert len(decision.memory.dumps()) < 100_000
        now += step * HOUR
    # Bridged hours may be asked for with their neighbours; none is asked for at every look.
    assert all(len(moments) <= 9 for moments in asked.values()) or step > 1


@settings(deadline=None, max_examples=50)
@given(some_hours(30).filter(bool))
def test_holes_that_can_be_filled_are_all_asked_for_within_a_few_looks(lacking: set[datetime]) -> None:
    memory, left = gaps.Memory(), {hour for hour in lacking if hour < CARRIED}
    for look in range(60):
        decision = decide(Holes({"GR": left}), memory, now=NOW + look * timedelta(minutes=30))
        left = left - {hour for one in decision.fetch for hour in one.hours()}
        memory = decision.memory
        if not left:
            return
    pytest.fail(f"never asked for: {sorted(left)}")


@pytest.mark.parametrize("text", [None, "", "{", '{"v": 99, "fetched": [], "merged": []}', '{"v": 1}', "[]", "17"])
def test_a_cursor_of_another_release_begins_afresh(text: str | None) -> None:
    assert gaps.Memory.loads(text) == gaps.Memory()
    assert revisions.Memory.loads(text) == revisions.Memory()


# --- revisions ------------------------------------------------------------------------------------


def unread(updates: dict[str, str], reads: Iterable[str] = ()) -> tuple[set[datetime], dict[datetime, datetime]]:
    def at(text: str) -> datetime:
        return datetime.fromisoformat(f"2024-{text}:00+00:00")

    return revisions.unread(NOW, {at(hour): at(moment) for hour, moment in updates.items()}, [at(r) for r in reads])


def test_an_old_hour_that_was_updated_is_read_again() -> None:
    assert unread({"05-01T06:00": "05-04T09:48"}) == ({utc(2024, 5, 1, 6)}, {})


def test_an_hour_that_history_carries_is_left_to_the_ticks_and_remembered() -> None:
    at = utc(2024, 5, 4, 9) + timedelta(minutes=48)
    assert unread({"05-03T12:00": "05-04T09:48"}) == (set(), {utc(2024, 5, 3, 12): at})


def test_an_hour_that_left_history_is_read_again_unless_a_tick_has_seen_its_update() -> None:
    update = {"05-03T10:00": "05-04T08:48"}
    assert unread(update, reads=["05-04T09:07"]) == (set(), {})
    # This one began before the update, that one after the hour had left.
    assert unread(update, reads=["05-04T08:07"])[0] == {utc(2024, 5, 3, 10)}
    assert unread(update, reads=["05-04T10:07"])[0] == {utc(2024, 5, 3, 10)}


def test_changed_hours_are_few_ranges_and_none_near_a_run_that_is_going_on() -> None:
    changed = hours(("05-02T00", "05-02T03"), ("05-02T10", "05-02T11"), ("04-03T00", "04-03T20"))
    assert revisions.requests(changed, [], FIRST) == (
        [window("04-03T00", "04-03T20"), window("05-02T00", "05-02T11")],
        (),
    )
    assert revisions.requests(changed, [window("05-02T05", "05-02T06")], FIRST) == (
        [window("04-03T00", "04-03T20")],
        (window("05-02T00", "05-02T11"),),
    )
    assert revisions.requests(changed, [], FIRST, well=False)[0] == []
    assert revisions.requests(changed, [], utc(2024, 5, 1))[0] == [window("05-02T00", "05-02T11")]


@settings(deadline=None, max_examples=50)
@given(some_hours(), some_hours())
def test_every_changed_hour_is_asked_for_or_waits(changed: set[datetime], busy: set[datetime]) -> None:
    now, later = revisions.requests(changed, fewest(busy), FIRST)
    wanted = {hour for hour in changed if hour >= FIRST}
    assert wanted <= {hour for one in (*now, *later) for hour in one.hours()}
    assert len(now) <= 8


def test_without_a_list_of_updates_four_windows_are_read_again_once_a_day() -> None:
    found = list(revisions.rereads(NOW, ["GR"], {}, FIRST))
    assert found == [
        ("GR D-1", "GR", window("05-02T00", "05-03T11")),
        ("GR D-7", "GR", window("04-26T00", "04-28T00")),
        ("GR D-30", "GR", window("04-03T00", "04-05T00")),
        ("GR D-90", "GR", window("02-03T00", "02-05T00")),
    ]
    done = {name: date(2024, 5, 4) for name, _, _ in found}
    assert list(revisions.rereads(NOW, ["GR"], done, FIRST)) == []
    assert len(list(revisions.rereads(NOW + 24 * HOUR, ["GR"], done, FIRST))) == 4
    assert [name for name, _, _ in revisions.rereads(NOW, ["GR"], {}, utc(2024, 4, 20))] == ["GR D-1", "GR D-7"]


def test_a_memory_of_revisions_survives_a_restart() -> None:
    memory = revisions.Memory(
        {"GR": NOW}, {"GR": {CARRIED: NOW}}, (window("05-01T00", "05-01T03"),), {"GR D-7": date(2024, 5, 4)}
    )
    assert revisions.Memory.loads(memory.dumps()) == memory


# --- causes ---------------------------------------------------------------------------------------

UNAVAILABLE = (
    "bronze.power_data [2024-05-04T09:00Z, 2024-05-04T10:00Z): 1 of 2 requests failed (1 ProviderUnavailableError). "
    "What was good is stored.\n- ProviderUnavailableError: power-breakdown/history of zone {zone}, the last 24 hours: "
    "{why} after 6 tries. Look at the provider's status page."
)
NO_ROWS = (
    "bronze.power_data [2024-04-01T00:00Z, 2024-04-01T01:00Z): 1 of 2 requests failed (1 RejectedBodyError).\n"
    "- RejectedBodyError: power-breakdown/past-range of zone GR (/v3/x): the API answered 200, but it has no rows"
)


def run(
    number: int, *messages: str, kind: str = "FetchError", step: str = "bronze__power_data", of: Window | None = None
) -> Outcome:
    """The run of an hour: failed with these messages, or good without any."""
    ended = utc(2024, 5, 4) + number * HOUR
    of = of or Window(ended - HOUR, ended)
    causes = tuple(cause for message in messages for cause in causes_of(step, kind, message, of))
    return Outcome(f"run{number}", "hourly", not messages, ended, of, fetched=True, causes=causes)


def told(*outcomes: Outcome) -> list[str]:
    """What is told of runs that are looked at one by one, with the memory through its JSON each time."""
    memory, said = Memory(), []
    for outcome in outcomes:
        news, memory = digest([outcome], memory)
        memory = Memory.unpacked(memory.packed())
        for item in news:
            if isinstance(item, Alert):
                said.append(f"{item.outcome.run_id} failed: {', '.join(cause.key for cause in item.causes)}")
            else:
                said.append(f"{item.outcome.run_id} healed after {', '.join(str(cause.runs) for cause in item.causes)}")
    return said


def test_an_outage_of_many_runs_is_told_once_and_once_more_when_it_is_over() -> None:
    down = [UNAVAILABLE.format(zone="GR", why=why) for why in ("HTTP 503 (x)", "no answer (Timeout)", "HTTP 502 (y)")]
    assert told(run(1), *(run(n, down[n % 3]) for n in range(2, 32)), run(32), run(33)) == [
        "run2 failed: ProviderUnavailableError GR",
        "run32 healed after 30",
    ]


def test_another_cause_or_another_zone_is_told_of_its_own() -> None:
    token = "x\n- InvalidTokenError: power-breakdown/history of zone GR, the last 24 hours: the token is wrong"
    assert told(
        run(1, UNAVAILABLE.format(zone="GR", why="HTTP 503")),
        run(2, UNAVAILABLE.format(zone="GR", why="HTTP 503"), UNAVAILABLE.format(zone="BG", why="HTTP 503")),
        run(3, token),
    ) == [
        "run1 failed: ProviderUnavailableError GR",
        "run2 failed: ProviderUnavailableError BG",
        "run3 failed: InvalidTokenError GR",
    ]


def test_both_feeds_of_one_outage_are_one_cause() -> None:
    both = [UNAVAILABLE.format(zone="GR", why="503"), UNAVAILABLE.format(zone="GR", why="503").replace("power", "x")]
    assert told(run(1, *both)) == ["run1 failed: ProviderUnavailableError GR"]


def test_a_cause_that_comes_back_after_it_was_over_is_told_again() -> None:
    down = UNAVAILABLE.format(zone="GR", why="HTTP 503")
    assert told(run(1, down), run(2), run(3, down)) == [
        "run1 failed: ProviderUnavailableError GR",
        "run2 healed after 1",
        "run3 failed: ProviderUnavailableError GR",
    ]


def test_hours_that_the_provider_lacks_are_told_once_though_ticks_succeed_in_between() -> None:
    hole = window("04-01T00", "04-01T01")
    key = f"RejectedBodyError GR power-breakdown {hole}"
    tried = [run(n, NO_ROWS, of=hole) for n in (1, 3, 7, 15)]
    assert told(tried[0], run(2), tried[1], run(4), tried[2], run(8), tried[3], run(20, of=hole)) == [
        f"run1 failed: {key}",
        "run20 healed after 4",
    ]


def test_older_hours_of_a_zone_that_fails_as_a_whole_are_no_news() -> None:
    hole = window("04-01T00", "04-01T01")
    down = UNAVAILABLE.format(zone="GR", why="HTTP 503")
    assert told(run(1, down), run(2, NO_ROWS, of=hole), run(3), run(4, NO_ROWS, of=hole)) == [
        "run1 failed: ProviderUnavailableError GR",
        "run3 healed after 1",
        f"run4 failed: RejectedBodyError GR power-breakdown {hole}",
    ]


def test_a_run_that_asks_nobody_heals_no_outage() -> None:
    down = run(1, UNAVAILABLE.format(zone="GR", why="HTTP 503"))
    merged = Outcome("merge", "hourly", True, utc(2024, 5, 4, 2), down.hours, fetched=False)
    assert told(down, merged, run(3)) == ["run1 failed: ProviderUnavailableError GR", "run3 healed after 1"]


def test_other_errors_are_the_same_cause_whatever_numbers_and_times_they_name() -> None:
    messages = [f"gold {hour}: {hour} other writers won 30 times (0x{hour}f)" for hour in range(2, 5)]
    outcomes = [run(n, m, kind="WriteConflictError", step="gold") for n, m in enumerate(messages, 1)]
    assert len(told(*outcomes)) == 1
    assert len(told(*outcomes, run(9, "gold: disk full", kind="OSError", step="gold"))) == 2


def test_an_error_of_hours_heals_when_these_hours_succeed() -> None:
    failed = run(1, "a check failed", kind="Failure", step="check_gold")
    assert told(failed, run(2), run(3, of=failed.hours)) == [
        "run1 failed: check_gold Failure a check failed",
        "run3 healed after 1",
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["GR", "BG", ""]), st.booleans()), max_size=40))
def test_alerts_and_healings_of_a_cause_alternate(happened: list[tuple[str, bool]]) -> None:
    memory = Memory()
    open_keys: set[str] = set()
    for number, (zone, _) in enumerate(happened):
        messages = [UNAVAILABLE.format(zone=zone, why="HTTP 503")] if zone else []
        news, memory = digest([run(number, *messages)], memory)
        for item in news:
            if isinstance(item, Alert):
                assert not open_keys & {cause.key for cause in item.causes}
                open_keys |= {cause.key for cause in item.causes}
            else:
                assert isinstance(item, Healed)
                open_keys -= {f"ProviderUnavailableError {cause.zones[0]}" for cause in item.causes}
        assert open_keys == set(memory.open)


def test_a_message_says_what_a_person_needs() -> None:
    outcome = run(10, UNAVAILABLE.format(zone="GR", why="HTTP 503 (Service unavailable)"))
    (alert,), memory = digest([outcome], Memory())
    assert text_of(alert, "http://127.0.0.1:3000") == (
        "emaps_dagster: hourly failed for GR",
        "The run of job hourly failed.\n"
        "Zones: GR\n"
        "Hours: [2024-05-04T09:00Z, 2024-05-04T10:00Z)\n"
        "- power-breakdown/history of zone GR, the last 24 hours: HTTP 503 (Service unavailable) after 6 tries. "
        "Look at the provider's status page.\n"
        "Run: http://127.0.0.1:3000/runs/run10\n"
        "You are told once: again when the cause changes, and when it is over.",
    )
    (healed,), _ = digest([run(11)], memory)
    subject, text = text_of(healed, "https://dagster.example.org")
    assert subject == "emaps_dagster: hourly works again for GR"
    assert text.startswith("Over, after 1 run from 2024-05-04T10:00Z to 2024-05-04T10:00Z: power-breakdown/history of")
    assert text.endswith("\nRun: https://dagster.example.org/runs/run11")


def test_a_secret_that_somebody_repeats_is_not_passed_on() -> None:
    assert without_secrets("they said s3cret, s3cret", ["s3cret", ""]) == "they said [secret], [secret]"


def test_the_try_that_follows_is_later_each_time_and_at_most_a_week_away() -> None:
    pauses = [Tries(count, NOW).next_at - NOW for count in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[0] == HOUR
    assert pauses[-1] == timedelta(days=7)


def test_the_oldest_hour_of_history_is_23_hours_before_the_running_one() -> None:
    assert oldest_carried(NOW) == CARRIED
