"""Detects a stuck provider, which repeats the same numbers hour after hour.

The limits come from 44,000 recorded hours (CAISO and ERCOT 2020-2021, the Greek schedule of 2017, a German day of
2024): all modes kept their values for 3 hours at most. Divided and rounded so that the zone's largest mode was 10 to
20 MW or 2 to 5 MW, they kept them for 6 and 20 hours at most. PJM's file has stretches of 23 and 25 hours: its editors
filled gaps with the hour before, which this check must find.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.contracts.zones import MODES
from emaps_dagster.transforms.quality.outcome import Finding, Outcome
from emaps_dagster.transforms.quality.silver_evidence import SilverEvidence

# Number of identical hours that are a fault. A check of one hour reads 47 hours back, so neither may exceed 48.
STUCK_AFTER = 12
STUCK_AFTER_IN_A_SMALL_ZONE = 24
# In smaller zones whole megawatts change too rarely.
_SMALL_MW = 10
_TOO_SMALL_MW = 2
_PRODUCTION = tuple(f"production_{mode}" for mode in MODES)
_DEMAND = ("consumption_total", "import_total", "export_total")


@dataclass(frozen=True)
class Stretch:
    """Consecutive hours in which every production mode kept its value."""

    zone: str
    start: datetime
    end: datetime
    modes: int

    @property
    def hours(self) -> int:
        return (self.end - self.start) // HOUR

    def __str__(self) -> str:
        return (
            f"all {self.modes} reported production modes have kept their values since {self.start:%Y-%m-%dT%H:%MZ} "
            f"or earlier, for {self.hours} hours"
        )


def values_change(evidence: SilverEvidence) -> Outcome:
    """No zone reports the same value of every production mode for `STUCK_AFTER` hours, estimated or not.

    In small zones, where whole megawatts change too rarely, the limit is `STUCK_AFTER_IN_A_SMALL_ZONE` hours. Where
    only one mode produces, demand and flows must be constant as well: one plant may run flat. Zones of a megawatt are
    not checked.
    """
    findings = [Finding(found.zone, found.start, str(found), found.end) for found in stretches(evidence.rows)]
    return Outcome(len(evidence.rows), tuple(findings))


def stretches(rows: Iterable[Mapping[str, Any]]) -> Iterator[Stretch]:
    """The stretches that exceed their limit."""
    first: Mapping[str, Any] | None = None
    last: Mapping[str, Any] | None = None
    for row in sorted(rows, key=lambda row: (row["zone"], row["datetime"])):
        if first is not None and last is not None and _continues(last, row):
            last = row
            continue
        if first is not None and last is not None:
            yield from _too_long(first, last)
        first = last = row
    if first is not None and last is not None:
        yield from _too_long(first, last)


def _continues(last: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    if row["zone"] != last["zone"] or row["datetime"] - last["datetime"] > HOUR:
        return False
    return _signature(row) == _signature(last)


def _signature(row: Mapping[str, Any]) -> tuple[Any, ...]:
    values = tuple(row[name] for name in _PRODUCTION)
    return (*values, *(row[name] for name in _DEMAND)) if _producing(row) < 2 else values


def _producing(row: Mapping[str, Any]) -> int:
    return sum(bool(row[name]) for name in _PRODUCTION)


def _too_long(first: Mapping[str, Any], last: Mapping[str, Any]) -> Iterator[Stretch]:
    values = [row for row in (first[name] for name in _PRODUCTION) if row is not None]
    largest = max(map(abs, values), default=0.0)
    if largest < _TOO_SMALL_MW:
        # Other checks find hours with only nulls or zeros.
        return
    is_small = largest < _SMALL_MW or _producing(first) < 2
    stretch = Stretch(first["zone"], first["datetime"], last["datetime"] + HOUR, len(values))
    if stretch.hours >= (STUCK_AFTER_IN_A_SMALL_ZONE if is_small else STUCK_AFTER):
        yield stretch
