"""Which hours are read again because the provider changed them, or may have."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from hypothesis import given, settings

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.contracts.zones import CARBON, POWER
from emaps_dagster.monitoring import revisions
from emaps_dagster.monitoring.hour_ranges import to_windows
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.upkeep_hours import CARRIED, FIRST, NOW, hours, some_hours, window


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


def test_changed_hours_are_few_ranges_and_none_of_a_run_that_is_going_on() -> None:
    changed = hours(("05-02T00", "05-02T03"), ("05-02T10", "05-02T11"), ("04-03T00", "04-03T20"))
    assert revisions.requests(changed, [], FIRST) == (
        [window("04-03T00", "04-03T20"), window("05-02T00", "05-02T11")],
        (),
    )
    # A run between them holds none of them, and one that adjoins them brings none of them.
    for active_windows in (window("05-02T05", "05-02T06"), window("05-02T03", "05-02T10")):
        assert revisions.requests(changed, [active_windows], FIRST) == (
            [
                window("04-03T00", "04-03T20"),
                window("05-02T00", f"{active_windows.start:%m-%dT%H}"),
                window(f"{active_windows.end:%m-%dT%H}", "05-02T11"),
            ],
            (),
        )
    assert revisions.requests(changed, [window("05-02T01", "05-03T00")], FIRST) == (
        [window("04-03T00", "04-03T20"), window("05-02T00", "05-02T01")],
        (window("05-02T01", "05-02T03"), window("05-02T10", "05-02T11")),
    )
    assert revisions.requests(changed, [], FIRST, provider_ok=False)[0] == []
    assert revisions.requests(changed, [], utc(2024, 5, 1))[0] == [window("05-02T00", "05-02T11")]


@settings(deadline=None, max_examples=50)
@given(some_hours(), some_hours())
def test_every_changed_hour_is_requested_or_waits(changed: set[datetime], active_windows: set[datetime]) -> None:
    active_runs = to_windows(active_windows)
    now, later = revisions.requests(changed, active_runs, FIRST)
    wanted = {hour for hour in changed if hour >= FIRST}
    asked, waiting = ({hour for one in ranges for hour in one.hours()} for ranges in (now, later))
    assert wanted <= asked | waiting
    assert waiting <= wanted
    assert asked.isdisjoint(active_windows)
    # Only what a run holds waits, unless there would be too many runs.
    assert waiting <= active_windows or len(now) == 8
    assert len(now) <= 8


def test_without_a_list_of_updates_four_windows_are_read_again_once_a_day() -> None:
    found = list(revisions.rereads(NOW, ["GR"], {}, FIRST))
    assert found == [
        (f"GR D-{days} {feed.name}", "GR", feed, hours_of_window)
        for days, hours_of_window in (
            (1, window("05-02T00", "05-03T11")),
            (7, window("04-26T00", "04-28T00")),
            (30, window("04-03T00", "04-05T00")),
            (90, window("02-03T00", "02-05T00")),
        )
        for feed in (POWER, CARBON)
    ]
    done = {name: date(2024, 5, 4) for name, *_ in found}
    assert list(revisions.rereads(NOW, ["GR"], done, FIRST)) == []
    del done["GR D-7 carbon"]
    assert [name for name, *_ in revisions.rereads(NOW, ["GR"], done, FIRST)] == ["GR D-7 carbon"]
    assert len(list(revisions.rereads(NOW + 24 * HOUR, ["GR"], done, FIRST))) == 8
    assert [name for name, *_ in revisions.rereads(NOW, ["GR"], {}, utc(2024, 4, 20))] == [
        f"GR D-{days} {feed.name}" for days in (1, 7) for feed in (POWER, CARBON)
    ]


def test_a_list_that_was_too_long_is_cut_into_the_fewest_that_are_surely_short_enough() -> None:
    assert revisions.pieces(window("03-01T00", "05-02T00")) == (
        window("03-01T00", "04-11T15"),
        window("04-11T15", "05-02T00"),
    )
    assert revisions.pieces(window("05-01T00", "05-01T05")) == (
        window("05-01T00", "05-01T03"),
        window("05-01T03", "05-01T05"),
    )
    assert revisions.pieces(window("05-01T00", "05-01T01")) == ()


def test_a_refused_list_is_requested_daily_and_an_outage_at_each_evaluation_until_a_day_has_passed() -> None:
    said = "updated-since of zone GR, [a, b): the provider has no data (HTTP 404: Not found). Check the zone key."
    refused = revisions.trouble(None, NOW, said, refused=True)
    assert refused.why == "updated-since of zone GR, [a, b): the provider has no data (HTTP 404: Not found)"
    assert [refused.asks_again(NOW + hours * HOUR) for hours in (0, 23, 24)] == [False, False, True]
    assert refused.needs_windows(NOW)
    down = revisions.trouble(None, NOW, "HTTP 503 after 1 try. Look.", refused=False)
    assert down.asks_again(NOW)
    later = revisions.trouble(down, NOW + 23 * HOUR, "HTTP 503 after 1 try. Look.", refused=False)
    assert [later.needs_windows(NOW + hours * HOUR) for hours in (0, 23, 24)] == [False, False, True]


def test_a_memory_of_revisions_survives_a_restart() -> None:
    memory = revisions.RevisionsCursor(
        {"GR": NOW},
        {"GR": {CARRIED: NOW}},
        (window("05-01T00", "05-01T03"),),
        {"GR D-7 power": date(2024, 5, 4)},
        {"GR": revisions.Scan(NOW - HOUR, NOW, NOW, (window("05-01T00", "05-01T03"),))},
        {"BG": revisions.trouble(None, NOW, "HTTP 404. Look.", refused=True)},
    )
    assert revisions.RevisionsCursor.loads(memory.dumps()) == memory


def test_a_memory_of_the_release_before_is_read() -> None:
    text = '{"v": 1, "since": {"GR": "2024-05-04T10:20:00+00:00"}, "fresh": {}, "due": [], "reread": {}}'
    assert revisions.RevisionsCursor.loads(text) == revisions.RevisionsCursor({"GR": NOW})
