"""Which hours are read again because the provider changed them, or may have."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from hypothesis import given, settings

from emaps_dagster.upkeep import revisions
from emaps_dagster.upkeep.ranges import fewest
from emaps_dagster.windows import HOUR
from emaps_dagster_tests.making import utc
from emaps_dagster_tests.upkeep_hours import CARRIED, FIRST, NOW, hours, some_hours, window


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
    for busy in (window("05-02T05", "05-02T06"), window("05-02T03", "05-02T10")):
        assert revisions.requests(changed, [busy], FIRST) == (
            [
                window("04-03T00", "04-03T20"),
                window("05-02T00", f"{busy.start:%m-%dT%H}"),
                window(f"{busy.end:%m-%dT%H}", "05-02T11"),
            ],
            (),
        )
    assert revisions.requests(changed, [window("05-02T01", "05-03T00")], FIRST) == (
        [window("04-03T00", "04-03T20"), window("05-02T00", "05-02T01")],
        (window("05-02T01", "05-02T03"), window("05-02T10", "05-02T11")),
    )
    assert revisions.requests(changed, [], FIRST, well=False)[0] == []
    assert revisions.requests(changed, [], utc(2024, 5, 1))[0] == [window("05-02T00", "05-02T11")]


@settings(deadline=None, max_examples=50)
@given(some_hours(), some_hours())
def test_every_changed_hour_is_asked_for_or_waits(changed: set[datetime], busy: set[datetime]) -> None:
    going_on = fewest(busy)
    now, later = revisions.requests(changed, going_on, FIRST)
    wanted = {hour for hour in changed if hour >= FIRST}
    asked, waiting = ({hour for one in ranges for hour in one.hours()} for ranges in (now, later))
    assert wanted <= asked | waiting
    assert waiting <= wanted
    assert asked.isdisjoint(busy)
    # Only what a run holds waits, unless there would be too many runs.
    assert waiting <= busy or len(now) == 8
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
