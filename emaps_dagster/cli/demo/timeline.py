"""The times of the demo: a backfill, the provider's revisions, a tick at the present."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from emaps_dagster.contracts.windows import HOUR, Window, floor_hour

# The revised hours, as offsets before the last one: /history holds all of them at the tick.
_REVISED = (5, 6, 9)


@dataclass(frozen=True)
class Times:
    """The backfill ends at `last`, the hour of the tick, which ends before the present."""

    start: datetime
    last: datetime
    present: datetime

    @classmethod
    def until(cls, present: datetime, days: int) -> Times:
        """A backfill of so many days, and a tick at the present."""
        last = floor_hour(present) - HOUR
        return cls(last - timedelta(days=days), last, present)

    @property
    def backfill(self) -> Window:
        return Window(self.start, self.last)

    @property
    def backfilled_at(self) -> datetime:
        """The time of the backfill: minute 7, as the schedule, of the hour that the tick will request."""
        return self.last + timedelta(minutes=7)

    @property
    def revised_at(self) -> datetime:
        """The time of the provider's revisions, between the two runs."""
        return self.last + timedelta(minutes=48)

    @property
    def tick(self) -> Window:
        return Window(self.last, self.last + HOUR)

    @property
    def revised(self) -> list[datetime]:
        return [self.last - hours * HOUR for hours in _REVISED]
