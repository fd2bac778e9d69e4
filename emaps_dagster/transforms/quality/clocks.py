"""Detects responses whose `ingested_at` is wrong because the machine's clock was.

The later ingestion of an hour wins, so a response stored with a fast clock outranks correct ones until that time has
passed, and permanently for hours that have left /history by then (docs/adr/0014).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from emaps_dagster.contracts.windows import CLOCK_TOLERANCE, HOUR, floor_hour

# /history ends with the running hour. Providers regularly withdraw an hour or two.
_LATE = timedelta(hours=2)


class Received(Protocol):
    """A response of one feed; `up_to_now` is true for one of /history.

    `signal`: of v4's power feed, whose signals may end at different hours.
    """

    @property
    def zone(self) -> str: ...
    @property
    def signal(self) -> str: ...
    @property
    def ingested_at(self) -> datetime: ...
    @property
    def window_end(self) -> datetime: ...
    @property
    def up_to_now(self) -> bool: ...


def is_in_the_future(ingested_at: datetime, now: datetime) -> bool:
    return ingested_at > now + CLOCK_TOLERANCE


def wrong_clocks(responses: Sequence[Received], now: datetime) -> Iterator[tuple[int, str]]:
    """Index of each response whose `ingested_at` cannot be right, with the reason as one phrase."""
    reached: dict[tuple[str, str], Received] = {}
    for place in sorted(range(len(responses)), key=lambda place: responses[place].ingested_at):
        this = responses[place]
        if is_in_the_future(this.ingested_at, now):
            yield place, f"its ingested_at is {_length(this.ingested_at - now)} after the present"
        elif this.window_end > floor_hour(this.ingested_at + CLOCK_TOLERANCE) + HOUR:
            yield place, f"it holds hours to {_hour(this.window_end)}, which had not begun at its ingested_at"
        elif this.up_to_now:
            before = reached.setdefault((this.zone, this.signal), this)
            if before.window_end - this.window_end > _LATE:
                yield (
                    place,
                    f"it ends at {_hour(this.window_end)}, but one that was received before it "
                    f"({before.ingested_at:%Y-%m-%dT%H:%M:%SZ}) reached {_hour(before.window_end)}: the clock was "
                    "ahead, or the provider gave an old answer",
                )
            elif this.window_end > before.window_end:
                reached[this.zone, this.signal] = this


def _length(ahead: timedelta) -> str:
    minutes = round(ahead / timedelta(minutes=1))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _hour(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%MZ}"
