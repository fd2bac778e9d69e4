"""What the provider would answer at a moment: estimates first, measured values later, revisions after.

A record is a function of seed, zone, hour and the provider's passes until then; nothing is stored
but what a test perturbs on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from emaps_dagster.simulator.grid import RENEWABLE, State, draw, state
from emaps_dagster.windows import HOUR, floor_hour
from emaps_dagster.zones import CARBON, POWER, Feed

# The recorded bodies were touched at minutes 47 to 52 of an hour.
_PASS = timedelta(minutes=48)
# Daily refetches of the hours 1 day, 1 week, 1 month and 3 months back.
_REFETCHED_AFTER_DAYS = (1, 7, 30, 90)


@dataclass(frozen=True)
class Revision:
    """An opinion that a test plants: from `at` on, the hour has other values."""

    zone: str
    hour: datetime
    at: datetime
    feed: Feed | None = None


@dataclass(frozen=True)
class Gap:
    """Hours that a feed does not deliver."""

    zone: str
    start: datetime
    end: datetime
    feed: Feed | None = None


class Provider:
    """The records of every zone; perturb it by `revise` and `withhold`."""

    def __init__(self, seed: int = 7) -> None:
        self.seed = seed
        self.revisions: list[Revision] = []
        self.gaps: list[Gap] = []

    def revise(self, zone: str, hour: datetime, *, at: datetime, feed: Feed | None = None) -> None:
        """From `at` on, an hour has other values."""
        self.revisions.append(Revision(zone, hour, at, feed))

    def withhold(self, zone: str, start: datetime, end: datetime, *, feed: Feed | None = None) -> None:
        """The feed lacks the hours [start, end)."""
        self.gaps.append(Gap(zone, start, end, feed))

    def estimated_hours(self, zone: str, hour: datetime) -> int:
        """After how many passes the hour is measured: the estimated tail is 2 to 4 hours long."""
        return 2 + int(draw("tail", zone, floor_hour(hour).timestamp() // 10_800, self.seed) * 3)

    def record(self, feed: Feed, zone: str, hour: datetime, at: datetime) -> dict[str, Any] | None:
        """The row of an hour as served at a moment; None when the feed lacks it."""
        if hour > floor_hour(at):
            return None
        for gap in self.gaps:
            if gap.zone == zone and gap.start <= hour < gap.end and gap.feed in (None, feed):
                return None
        variant, touched, estimated = self._opinion(feed, zone, hour, at)
        now = state(zone, hour, self.seed, variant)
        row = _power_row(zone, now, estimated) if feed == POWER else _carbon_row(zone, now)
        stamp = {
            "datetime": _iso(hour),
            "updatedAt": _iso(touched),
            "createdAt": _iso(hour - timedelta(hours=71, seconds=round(900 * draw("made", zone, hour, self.seed)))),
        }
        method = None
        if estimated:
            method = "FORECASTS_HIERARCHY" if draw("method", zone, hour) < 0.1 else "TIME_SLICER_AVERAGE"
        return {**_ordered(feed, row, stamp), "isEstimated": estimated, "estimationMethod": method}

    def _opinion(self, feed: Feed, zone: str, hour: datetime, at: datetime) -> tuple[int, datetime, bool]:
        """Variant of the values, when they were last touched, whether they are estimated."""
        first = hour - HOUR + _PASS
        passes = max(0, int((at - first) // HOUR))
        tail = self.estimated_hours(zone, hour)
        # Measured hours are looked at again in some of the later passes of their first day.
        last, variant = 0, 1
        for number in range(min(passes, 24) + 1):
            seen = draw("pass", feed.name if number == tail else "", zone, hour, number, self.seed)
            if number <= tail:
                last, variant = number, (1 + number if number < tail else 0)
            elif seen < 0.30:
                # One touch in six changes values; the others only the time stamp.
                last, variant = number, (100 + number if seen < 0.05 else variant)
        touched = first + last * HOUR
        for days in _REFETCHED_AFTER_DAYS:
            refetch = (hour + timedelta(days=days)).replace(hour=23) + _PASS
            if refetch <= at and draw("refetch", zone, hour, days, self.seed) < 0.10:
                variant, touched = 200 + days, max(touched, refetch)
        for place, revision in enumerate(self.revisions):
            if (revision.zone, revision.hour) == (zone, hour) and revision.feed in (None, feed) and revision.at <= at:
                variant, touched = 1000 + place, max(touched, revision.at)
        return variant, touched, passes < tail


def _power_row(zone: str, now: State, estimated: bool) -> dict[str, Any]:
    consumed = sum(now.consumption.values())
    renewable = sum(now.consumption[mode] for mode in RENEWABLE)
    free = renewable + now.consumption["nuclear"]
    imports, exports = now.imports, now.exports
    if estimated:
        # Estimated rows name fewer neighbours: those without a flow in either direction are left out.
        quiet = {n for n in imports if imports[n] == 0 and exports[n] == 0}
        imports = {n: mw for n, mw in imports.items() if n not in quiet}
        exports = {n: mw for n, mw in exports.items() if n not in quiet}
    return {
        "zone": zone,
        "powerConsumptionBreakdown": now.consumption,
        "powerProductionBreakdown": now.production,
        "powerImportBreakdown": imports,
        "powerExportBreakdown": exports,
        "fossilFreePercentage": round(100 * free / consumed) if consumed else None,
        "renewablePercentage": round(100 * renewable / consumed) if consumed else None,
        "powerConsumptionTotal": consumed,
        "powerProductionTotal": sum(max(0, mw or 0) for mw in now.production.values()),
        "powerImportTotal": sum(imports.values()),
        "powerExportTotal": sum(exports.values()),
    }


def _carbon_row(zone: str, now: State) -> dict[str, Any]:
    return {"zone": zone, "carbonIntensity": now.carbon_intensity, "emissionFactorType": "lifecycle"}


def _ordered(feed: Feed, row: dict[str, Any], stamp: dict[str, str]) -> dict[str, Any]:
    """The keys in the order of the recorded bodies."""
    if feed == CARBON:
        return {
            "zone": row["zone"],
            "carbonIntensity": row["carbonIntensity"],
            **stamp,
            "emissionFactorType": row["emissionFactorType"],
        }
    zone = row.pop("zone")
    return {"zone": zone, **stamp, **row}


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
