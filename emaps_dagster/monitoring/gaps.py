"""Gap decisions: the missing hours to request now, to back off from, and to report as lost.

An hour that the provider does not deliver is requested after 1, 2, 4 ... hours, and finally once a week.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from emaps_dagster.contracts.windows import HOUR, LATE_DATA_MARGIN, Window
from emaps_dagster.monitoring.hour_ranges import (
    BRIDGE,
    format_by_zone,
    format_windows,
    oldest_history_hour,
    overlaps_or_adjoins,
    to_windows,
)

_VERSION = 1
_FIRST_PAUSE = timedelta(hours=1)
_LONGEST_PAUSE = timedelta(days=7)
# After so many tries an hour is reported as one that the provider does not have.
_TRIES_UNTIL_REPORTED = 3
# Bounds of one evaluation: the rest is requested at the next.
_MOST_RUNS = 4
_MOST_HOURS = 31 * 24
# Hours farther back are not watched: the provider's own refetches end there.
WATCHED = timedelta(days=92)


@dataclass(frozen=True)
class Tries:
    """The requests for an hour that brought nothing: how many, and when the last one was made."""

    count: int
    asked_at: datetime

    @property
    def next_at(self) -> datetime:
        # Beyond ten doublings the pause is the longest anyway.
        return self.asked_at + min(_FIRST_PAUSE * (1 << min(self.count - 1, 10)), _LONGEST_PAUSE)


@dataclass(frozen=True)
class GapsCursor:
    """Cursor of the sensor `gaps`: tries without success by hour, `fetched` from the provider, `merged` from bronze."""

    fetched: Mapping[datetime, Tries] = field(default_factory=dict)
    merged: Mapping[datetime, Tries] = field(default_factory=dict)

    def dumps(self) -> str:
        return json.dumps({"v": _VERSION, "fetched": _pack(self.fetched), "merged": _pack(self.merged)})

    @classmethod
    def loads(cls, text: str | None) -> GapsCursor:
        """Parse the cursor of an earlier evaluation; empty if another release wrote it."""
        try:
            value = json.loads(text or "{}")
            return cls(_unpack(value["fetched"]), _unpack(value["merged"])) if value["v"] == _VERSION else cls()
        except (ValueError, KeyError, TypeError):
            return cls()


@dataclass(frozen=True)
class IncompleteHours:
    """The missing hours of the watched window.

    Attributes:
        not_fetched: by zone, the hours for which silver lacks a feed, and no response in bronze holds it.
        not_merged: hours that bronze holds and silver does not, or silver holds and gold does not.
        silent: by zone, the hours for which a feed delivered nulls only; they are requested again like missing hours.
        failed: hours whose last run failed.
        untried: hours that the next tick catches up, since no run has tried them yet.
        quarantined: by zone, those of `not_fetched` whose record arrived and was quarantined.
    """

    not_fetched: Mapping[str, Set[datetime]]
    not_merged: Set[datetime] = frozenset()
    failed: Set[datetime] = frozenset()
    untried: Set[datetime] = frozenset()
    quarantined: Mapping[str, Set[datetime]] = field(default_factory=dict)
    silent: Mapping[str, Set[datetime]] = field(default_factory=dict)

    def to_request(self) -> dict[str, set[datetime]]:
        """The hours that only the provider can deliver, by zone."""
        zones = self.not_fetched.keys() | self.silent.keys()
        return {zone: {*self.not_fetched.get(zone, ()), *self.silent.get(zone, ())} for zone in sorted(zones)}


@dataclass(frozen=True)
class Decision:
    """The ranges to fetch and to merge, the next cursor, and the sentences for the log and the skip reason."""

    fetch: list[Window]
    merge: list[Window]
    memory: GapsCursor
    sentences: list[str]


def decide(
    now: datetime,
    holes: IncompleteHours,
    oldest_served: Mapping[str, datetime],
    memory: GapsCursor,
    *,
    active_windows: Iterable[Window] = (),
    provider_ok: bool = True,
) -> Decision:
    """Choose the ranges to request now.

    Args:
        now: the present.
        holes: the missing hours.
        oldest_served: by zone, the oldest hour that the plan serves.
        memory: the cursor of the last evaluation.
        active_windows: hours of runs that are queued or running; ranges that touch them wait.
        provider_ok: whether the last run that fetched from the provider succeeded; until then failed hours wait.
    """
    carried = oldest_history_hour(now)
    wanted = holes.to_request()
    lost = {zone: {h for h in hours if h < oldest_served[zone]} for zone, hours in wanted.items()}
    fetchable = {h for zone, hours in wanted.items() for h in hours if h >= oldest_served[zone]}
    # The next tick requests the hours of /history, and the missed ones that it catches up.
    with_ticks = {hour for hour in fetchable if hour >= carried or hour in holes.untried}
    fetchable -= with_ticks
    every_zone_serves = max(oldest_served.values())
    failed = {hour for hour in holes.failed if hour >= every_zone_serves}
    known = GapsCursor(
        _still_missing(memory.fetched, fetchable | failed), _still_missing(memory.merged, holes.not_merged)
    )
    due = {hour for hour in fetchable | (failed if provider_ok else set()) if _is_due(hour, known.fetched, now)}
    active_windows = list(active_windows)
    fetch, waiting = _choose(due, active_windows)
    # A fetch run also merges the hours nearby that bronze holds.
    left = {
        hour
        for hour in holes.not_merged
        if not any(hour in window.widen(LATE_DATA_MARGIN, LATE_DATA_MARGIN) for window in fetch)
    }
    merge, waiting_too = _choose({hour for hour in left if _is_due(hour, known.merged, now)}, [*active_windows, *fetch])
    return Decision(
        fetch,
        merge,
        GapsCursor(
            _with_requests(known.fetched, fetchable | failed, fetch, now),
            _with_requests(known.merged, holes.not_merged, merge, now),
        ),
        list(
            _sentences(
                silent=format_by_zone(holes.silent),
                lost=format_by_zone(lost),
                with_ticks=format_windows(to_windows(with_ticks)),
                waiting=format_windows([*waiting, *waiting_too]),
                failed="" if provider_ok else format_windows(to_windows(failed)),
                quarantined=holes.quarantined,
                known=known,
                now=now,
            )
        ),
    )


def _sentences(
    *,
    silent: str,
    lost: str,
    with_ticks: str,
    waiting: str,
    failed: str,
    quarantined: Mapping[str, Set[datetime]],
    known: GapsCursor,
    now: datetime,
) -> Iterable[str]:
    bad = set().union(*quarantined.values())
    asked_often = {hour: tries for hour, tries in known.fetched.items() if tries.count >= _TRIES_UNTIL_REPORTED}
    not_delivered = {hour: tries for hour, tries in asked_often.items() if hour not in bad}
    backing_off = {hour for hour, tries in known.fetched.items() if hour not in asked_often and tries.next_at > now}
    if bad:
        yield (
            "The record is quarantined, and the hour waits for the provider to mend it: "
            f"{format_by_zone(quarantined)}. "
            "bronze.rejected_records says why."
        )
    stuck = {hour for hour, tries in known.merged.items() if tries.count >= _TRIES_UNTIL_REPORTED}
    if silent:
        yield f"The provider answered with nulls only: {silent}."
    if not_delivered:
        asked = max(tries.count for tries in not_delivered.values())
        then = min(tries.next_at for tries in not_delivered.values())
        yield (
            f"The provider does not have {format_windows(to_windows(not_delivered))}: requested up to {asked} times, "
            f"next at {then:%Y-%m-%dT%H:%MZ} or later."
        )
    if lost:
        yield f"Lost, since the plan serves no past-range: {lost}. A plan that has it brings them back."
    if backing_off:
        yield f"Requested before, and again after a pause: {format_windows(to_windows(backing_off))}."
    if stuck:
        hours = format_windows(to_windows(stuck))
        yield f"Silver or gold stays without {hours} though bronze has them: look at the last run."
    if failed:
        yield f"Failed hours wait until a tick succeeds: {failed}."
    if with_ticks:
        yield f"The next tick requests {with_ticks}."
    if waiting:
        yield f"{waiting} wait for a run that is queued or going on nearby."


def _is_due(hour: datetime, tries: Mapping[datetime, Tries], now: datetime) -> bool:
    return hour not in tries or tries[hour].next_at <= now


def _choose(due: Set[datetime], active_windows: list[Window]) -> tuple[list[Window], list[Window]]:
    """The newest ranges within the bounds, in order of time; and those that wait for an active run."""
    chosen: list[Window] = []
    waiting: list[Window] = []
    hours = 0
    for window in reversed(to_windows(due, bridge=BRIDGE)):
        if any(overlaps_or_adjoins(window, other) for other in active_windows):
            waiting.append(window)
            continue
        room = _MOST_HOURS - hours
        if len(chosen) == _MOST_RUNS or room <= 0:
            break
        part = Window(max(window.start, window.end - room * HOUR), window.end)
        chosen.append(part)
        hours += (part.end - part.start) // HOUR
    return chosen[::-1], waiting[::-1]


def _still_missing(tries: Mapping[datetime, Tries], hours: Set[datetime]) -> dict[datetime, Tries]:
    """Drop the tries of hours that are no longer missing."""
    return {hour: count for hour, count in tries.items() if hour in hours}


def _with_requests(
    tries: Mapping[datetime, Tries], hours: Set[datetime], windows: list[Window], now: datetime
) -> dict[datetime, Tries]:
    """Count one more try for each hour of the requested windows."""
    asked = {hour for hour in hours if any(hour in window for window in windows)}
    return {**tries, **{hour: Tries(tries[hour].count + 1 if hour in tries else 1, now) for hour in asked}}


def _pack(tries: Mapping[datetime, Tries]) -> list[list[object]]:
    """Neighbouring hours with the same tries as one entry: a cursor must stay small."""
    alike: dict[Tries, list[datetime]] = {}
    for hour, tried in sorted(tries.items()):
        alike.setdefault(tried, []).append(hour)
    return [
        [window.start.isoformat(), window.end.isoformat(), tried.count, tried.asked_at.isoformat()]
        for tried, hours in alike.items()
        for window in to_windows(hours)
    ]


def _unpack(packed: list[list[object]]) -> dict[datetime, Tries]:
    found = {}
    for start, end, count, asked_at in packed:
        tried = Tries(int(str(count)), datetime.fromisoformat(str(asked_at)))
        window = Window(datetime.fromisoformat(str(start)), datetime.fromisoformat(str(end)))
        found.update(dict.fromkeys(window.hours(), tried))
    return found
