"""Checks silver against bronze: parses bodies with Python's JSON, record by record, without window function or join."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emaps_dagster.transforms.quality.bronze import finding_of
from emaps_dagster.transforms.quality.clocks import wrong_clocks
from emaps_dagster.transforms.quality.mix import NEEDED, is_superseded
from emaps_dagster.transforms.quality.outcome import Finding, Outcome, differing
from emaps_dagster.transforms.quality.silver_evidence import Key, SilverEvidence, content_of, differences


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
