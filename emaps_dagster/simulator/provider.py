"""Records that the provider serves at a moment: estimates first, measured values later, then revisions.

A record is a function of seed, zone, hour and the provider's passes until then; the only state is what a test
plants (perturbations.py). HTTP is in api.py and server.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from emaps_dagster.contracts.signals import FLOWS, MIX, MIX_SIGNALS, TRACED_MIX
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER, Feed, zone_facts
from emaps_dagster.simulator.flaws import as_written, corrupt, with_wrong_flows
from emaps_dagster.simulator.grid import State, intensity, state
from emaps_dagster.simulator.noise import bits, draw, stream
from emaps_dagster.simulator.passes import hour_index, last_touch, pass_time
from emaps_dagster.simulator.perturbations import CARBON_INTENSITY, FIRST_HOUR, Perturbation, Perturbations
from emaps_dagster.simulator.profiles import DIRECT, LIFECYCLE, RENEWABLE
from emaps_dagster.simulator.signals import envelope, signal_row

Endpoint = Literal["latest", "history", "past", "past-range"]
Version = Literal["v3", "v4"]
FactorType = Literal["lifecycle", "direct"]

# Recorded bodies of 2024 have no granularity, those of late 2025 have one.
_NAMED_GRANULARITY = datetime(2025, 1, 1, tzinfo=timezone.utc)
# Recorded rows of 2024 contain neighbours with a flow of 0, those of 2026 omit them.
_NO_ZERO_FLOWS = datetime(2026, 1, 1, tzinfo=timezone.utc)
# A row exists 3 days ahead, as a forecast.
_CREATED_BEFORE = 72
# Signals whose `latest` is a list of one row.
_OF_THE_MIX = (MIX, TRACED_MIX, FLOWS)


class NoDataError(LookupError):
    """The provider has no row for the request."""


class Provider(Perturbations):
    """The records of every zone, with the planted perturbations.

    `record` returns one row, `rows` those of a window, `body` the bytes that the server sends.
    """

    def __init__(self, seed: int = 7) -> None:
        super().__init__()
        self.seed = seed

    def record(
        self, feed: Feed, zone: str, hour: datetime, at: datetime, *, factors: FactorType = "lifecycle"
    ) -> dict[str, Any] | None:
        """The row of an hour as served at a moment; None when the feed lacks it."""
        return self._record(feed, zone, hour, at, self._seen(feed, zone, at), factors)

    def updated_at(self, feed: Feed, zone: str, window: Window, at: datetime) -> dict[datetime, datetime]:
        """Time of the last update of each hour of a window that the feed serves at a moment, without its values."""
        seen = self._seen(feed, zone, at)
        served = (hour for hour in window.hours() if self._is_served(hour, at, seen))
        return {hour: self._opinion(feed, zone, hour, at, seen)[1] for hour in served}

    def rows(
        self,
        feed: Feed,
        zone: str,
        window: Window,
        at: datetime,
        *,
        estimations: bool = True,
        factors: FactorType = "lifecycle",
        version: Version = "v3",
    ) -> list[dict[str, Any]]:
        """The rows of a window in a body: in order and once each, unless a perturbation changes that."""
        seen = self._seen(feed, zone, at)
        signal, feed = feed, POWER if feed in MIX_SIGNALS else feed
        rows = []
        for hour in window.hours():
            row = self._record(feed, zone, hour, at, seen, factors)
            if row is None or (row["isEstimated"] and not estimations):
                continue
            rows.append((hour, row))
            for twin in seen:
                if twin.kind != "duplicate" or not twin.start <= hour < twin.end:
                    continue
                values = {}
                if twin.variant is not None:
                    values = self._values(feed, zone, hour, twin.variant, seen, factors, estimated=row["isEstimated"])
                rows.append((hour, {**row, **values}))
        if any(change.kind == "shuffle" for change in seen):
            order = stream("shuffle", self.seed)
            rows.sort(key=lambda pair: bits(order, hour_index(pair[0])))
        return [self._spoiled(signal, self._as_served(signal, row, version), hour, seen) for hour, row in rows]

    def body(
        self,
        feed: Feed,
        zone: str,
        endpoint: Endpoint,
        at: datetime,
        window: Window | None = None,
        *,
        estimations: bool = True,
        factors: FactorType = "lifecycle",
        version: Version = "v3",
    ) -> bytes:
        """The whole body as the server sends it; `past` and `past-range` need a window.

        Raises:
            NoDataError: `latest` or `past` has no row.
        """
        if window is None:
            window = Window(floor_hour(at) - 23 * HOUR, floor_hour(at) + HOUR)
        rows = self.rows(feed, zone, window, at, estimations=estimations, factors=factors, version=version)
        whole = {"temporalGranularity": "hourly"} if version == "v4" or at >= _NAMED_GRANULARITY else {}
        if endpoint in ("history", "past-range"):
            name = "history" if endpoint == "history" else "data"
            several = envelope(feed, zone, name, rows) if feed in MIX_SIGNALS else {"zone": zone, name: rows, **whole}
            return as_written(encode(several))
        rows = [row for row in rows if row]
        if not rows:
            raise NoDataError(zone)
        newest = max(rows, key=lambda row: str(row["datetime"]))
        if feed in _OF_THE_MIX:
            return encode(envelope(feed, zone, "data", [newest]))
        return encode({**newest, **whole})

    def updates(
        self,
        zone: str,
        since: datetime,
        at: datetime,
        window: Window,
        *,
        threshold: timedelta,
        estimations: bool = True,
    ) -> list[dict[str, str]]:
        """Hours of a window of which a feed was updated after `since` and more than `threshold` after the hour."""
        found = []
        for hour in window.hours():
            newest = None
            for feed in FEEDS:
                seen = self._seen(feed, zone, at)
                if not self._is_served(hour, at, seen):
                    continue
                _, touched, estimated = self._opinion(feed, zone, hour, at, seen)
                if estimations or not estimated:
                    newest = touched if newest is None else max(newest, touched)
            if newest is not None and newest > since and newest - hour > threshold:
                found.append({"datetime": iso(hour), "updatedAt": iso(newest)})
        return found

    def measured_after(self, feed: Feed, zone: str, hour: datetime) -> int:
        """Number of passes from the hour to its measured value: the estimated tail has 2 to 4 hours.

        Mostly equal for both feeds.
        """
        block = hour_index(hour) // 3
        late = bits(stream("tail", zone, self.seed), block) & 1
        other = draw(stream("tail", feed.name, zone, self.seed), block) < 0.05
        return 2 + (late ^ other)

    def _as_served(self, feed: Feed, row: dict[str, Any], version: Version) -> dict[str, Any]:
        if feed in MIX_SIGNALS:
            return signal_row(feed, row, self.seed)
        if feed == CARBON and version == "v4":
            # As recorded: behind the type of the factors.
            flags = ("isEstimated", "estimationMethod")
            return {**{key: row[key] for key in row if key not in flags}, "flowTraced": True} | {
                key: row[key] for key in flags
            }
        return row

    def _spoiled(self, feed: Feed, row: dict[str, Any], hour: datetime, seen: list[Perturbation]) -> Any:
        for change in seen:
            if change.kind == "spoil" and change.start <= hour < change.end:
                return corrupt(feed, row, change.name)
        return row

    def _seen(self, feed: Feed, zone: str, at: datetime) -> list[Perturbation]:
        return [change for change in self.planted if change.is_seen(feed, zone, at)]

    def _is_served(self, hour: datetime, at: datetime, seen: list[Perturbation]) -> bool:
        withheld = any(change.kind == "withhold" and change.start <= hour < change.end for change in seen)
        return FIRST_HOUR <= hour <= floor_hour(at) and not withheld

    def _record(
        self, feed: Feed, zone: str, hour: datetime, at: datetime, seen: list[Perturbation], factors: FactorType
    ) -> dict[str, Any] | None:
        if not self._is_served(hour, at, seen):
            return None
        variant, touched, estimated = self._opinion(feed, zone, hour, at, seen)
        values = self._values(feed, zone, hour, variant, seen, factors, estimated=estimated)
        stamp = {
            "datetime": iso(hour),
            "updatedAt": iso(touched),
            "createdAt": iso(pass_time(zone, self.seed, hour_index(hour) - _CREATED_BEFORE)),
        }
        # The order of the recorded keys.
        if feed == CARBON:
            row = {"zone": zone, CARBON_INTENSITY: values[CARBON_INTENSITY], **stamp, "emissionFactorType": factors}
        else:
            row = {"zone": zone, **stamp, **values}
        return {**row, "isEstimated": estimated, "estimationMethod": self._method(zone, hour) if estimated else None}

    def _method(self, zone: str, hour: datetime) -> str:
        rare = draw(stream("method", zone, self.seed), hour_index(hour)) < 0.1
        return "FORECASTS_HIERARCHY" if rare and hour >= _NAMED_GRANULARITY else "TIME_SLICER_AVERAGE"

    def _values(
        self,
        feed: Feed,
        zone: str,
        hour: datetime,
        variant: int,
        seen: list[Perturbation],
        factors: FactorType,
        *,
        estimated: bool = False,
    ) -> dict[str, Any]:
        """The values of the row, without time stamps."""
        planted = [change for change in seen if change.name and change.start <= hour < change.end]
        gone = {change.name for change in planted if change.kind == "drop_neighbour"}
        new = tuple(change.name for change in planted if change.kind == "add_neighbour")
        if estimated:
            # Recorded estimates name two thirds of the neighbours.
            listed = zone_facts(zone).neighbours[1:]
            gone.update(n for n in listed if draw(stream("unnamed", n, zone, self.seed), hour_index(hour)) < 0.25)
        silent = frozenset(change.name for change in planted if change.kind == "silence")
        neighbours = tuple(n for n in dict.fromkeys(zone_facts(zone).neighbours + new) if n not in gone)
        now = state(zone, hour, self.seed, variant, neighbours=neighbours, silent=silent)
        if feed == POWER:
            carried = [change for change in seen if change.kind == "carry_flows" and change.start <= hour < change.end]
            if carried:
                before = state(zone, hour - HOUR, self.seed, variant, neighbours=neighbours, silent=silent)
                now = replace(now, imports=before.imports, exports=before.exports)
            return with_wrong_flows(_power(now, neighbours, zeros=hour < _NO_ZERO_FLOWS), planted)
        table = LIFECYCLE if factors == "lifecycle" else DIRECT
        return {CARBON_INTENSITY: None if CARBON_INTENSITY in silent else intensity(zone, now.consumption, table)}

    def _opinion(
        self, feed: Feed, zone: str, hour: datetime, at: datetime, seen: list[Perturbation]
    ) -> tuple[int, datetime, bool]:
        """Variant of the values, time of their last touch, and whether they are estimated."""
        index = hour_index(hour)
        newest = hour_index(at) if pass_time(zone, self.seed, hour_index(at)) <= at else hour_index(at) - 1
        measured = index + self.measured_after(feed, zone, hour)
        estimated = newest < measured
        if estimated:
            # Every pass computes a new estimate, the first before the hour begins.
            touched, variant = max(newest, index - 1), 2 + max(newest, index - 1) - index
        else:
            touched, variant = last_touch(zone, self.seed, index, measured, newest)
        moment = pass_time(zone, self.seed, touched)
        revisions = [change for change in seen if change.kind == "revise" and change.start <= hour < change.end]
        if revisions:
            last = max(revisions, key=lambda change: change.since)
            last = [change for change in revisions if change.since == last.since][-1]
            variant = last.variant or 0
            moment = last.updated_at or max(moment, last.since)
        return variant, moment, estimated


def _power(now: State, neighbours: tuple[str, ...], *, zeros: bool) -> dict[str, Any]:
    consumed = sum(now.consumption.values())
    renewable = sum(now.consumption[mode] for mode in RENEWABLE)
    free = renewable + now.consumption["nuclear"]
    imports = {n: now.imports[n] for n in neighbours if zeros or now.imports[n]}
    exports = {n: now.exports[n] for n in neighbours if zeros or now.exports[n]}
    return {
        "powerConsumptionBreakdown": now.consumption,
        "powerProductionBreakdown": now.production,
        "powerImportBreakdown": imports,
        "powerExportBreakdown": exports,
        "fossilFreePercentage": round(100 * free / consumed) if consumed else None,
        "renewablePercentage": round(100 * renewable / consumed) if consumed else None,
        "powerConsumptionTotal": consumed,
        "powerProductionTotal": sum(max(0, mw or 0) for mw in now.production.values()),
        # A zone without known borders has empty maps, and null totals instead of 0.
        "powerImportTotal": sum(imports.values()) if neighbours else None,
        "powerExportTotal": sum(exports.values()) if neighbours else None,
    }


def iso(moment: datetime) -> str:
    """Formats a time like the API."""
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def encode(body: Any) -> bytes:
    """Encodes JSON like the API."""
    return json.dumps(body, separators=(",", ":")).encode()
