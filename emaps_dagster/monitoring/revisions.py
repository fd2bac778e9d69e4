"""Revision decisions: the past hours that the provider changed after we read them, and the ranges to read again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import FEEDS, Feed
from emaps_dagster.monitoring.hour_ranges import BRIDGE, oldest_history_hour, to_windows, without

_VERSION = 1
# Hours were seen to change ten months later; older hours are read again by a backfill only.
WATCHED = timedelta(days=400)
# The provider's clock and ours differ by minutes; an update that is listed twice is requested once.
OVERLAP = timedelta(minutes=10)
_MOST_RUNS = 8
# The provider itself refetches 48-hour windows so many days back, daily.
REREAD_DAYS = (1, 7, 30, 90)
# The most updates that one answer lists: a window of fewer hours is never truncated.
LONGEST_LIST = 1000
# After a refusal the list is requested once a day; after an outage this long the windows are read as well.
PATIENCE = timedelta(days=1)
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Scan:
    """A list of updates that is being read, over several evaluations if need be.

    Attributes:
        since: updates after this moment are requested.
        begun: time of the first request: once all windows are answered, updates up to it are known.
        asked: the last evaluation that worked on it.
        left: the windows that are not answered yet.
    """

    since: datetime
    begun: datetime
    asked: datetime
    left: tuple[Window, ...]


@dataclass(frozen=True)
class Trouble:
    """A zone whose list of updates is not available: since when, time of the last request, and the last reason.

    `refused`: the same request would be refused again, as by a 404; otherwise it may be an outage.
    """

    first: datetime
    asked: datetime
    why: str
    refused: bool

    def asks_again(self, now: datetime) -> bool:
        return not self.refused or now - self.asked >= PATIENCE

    def needs_windows(self, now: datetime) -> bool:
        """Whether the daily windows of the zone are read instead."""
        return self.refused or now - self.first >= PATIENCE

    def sentence(self, zone: str, now: datetime) -> str:
        if not self.needs_windows(now):
            return f"The list of updates of {zone} is requested again at the next evaluation. {self.why}."
        again = f"after {self.asked + PATIENCE:%Y-%m-%dT%H:%MZ}" if self.refused else "at the next evaluation"
        return (
            f"The provider gives no list of updates of {zone} since {self.first:%Y-%m-%dT%H:%MZ}, though the plan has "
            f"it: 48 hours of {', '.join(map(str, REREAD_DAYS))} days ago are read again daily instead, older "
            f"revisions are not seen. The list is requested again {again}. {self.why}."
        )


@dataclass(frozen=True)
class RevisionsCursor:
    """Cursor of the sensor `revisions`.

    Attributes:
        since: by zone, the moment up to which the provider's updates are known.
        fresh: by zone, hours that /history still held when they were updated, and the time of the update.
        due: changed hours that no run was requested for yet.
        reread: the last day on which each window was read again, for zones without a list of updates.
        scans: by zone, the list of updates that an earlier evaluation had no time to finish.
        troubles: by zone, the reason why its list of updates is not available.
    """

    since: Mapping[str, datetime] = field(default_factory=dict)
    fresh: Mapping[str, Mapping[datetime, datetime]] = field(default_factory=dict)
    due: tuple[Window, ...] = ()
    reread: Mapping[str, date] = field(default_factory=dict)
    scans: Mapping[str, Scan] = field(default_factory=dict)
    troubles: Mapping[str, Trouble] = field(default_factory=dict)

    def dumps(self) -> str:
        return json.dumps(
            {
                "v": _VERSION,
                "since": {zone: at.isoformat() for zone, at in self.since.items()},
                "fresh": {
                    zone: {hour.isoformat(): at.isoformat() for hour, at in hours.items()}
                    for zone, hours in self.fresh.items()
                },
                "due": _packed(self.due),
                "reread": {name: day.isoformat() for name, day in self.reread.items()},
                "scans": {
                    zone: [*(at.isoformat() for at in (scan.since, scan.begun, scan.asked)), _packed(scan.left)]
                    for zone, scan in self.scans.items()
                },
                "troubles": {
                    zone: [each.first.isoformat(), each.asked.isoformat(), each.why, each.refused]
                    for zone, each in self.troubles.items()
                },
            }
        )

    @classmethod
    def loads(cls, text: str | None) -> RevisionsCursor:
        """Parse the cursor of an earlier evaluation; empty if another release wrote it."""
        at = datetime.fromisoformat
        try:
            value = json.loads(text or "{}")
            if value["v"] != _VERSION:
                return cls()
            return cls(
                {zone: at(moment) for zone, moment in value["since"].items()},
                {zone: {at(h): at(m) for h, m in hours.items()} for zone, hours in value["fresh"].items()},
                _unpacked(value["due"]),
                {name: date.fromisoformat(day) for name, day in value["reread"].items()},
                # The release before wrote neither scans nor troubles; its cursors stay valid.
                {
                    zone: Scan(at(since), at(begun), at(asked), _unpacked(left))
                    for zone, (since, begun, asked, left) in value.get("scans", {}).items()
                },
                {
                    zone: Trouble(at(first), at(asked), why, refused)
                    for zone, (first, asked, why, refused) in value.get("troubles", {}).items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()


def trouble(before: Trouble | None, now: datetime, error: str, *, refused: bool) -> Trouble:
    """Record a failed request; of the sentence `error` the cause is kept."""
    cause = error.split(". ", maxsplit=1)[0].rstrip(".")[:_LONGEST_REASON]
    return Trouble(before.first if before else now, now, cause, refused)


def unread(
    now: datetime, updates: Mapping[datetime, datetime], reads: Iterable[datetime]
) -> tuple[set[datetime], dict[datetime, datetime]]:
    """Split the updated hours of a zone into those to read again and those that a later tick may still fetch.

    Args:
        now: the present.
        updates: hours and the time at which the provider updated them.
        reads: start times of the successful runs that read /history.
    """
    moments = list(reads)
    changed, fresh = set(), {}
    for hour, at in updates.items():
        if any(at <= read and hour >= oldest_history_hour(read) for read in moments):
            continue
        if hour < oldest_history_hour(now):
            changed.add(hour)
        else:
            fresh[hour] = at
    return changed, fresh


def requests(
    hours: Iterable[datetime], active_windows: Iterable[Window], oldest_available: datetime, *, provider_ok: bool = True
) -> tuple[list[Window], tuple[Window, ...]]:
    """The fewest ranges that hold the hours, and the ranges that wait.

    Args:
        hours: the changed hours.
        active_windows: hours of runs that are queued or running; changed hours inside them wait. Hours that only adjoin
            them do not wait: that run does not fetch them.
        oldest_available: the oldest hour that can be requested.
        provider_ok: whether the last tick succeeded; until then all wait, as their runs would fail as well.
    """
    due = {hour for hour in hours if hour >= oldest_available}
    active = list(active_windows)
    free = {hour for hour in due if not any(hour in other for other in active)} if provider_ok else set[datetime]()
    bridged = to_windows(free, bridge=BRIDGE, most=_MOST_RUNS)
    parts = [part for window in bridged for part in without(window, active) if not free.isdisjoint(part.hours())]
    now = parts[:_MOST_RUNS]
    asked = {hour for window in now for hour in window.hours()}
    return now, tuple(to_windows(due - asked))


def rereads(
    now: datetime, zones: Iterable[str], done: Mapping[str, date], first: datetime
) -> Iterator[tuple[str, str, Feed, Window]]:
    """Name, zone, feed and hours of each daily window that was not read again yet today."""
    today = floor_hour(now).replace(hour=0)
    for zone in zones:
        for days in REREAD_DAYS:
            day = today - timedelta(days=days)
            start, end = max(first, day - timedelta(days=1)), min(day + timedelta(days=1), oldest_history_hour(now))
            for feed in FEEDS:
                name = f"{zone} D-{days} {feed.name}"
                if done.get(name) != today.date() and start < end:
                    yield name, zone, feed, Window(start, end)


def pieces(window: Window) -> tuple[Window, ...]:
    """Cut a window whose list was truncated into smaller ones; none for a single hour."""
    hours = (window.end - window.start) // HOUR
    if hours < 2:
        return ()
    # So many hours fit into one list, unless the provider's limit is lower than documented.
    most = LONGEST_LIST - 1 if hours >= LONGEST_LIST else -(-hours // 2)
    starts = [window.start + n * HOUR for n in range(0, hours, most)]
    return tuple(Window(start, min(start + most * HOUR, window.end)) for start in starts)


def _packed(windows: Iterable[Window]) -> list[list[str]]:
    return [[window.start.isoformat(), window.end.isoformat()] for window in windows]


def _unpacked(packed: Iterable[Iterable[str]]) -> tuple[Window, ...]:
    return tuple(Window(*map(datetime.fromisoformat, bounds)) for bounds in packed)
