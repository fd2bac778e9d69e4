"""Outcome of a check: the number of rows checked, and findings with their zone and hours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from emaps_dagster.contracts.windows import HOUR

# Most columns that one finding names; a row with every column wrong would fill a page.
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One violation.

    `hour` is None for the whole table; `until` is the end of the affected hours, if more than one.
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
    """Number of rows checked, and all findings.

    `beside` are further hours outside the run that the check evaluated, with or without a finding.
    """

    checked: int
    findings: tuple[Finding, ...] = ()
    beside: tuple[datetime, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.findings

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.checked + other.checked, self.findings + other.findings, self.beside + other.beside)


def differing(columns: Iterable[tuple[str, object, object]]) -> str:
    """Formats (name, is, must) triples as `gas is 1.0, must be 2.0; ... and 4 more columns`."""
    texts = [f"{name} is {_shown(is_)}, must be {_shown(must)}" for name, is_, must in columns]
    more = len(texts) - _NAMED
    return "; ".join(texts[:_NAMED]) + (f"; and {more} more column{'s' * (more > 1)}" if more > 0 else "")


def _shown(value: object) -> str:
    if value is None:
        return "null"
    return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}" if isinstance(value, datetime) else str(value)
