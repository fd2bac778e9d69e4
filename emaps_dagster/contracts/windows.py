"""Half-open windows of whole UTC hours, and which hours of each layer a run touches.

Only arithmetic on times: no storage, no Spark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

HOUR = timedelta(hours=1)

# A rolling feature reads 24 hours: its own and the 23 before.
LOOKBACK = timedelta(hours=23)

# How far from a run's own hours the hours of a usable response may lie. /history carries 24 hours, so
# one that holds an hour of the run reaches 23 beyond it; a provider that is up to a day late shifts that
# by another 24. Silver computes this far on both sides, so that nothing bronze took in is left out.
LATE_DATA_MARGIN = timedelta(hours=47)

# How far clocks that are well may be apart: a response received later than this from now has a wrong time.
CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, order=True)
class Window:
    """The hours [start, end), both aware, in UTC and on the hour."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for bound in (self.start, self.end):
            if bound.tzinfo is None or bound.utcoffset() != timedelta(0) or bound != floor_hour(bound):
                raise ValueError(f"a window is made of whole UTC hours, not {bound.isoformat()}")
        if self.start >= self.end:
            raise ValueError(f"a window needs at least one hour: [{self.start}, {self.end})")

    def __str__(self) -> str:
        return f"[{self.start:%Y-%m-%dT%H:%MZ}, {self.end:%Y-%m-%dT%H:%MZ})"

    def __contains__(self, hour: datetime) -> bool:
        return self.start <= hour < self.end

    @property
    def duration(self) -> timedelta:
        return self.end - self.start

    def widen(self, before: timedelta, after: timedelta) -> Window:
        return Window(self.start - before, self.end + after)

    def hours(self) -> Iterator[datetime]:
        hour = self.start
        while hour < self.end:
            yield hour
            hour += HOUR

    def months(self) -> list[str]:
        """The `yyyy-MM` values of its hours, in order: the literals that prune partitions."""
        return [f"{part.start:%Y-%m}" for part in self.by_month()]

    def by_month(self) -> list[Window]:
        """The window cut at the turns of months."""
        parts = []
        start = self.start
        while start < self.end:
            turn = (start.replace(day=1, hour=0) + timedelta(days=32)).replace(day=1)
            parts.append(Window(start, min(turn, self.end)))
            start = turn
        return parts

    def in_months(self, longest: timedelta) -> Iterator[Window]:
        """The window in parts of at most `longest` that end at turns of months; a month too long is a part."""
        part: Window | None = None
        for month in self.by_month():
            if part and month.end - part.start <= longest:
                part = Window(part.start, month.end)
            else:
                if part:
                    yield part
                part = month
        if part:
            yield part


def floor_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def silver_window(run: Window) -> Window:
    """The hours of silver that the responses of this run can have changed."""
    return run.widen(LATE_DATA_MARGIN, LATE_DATA_MARGIN)


def gold_window(run: Window) -> Window:
    """The hours of gold whose features can depend on a changed hour of silver."""
    return silver_window(run).widen(timedelta(0), LOOKBACK)


def rebuilt_silver(hours: Window) -> Window:
    """The hours of silver that a rebuild of gold's `hours` from bronze alone must have rebuilt."""
    return hours.widen(LOOKBACK, timedelta(0))


def rebuilt_gold(hours: Window) -> Window:
    """The hours of gold whose features can depend on `rebuilt_silver`."""
    return hours.widen(LOOKBACK, LOOKBACK)


def gold_context(gold: Window) -> Window:
    """The hours of silver that gold's features read: context rows are read, never written."""
    return gold.widen(LOOKBACK, timedelta(0))
