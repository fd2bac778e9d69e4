"""The demo's clock: a backfill, the provider's pass, a tick that ends at the present."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from emaps_dagster.contracts.windows import HOUR, Window, floor_hour

# How many hours before the last one are revised: all of them in what /history carries at the tick.
_REVISED = (5, 6, 9)


@dataclass(frozen=True)
class Times:
    """When: the backfill ends before `last`, the hour of the tick, which ends before the present."""

    start: datetime
    last: datetime
    present: datetime

    @classmethod
    def until(cls, present: datetime, days: int) -> Times:
        last = floor_hour(present) - HOUR
        return cls(last - timedelta(days=days), last, present)

    @property
    def backfill(self) -> Window:
        return Window(self.start, self.last)

    @property
    def backfilled_at(self) -> datetime:
        """At minute 7 as the schedule, in the hour that the tick will ask for."""
        return self.last + timedelta(minutes=7)

    @property
    def revised_at(self) -> datetime:
        """The provider's pass between the two runs."""
        return self.last + timedelta(minutes=48)

    @property
    def tick(self) -> Window:
        return Window(self.last, self.last + HOUR)

    @property
    def revised(self) -> list[datetime]:
        return [self.last - hours * HOUR for hours in _REVISED]
