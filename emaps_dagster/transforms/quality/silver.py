"""Checks silver against bronze: parses bodies with Python's JSON, record by record, without window function or join."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

import pyarrow as pa

from emaps_dagster.contracts.body_fields import time_of
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import MODE_KEYS, mode_column
from emaps_dagster.transforms.quality.bronze import finding_of, records_of, trusted_body
from emaps_dagster.transforms.quality.clocks import wrong_clocks
from emaps_dagster.transforms.quality.mix import NEEDED, Order, Seen, assembled, is_superseded, seen_by_hour
from emaps_dagster.transforms.quality.outcome import Finding, Outcome, differing

Key = tuple[str, datetime]
# Order, content by silver's columns, and source of one ingestion of an hour.
Version = tuple[Order, dict[str, Any], str | None]
_NEVER = datetime.min.replace(tzinfo=timezone.utc)
FEED_NAMES = ("power", "carbon")


@dataclass(frozen=True)
class RecordHistory:
    """History of one hour in one feed of bronze: the content of every ingestion, oldest first."""

    versions: tuple[tuple[datetime, dict[str, Any]], ...]
    sources: tuple[str | None, ...] = ()

    @property
    def latest(self) -> dict[str, Any]:
        return self.versions[-1][1]

    @property
    def known_since(self) -> datetime:
        """First ingestion time of the latest content, over consecutive ingestions with equal content."""
        return self.versions[self._first_of_latest][0]

    @property
    def source(self) -> str | None:
        """API, version and signal of the first ingestion of the latest content."""
        return self.sources[self._first_of_latest]

    @property
    def _first_of_latest(self) -> int:
        place = len(self.versions) - 1
        while place and self.versions[place - 1][1] == self.latest:
            place -= 1
        return place

    def ingested_at_of(self, row: Mapping[str, Any]) -> datetime | None:
        """Ingestion time of the content that a row carries; None when no ingestion had it."""
        for ingested_at, content in reversed(self.versions):
            if not list(differences(row, content)):
                return ingested_at
        return None


@dataclass(frozen=True)
class SilverEvidence:
    """The silver rows of `window`, and every response that shares an hour with it.

    Args:
        window: the hours that were collected.
        run: the run's own hours; the window reaches beyond them.
        zones: the configured zones.
        now: the run's clock.
        silver: rows as `tables.ENERGY_DATA`.
        power: responses as `tables.POWER_DATA`.
        carbon: responses as `tables.CARBON_DATA`.
        mix: responses as `tables.MIX_DATA`; None without the table.
    """

    window: Window
    run: Window
    zones: tuple[str, ...]
    now: datetime
    silver: pa.Table
    power: pa.Table
    carbon: pa.Table
    mix: pa.Table | None = None

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return rows_of(self.silver)

    @cached_property
    def histories(self) -> dict[str, dict[Key, RecordHistory]]:
        """Record histories in bronze by feed and (zone, hour), for hours that were over at the ingestion."""
        power = _versions(self.power, "power", self.window)
        for key, seen in self.seen.items():
            power[key] = _of_both_roads(power.get(key, []), seen)
        return {
            "power": _histories(power),
            "carbon": _histories(_versions(self.carbon, "carbon", self.window)),
        }

    @cached_property
    def seen(self) -> dict[Key, list[Seen]]:
        """What the signals of electricity-mix say of each (zone, hour)."""
        return seen_by_hour(self.mix.to_pylist(), self.window) if self.mix is not None else {}


def rows_of(rows: pa.Table) -> list[dict[str, Any]]:
    """Rows as dicts, flow maps as dicts too; skips rows without a key, which `primary_key_is_unique` reports."""
    found = [row for row in rows.to_pylist() if row["zone"] is not None and row["datetime"] is not None]
    for row in found:
        for name in ("import_by_zone", "export_by_zone"):
            if row.get(name) is not None:
                row[name] = dict(row[name])
    return found


def latest_ingestion_wins(evidence: SilverEvidence) -> Outcome:
    """Each row carries, in every column of a feed, the record ingested last and the time since when it is known.

    Consecutive ingestions with equal content count as one, known since the first of them.
    """
    findings = []
    checked = 0
    for row in evidence.rows:
        for feed, histories in evidence.histories.items():
            record = histories.get((row["zone"], row["datetime"]))
            if record is None:
                continue
            checked += 1
            must = {**record.latest, f"ingested_at_{feed}": record.known_since}
            if feed == "power":
                must |= _of_the_roads(evidence, (row["zone"], row["datetime"]))
            wrong = list(differences(row, must))
            if wrong:
                carried = record.ingested_at_of(row)
                older = (
                    f", silver carries the one of {carried:%Y-%m-%dT%H:%M:%SZ}"
                    if carried is not None and carried < record.known_since
                    else ""
                )
                what = f"the {feed} record ingested last ({record.versions[-1][0]:%Y-%m-%dT%H:%M:%SZ}) did not win"
                findings.append(Finding(row["zone"], row["datetime"], f"{what}{older}: {differing(wrong)}"))
    return Outcome(checked, tuple(findings))


def silver_equals_bronze(evidence: SilverEvidence) -> Outcome:
    """Silver has exactly the hours that bronze has, with equal values.

    Finds beyond `latest_ingestion_wins`: missing rows, rows without a response, columns filled for a feed that did not
    deliver the hour, and a wrong partition column.
    """
    findings = []
    held: dict[Key, list[str]] = defaultdict(list)
    for feed, histories in evidence.histories.items():
        for key in histories:
            held[key].append(feed)
    for zone, hour in sorted(held.keys() - {(row["zone"], row["datetime"]) for row in evidence.rows}):
        feeds = " and ".join(held[zone, hour])
        findings.append(Finding(zone, hour, f"bronze holds its {feeds} record, silver has no row"))
    for row in evidence.rows:
        zone, hour = row["zone"], row["datetime"]
        if (zone, hour) not in held:
            findings.append(Finding(zone, hour, "no response in bronze holds this hour complete"))
            continue
        must: dict[str, Any] = {"year_month": f"{hour:%Y-%m}"}
        for feed, histories in evidence.histories.items():
            # A feed that did not deliver the hour leaves its columns null.
            must |= histories[zone, hour].latest if (zone, hour) in histories else content_of({}, feed)
        must |= _of_the_roads(evidence, (zone, hour))
        wrong = list(differences(row, must))
        if wrong:
            findings.append(Finding(zone, hour, differing(wrong)))
    return Outcome(len(evidence.rows), tuple(findings))


def _of_the_roads(evidence: SilverEvidence, key: Key) -> dict[str, Any]:
    """Which signal the power record of an hour is of, and whether it waits for a newer version."""
    record, seen = evidence.histories["power"].get(key), evidence.seen.get(key, [])
    waits = None
    if any(one.signal in NEEDED for one in seen):
        version, since = (record.latest["updated_at_power"], record.known_since) if record else (None, None)
        waits = is_superseded(seen, version, since)
    return {"source_power": record and record.source, "is_superseded_power": waits}


@dataclass(frozen=True)
class _Response:
    zone: str
    signal: str
    ingested_at: datetime
    window_end: datetime
    up_to_now: bool


def ingestion_times_are_right(evidence: SilverEvidence) -> Outcome:
    """No response has an `ingested_at` of a wrong clock: it would outrank later ones, or lose to earlier ones."""
    findings = []
    checked = 0
    for responses in (evidence.power, evidence.carbon, evidence.mix):
        if responses is None:
            continue
        rows = [row for row in responses.drop_columns("raw_json").to_pylist() if row["ingested_at"] is not None]
        checked += len(rows)
        received = [
            _Response(
                row["zone"],
                row.get("signal") or "",
                row["ingested_at"],
                row["window_end"],
                (row["source"] or "").endswith("/history"),
            )
            for row in rows
        ]
        findings += [finding_of(rows[place], what) for place, what in wrong_clocks(received, evidence.now)]
    return Outcome(checked, tuple(findings))


def differences(row: Mapping[str, Any], must: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """(name, is, must) of every column of `must` whose value differs in the row; NaN equals nothing."""
    for name, value in must.items():
        if row[name] != value or row[name] is None is not value:
            yield name, row[name], value


def content_of(record: Mapping[str, Any], feed: str) -> dict[str, Any]:
    """A record's values by silver's columns; all null for an empty record."""
    values = _power_content(record) if feed == "power" else _carbon_content(record)
    return {
        **values,
        f"is_estimated_{feed}": record.get("isEstimated"),
        f"estimation_method_{feed}": record.get("estimationMethod"),
        f"updated_at_{feed}": time_of(record.get("updatedAt")),
        f"created_at_{feed}": time_of(record.get("createdAt")),
    }


def _power_content(record: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for what in ("production", "consumption", "import", "export"):
        content[f"{what}_total"] = _number(record.get(f"power{what.title()}Total"))
    for side in ("production", "consumption"):
        modes = record.get(f"power{side.title()}Breakdown")
        for key in MODE_KEYS:
            content[f"{side}_{mode_column(key)}"] = _number(modes.get(key)) if isinstance(modes, dict) else None
    for what in ("import", "export"):
        flows = record.get(f"power{what.title()}Breakdown")
        content[f"{what}_by_zone"] = (
            {neighbour: _number(mw) for neighbour, mw in flows.items()} if isinstance(flows, dict) else None
        )
    content["fossil_free_percentage"] = _number(record.get("fossilFreePercentage"))
    content["renewable_percentage"] = _number(record.get("renewablePercentage"))
    return content


def _carbon_content(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "carbon_intensity": _number(record.get("carbonIntensity")),
        "emission_factor_type": record.get("emissionFactorType"),
    }


def _versions(responses: pa.Table, feed: str, window: Window) -> dict[Key, list[Version]]:
    """Order, content and source of each ingestion of each hour."""
    versions: dict[Key, list[Version]] = defaultdict(list)
    columns = ["zone", "source", "ingested_at", "payload_sha256", "raw_json", "trusted_json"]
    for response in responses.select(columns).to_pylist():
        ingested_at, zone = response["ingested_at"], response["zone"]
        if ingested_at is None or zone is None:
            continue
        # If a body has an hour twice, the record updated last wins, then the one further down.
        latest: dict[datetime, tuple[datetime, dict[str, Any]]] = {}
        # Skips a body that cannot be parsed, which raw_json_parses reports.
        for record in records_of(trusted_body(response)) or []:
            hour = time_of(record.get("datetime"))
            if hour is None or hour not in window or hour + HOUR > ingested_at:
                continue
            # A missing time sorts first, as null does in Spark.
            updated_at = time_of(record.get("updatedAt")) or _NEVER
            if hour not in latest or updated_at >= latest[hour][0]:
                latest[hour] = (updated_at, record)
        source = response["source"] and "/".join(response["source"].split("/")[:3])
        for hour, (updated_at, record) in latest.items():
            order = (ingested_at, updated_at, response["payload_sha256"] or "")
            versions[zone, hour].append((order, content_of(record, feed), source))
    return versions


def _of_both_roads(power: list[Version], seen: list[Seen]) -> list[Version]:
    """The records of an hour by both roads; the road that first delivered a version keeps it (docs/adr/0020)."""
    mix: list[Version] = [(order, content_of(record, "power"), source) for order, record, source in assembled(seen)]
    first: list[dict[datetime, datetime]] = []
    for road in (power, mix):
        since: dict[datetime, datetime] = {}
        for (ingested_at, _, _), content, _ in road:
            version = content["updated_at_power"]
            if version is not None:
                since[version] = min(ingested_at, since.get(version, ingested_at))
        first.append(since)
    of_mix = {version for version, at in first[1].items() if version not in first[0] or at < first[0][version]}
    return [one for one in power if one[1]["updated_at_power"] not in of_mix] + [
        one for one in mix if one[1]["updated_at_power"] in of_mix
    ]


def _histories(versions: Mapping[Key, list[Version]]) -> dict[Key, RecordHistory]:
    found = {}
    for key, of_hour in versions.items():
        ordered = sorted(of_hour, key=lambda version: version[0])
        if ordered:
            found[key] = RecordHistory(
                tuple((order[0], content) for order, content, _ in ordered), tuple(source for _, _, source in ordered)
            )
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
