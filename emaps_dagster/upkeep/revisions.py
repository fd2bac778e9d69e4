"""Which past hours the provider has changed since they were read, so that only these are read again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from emaps_dagster.upkeep.ranges import BRIDGE, fewest, oldest_carried, without
from emaps_dagster.windows import HOUR, Window, floor_hour

_VERSION = 1
# Hours were seen to change ten months later; farther back only a backfill looks.
WATCHED = timedelta(days=400)
# Passes and our clocks differ by minutes: what is told twice is asked for once.
OVERLAP = timedelta(minutes=10)
_MOST_RUNS = 8
# The provider itself goes over 48-hour windows so many days back, daily.
REREAD_DAYS = (1, 7, 30, 90)


@dataclass(frozen=True)
class Memory:
    """What an earlier look remembered.

    Attributes:
        since: by zone, until when the provider's updates are known.
        fresh: by zone, hours that /history still carried when they were updated, and when that was.
        due: hours that changed and that no run was asked for yet.
        reread: the last day on which each window was read again, for plans without a list of updates.
    """

    since: Mapping[str, datetime] = field(default_factory=dict)
    fresh: Mapping[str, Mapping[datetime, datetime]] = field(default_factory=dict)
    due: tuple[Window, ...] = ()
    reread: Mapping[str, date] = field(default_factory=dict)

    def dumps(self) -> str:
        return json.dumps(
            {
                "v": _VERSION,
                "since": {zone: at.isoformat() for zone, at in self.since.items()},
                "fresh": {
                    zone: {hour.isoformat(): at.isoformat() for hour, at in hours.items()}
                    for zone, hours in self.fresh.items()
                },
                "due": [[window.start.isoformat(), window.end.isoformat()] for window in self.due],
                "reread": {name: day.isoformat() for name, day in self.reread.items()},
            }
        )

    @classmethod
    def loads(cls, text: str | None) -> Memory:
        """What an earlier look remembered; nothing if another release wrote it."""
        at = datetime.fromisoformat
        try:
            value = json.loads(text or "{}")
            if value["v"] != _VERSION:
                return cls()
            return cls(
                {zone: at(moment) for zone, moment in value["since"].items()},
                {zone: {at(h): at(m) for h, m in hours.items()} for zone, hours in value["fresh"].items()},
                tuple(Window(at(start), at(end)) for start, end in value["due"]),
                {name: date.fromisoformat(day) for name, day in value["reread"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()


def unread(
    now: datetime, updates: Mapping[datetime, datetime], reads: Iterable[datetime]
) -> tuple[set[datetime], dict[datetime, datetime]]:
    """Of the updated hours of a zone: those to read again, and those that a tick may still bring.

    Args:
        now: the present.
        updates: hours and when the provider updated them.
        reads: when runs began that read /history and succeeded.
    """
    moments = list(reads)
    changed, fresh = set(), {}
    for hour, at in updates.items():
        if any(at <= read and hour >= oldest_carried(read) for read in moments):
            continue
        if hour < oldest_carried(now):
            changed.add(hour)
        else:
            fresh[hour] = at
    return changed, fresh


def requests(
    hours: Iterable[datetime], busy: Iterable[Window], served: datetime, *, well: bool = True
) -> tuple[list[Window], tuple[Window, ...]]:
    """The fewest ranges that hold the hours, and those that wait for the run that holds them.

    Args:
        hours: that changed.
        busy: hours of runs that are queued or going on. What only adjoins them does not wait: the run that ends
            next to it will not bring it.
        served: the oldest hour that may be asked for.
        well: whether the last tick succeeded; while it did not, all wait, as their runs would fail as well.
    """
    due = {hour for hour in hours if hour >= served}
    going_on = list(busy)
    free = {hour for hour in due if not any(hour in other for other in going_on)} if well else set[datetime]()
    bridged = fewest(free, bridge=BRIDGE, most=_MOST_RUNS)
    parts = [part for window in bridged for part in without(window, going_on) if not free.isdisjoint(part.hours())]
    now = parts[:_MOST_RUNS]
    asked = {hour for window in now for hour in window.hours()}
    return now, tuple(fewest(due - asked))


def rereads(
    now: datetime, zones: Iterable[str], done: Mapping[str, date], first: datetime
) -> Iterator[tuple[str, str, Window]]:
    """Name, zone and hours of each window that was not read again yet today."""
    today = floor_hour(now).replace(hour=0)
    for zone in zones:
        for days in REREAD_DAYS:
            name = f"{zone} D-{days}"
            day = today - timedelta(days=days)
            start, end = max(first, day - timedelta(days=1)), min(day + timedelta(days=1), oldest_carried(now))
            if done.get(name) != today.date() and start < end:
                yield name, zone, Window(start, end)


def halves(window: Window) -> tuple[Window, Window] | None:
    """Two windows in which fewer updates can lie; None for one that cannot be cut."""
    hours = (window.end - window.start) // HOUR
    if hours < 2:
        return None
    middle = window.start + hours // 2 * HOUR
    return Window(window.start, middle), Window(middle, window.end)
