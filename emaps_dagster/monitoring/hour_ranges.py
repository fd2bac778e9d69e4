"""Arithmetic on hours: contiguous ranges, the span of /history, and the hours of missed ticks. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise

from emaps_dagster.contracts.windows import HOUR, Window, floor_hour

# /history carries the running hour and the 23 before it.
CARRIED = timedelta(hours=23)
# One past-range call serves ten days: catching up costs one call a feed and zone.
CATCH_UP = timedelta(days=10) - CARRIED
# A range that bridges up to a day costs no more calls than two ranges, and one run less.
BRIDGE = timedelta(days=1)


def oldest_history_hour(now: datetime) -> datetime:
    """The oldest hour that /history returns."""
    return floor_hour(now) - CARRIED


def to_windows(hours: Iterable[datetime], *, bridge: timedelta = timedelta(0), most: int | None = None) -> list[Window]:
    """The hours as contiguous ranges, in order.

    Args:
        hours: whole UTC hours, in any order.
        bridge: ranges that lie no farther apart are joined.
        most: the largest number of ranges; beyond it the nearest are joined.
    """
    found: list[Window] = []
    for hour in sorted(set(hours)):
        if found and hour - found[-1].end <= bridge:
            found[-1] = Window(found[-1].start, hour + HOUR)
        else:
            found.append(Window(hour, hour + HOUR))
    while most is not None and len(found) > most:
        gaps = [right.start - left.end for left, right in pairwise(found)]
        place = gaps.index(min(gaps))
        found[place : place + 2] = [Window(found[place].start, found[place + 1].end)]
    return found


def overlaps_or_adjoins(window: Window, other: Window) -> bool:
    """Whether runs of these hours must not run at the same time: they share hours, or adjoin as two ticks do."""
    return window.start <= other.end and other.start <= window.end


def without(window: Window, others: Iterable[Window]) -> list[Window]:
    """The parts of a window that no other window covers, in order."""
    left = [window]
    for other in others:
        left = [
            Window(start, end)
            for part in left
            for start, end in ((part.start, min(part.end, other.start)), (max(part.start, other.end), part.end))
            if start < end
        ]
    return left


def missed(now: datetime, first: datetime, tried: Iterable[datetime], *, past_range: bool) -> set[datetime]:
    """The hours of missed ticks before the last complete hour: no run has tried them, one has tried an earlier hour.

    Args:
        now: the present.
        first: the first partition.
        tried: hours that a run has made or failed to make. Without any, as on a new machine, the result is the hours
            that /history holds.
        past_range: whether the plan serves older hours than /history holds.
    """
    last = floor_hour(now) - HOUR
    carried = oldest_history_hour(now)
    oldest = max(first, carried - (CATCH_UP if past_range else timedelta(0)))
    if oldest >= last:
        return set()
    done = set(tried)
    begun = min((hour for hour in done if hour >= oldest), default=carried)
    return {hour for hour in Window(oldest, last).hours() if hour not in done and (hour > begun or hour >= carried)}


def catch_up(now: datetime, first: datetime, tried: Iterable[datetime], *, past_range: bool) -> Window:
    """The hours of a tick, in one range: the last complete hour, and the missed ones before it."""
    end = floor_hour(now)
    return Window(min({end - HOUR, *missed(now, first, tried, past_range=past_range)}), end)


def format_windows(windows: Iterable[Window], most: int = 4) -> str:
    """Ranges as text for a sentence: the first `most`, and the number of the others."""
    every = list(windows)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(map(str, every[:most])) + more


def format_by_zone(hours: Mapping[str, Iterable[datetime]]) -> str:
    """Hours by zone as text for a sentence."""
    return "; ".join(f"{zone} {format_windows(to_windows(those))}" for zone, those in sorted(hours.items()) if those)
