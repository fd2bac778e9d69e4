"""Half-open windows of whole UTC hours, and the hours of each layer that a run affects.

Time arithmetic only: no storage, no Spark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

HOUR = timedelta(hours=1)

# A rolling feature covers 24 hours: its own and the 23 before.
LOOKBACK = timedelta(hours=23)

# Largest distance between a run's own hours and the hours of a usable response. /history carries 24 hours, so
# a body with an hour of the run reaches 23 beyond it; a provider that is up to a day late shifts that by
# another 24. Silver computes this far on both sides, so that it merges every record that bronze stored.
LATE_DATA_MARGIN = timedelta(hours=47)

# Largest difference between two correct clocks: a response stamped later than this from now has a wrong time.
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
        """The `yyyy-MM` values of the hours, in order; as literals they prune partitions."""
        return [f"{part.start:%Y-%m}" for part in self.by_month()]

    def by_month(self) -> list[Window]:
        """Splits the window at the starts of months."""
        parts = []
        start = self.start
        while start < self.end:
            turn = (start.replace(day=1, hour=0) + timedelta(days=32)).replace(day=1)
            parts.append(Window(start, min(turn, self.end)))
            start = turn
        return parts

    def in_months(self, longest: timedelta) -> Iterator[Window]:
        """Splits the window at starts of months into parts of at most `longest`; a longer month is one part."""
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


def parse_utc(text: str, *, naive_is_utc: bool = True) -> datetime:
    """Parses a time in ISO 8601, `Z` allowed, to UTC.

    Raises:
        ValueError: the text is no such time, or has no zone and `naive_is_utc` is False.
    """
    # Python 3.10 does not read Z.
    moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    if moment.tzinfo is None:
        if not naive_is_utc:
            raise ValueError(f"{text!r} has no time zone")
        return moment.replace(tzinfo=timezone.utc)
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"{text!r} is outside the calendar") from None


def floor_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def silver_window(run: Window) -> Window:
    """Hours of silver that the responses of this run can have changed."""
    return run.widen(LATE_DATA_MARGIN, LATE_DATA_MARGIN)


def gold_window(run: Window) -> Window:
    """Hours of gold whose features can depend on a changed hour of silver."""
    return silver_window(run).widen(timedelta(0), LOOKBACK)


def rebuilt_silver(hours: Window) -> Window:
    """Hours of silver that must be rebuilt before gold's `hours` can be rebuilt from bronze alone."""
    return hours.widen(LOOKBACK, timedelta(0))


def rebuilt_gold(hours: Window) -> Window:
    """Hours of gold whose features can depend on `rebuilt_silver`."""
    return hours.widen(LOOKBACK, LOOKBACK)


def gold_context(gold: Window) -> Window:
    """Hours of silver that gold's features read; the context rows are never written."""
    return gold.widen(LOOKBACK, timedelta(0))
