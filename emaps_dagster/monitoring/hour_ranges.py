"""Hours as the fewest ranges, and what of them the provider still serves. Only arithmetic on times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise

from emaps_dagster.contracts.windows import HOUR, Window, floor_hour

# /history carries the running hour and the 23 before it.
CARRIED = timedelta(hours=23)
# One past-range call serves ten days: what a run catches up costs one call a feed and zone.
CATCH_UP = timedelta(days=10) - CARRIED
# A range that bridges up to a day costs no call more than two ranges do, and a run less.
BRIDGE = timedelta(days=1)


def oldest_history_hour(now: datetime) -> datetime:
    """The oldest hour that /history answers with."""
    return floor_hour(now) - CARRIED


def to_windows(hours: Iterable[datetime], *, bridge: timedelta = timedelta(0), most: int | None = None) -> list[Window]:
    """The hours as contiguous ranges in order, as few as asked.

    Args:
        hours: whole UTC hours, in any order.
        bridge: ranges that lie no farther apart become one.
        most: beyond so many ranges the nearest become one.
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


def overlaps_or_adjoins(one: Window, other: Window) -> bool:
    """Whether runs of these hours should not go on at once: they share hours, or adjoin as two ticks do."""
    return one.start <= other.end and other.start <= one.end


def without(window: Window, others: Iterable[Window]) -> list[Window]:
    """What the others leave of a window, in order."""
    left = [window]
    for other in others:
        left = [
            Window(start, end)
            for one in left
            for start, end in ((one.start, min(one.end, other.start)), (max(one.start, other.end), one.end))
            if start < end
        ]
    return left


def missed(now: datetime, first: datetime, tried: Iterable[datetime], *, past_range: bool) -> set[datetime]:
    """The hours before the last complete one whose ticks were missed: no run has tried them, but one before them.

    Args:
        now: the present.
        first: the first partition.
        tried: hours that a run has made or failed to make. Without any, as on a new machine, there is no ticking
            yet to go on with: then it is what /history carries anyway.
        past_range: whether the plan serves more than /history carries.
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
    """The hours of a tick, in one range: the last complete one, and what was missed before it."""
    end = floor_hour(now)
    return Window(min({end - HOUR, *missed(now, first, tried, past_range=past_range)}), end)


def format_windows(windows: Iterable[Window], most: int = 4) -> str:
    """Ranges for a sentence: the first few, and how many more."""
    every = list(windows)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(map(str, every[:most])) + more


def format_by_zone(hours: Mapping[str, Iterable[datetime]]) -> str:
    """Hours by zone for a sentence."""
    return "; ".join(f"{zone} {format_windows(to_windows(those))}" for zone, those in sorted(hours.items()) if those)
