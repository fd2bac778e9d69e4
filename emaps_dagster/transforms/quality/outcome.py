"""What a check says: findings, each with its zone and hours, and how many rows were judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from emaps_dagster.contracts.windows import HOUR

# One finding names this many columns; a row that is wrong as a whole would fill a page.
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be.

    `hour` is None when it concerns the whole table; `until` is the end of the hours it concerns, if more than one.
    """

    zone: str
    hour: datetime | None
    what: str
    until: datetime | None = None

    @property
    def end(self) -> datetime | None:
        return self.until or (self.hour and self.hour + HOUR)


@dataclass(frozen=True)
class Outcome:
    """What a check saw: how many rows it judged and everything it found.

    `beside` are hours beside the run whose own status it knows, whether or not it found something there.
    """

    judged: int
    findings: tuple[Finding, ...] = ()
    beside: tuple[datetime, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.findings

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.judged + other.judged, self.findings + other.findings, self.beside + other.beside)


def differing(columns: Iterable[tuple[str, object, object]]) -> str:
    """`gas is 1.0, must be 2.0; ... and 4 more columns` for (name, is, must) triples."""
    told = [f"{name} is {_shown(is_)}, must be {_shown(must)}" for name, is_, must in columns]
    more = len(told) - _NAMED
    return "; ".join(told[:_NAMED]) + (f"; and {more} more column{'s' * (more > 1)}" if more > 0 else "")


def _shown(value: object) -> str:
    if value is None:
        return "null"
    return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}" if isinstance(value, datetime) else str(value)
