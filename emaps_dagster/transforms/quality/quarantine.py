"""Check of bronze: hours whose newest record is quarantined, until the provider sends a trusted one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from emaps_dagster.contracts.body_fields import time_of
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.quality.bronze import BronzeEvidence, records_of, trusted_body
from emaps_dagster.transforms.quality.outcome import Finding, Outcome


def every_record_is_trusted(evidence: BronzeEvidence) -> Outcome:
    """No hour's newest record is quarantined, and the newest body of each zone has no record without an hour.

    Hours outside the run that ever had a quarantined record get a status of their own, so that a later run with a
    trusted record clears the warning.
    """
    findings = [
        Finding(
            row["zone"],
            row["datetime"],
            f"the record of {row['zone']} {row['datetime']:%Y-%m-%dT%H:%MZ} is quarantined: {row['reason']}",
        )
        for row in charged(evidence.rejected, evidence.mending)
    ]
    newest: dict[str, dict[str, Any]] = {}
    for row in sorted(evidence.rows, key=lambda row: row["ingested_at"]):
        newest[row["zone"]] = row
    for rejected in evidence.rejected:
        body = newest.get(rejected["zone"])
        if rejected["datetime"] is None and body is not None and _is_of(rejected, body):
            what = f"record {rejected['position']} of a body is quarantined: {rejected['reason']}"
            findings.append(Finding(rejected["zone"], body["window_start"], what, body["window_end"]))
    hours = {row["datetime"] for row in evidence.rejected if row["datetime"] is not None}
    return Outcome(len(evidence.rows), tuple(findings), tuple(sorted(hours)))


def charged(rejected: Iterable[dict[str, Any]], responses: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest rejected record of each zone and hour without a later trusted record, in order of hours.

    A record of one signal is not replaced by a record of another.

    Args:
        rejected: rows of bronze.rejected_records of one feed, with their `signal` where it has several. Skips those
            without an hour, and those of an hour that was still running at their ingestion: silver would skip the
            hour too.
        responses: rows of the feed's bronze table, all that hold these hours and were not ingested earlier.
    """
    newest: dict[tuple[str, datetime, str], dict[str, Any]] = {}
    for row in sorted(rejected, key=lambda row: (row["ingested_at"], row["position"])):
        if row["datetime"] is not None and row["datetime"] + HOUR <= row["ingested_at"]:
            newest[row["zone"], row["datetime"], row.get("signal", "")] = row
    for response in responses:
        waiting = {
            hour
            for (zone, hour, signal), row in newest.items()
            if zone == response["zone"]
            and signal == response.get("signal", "")
            and response["window_start"] <= hour < response["window_end"]
            and response["ingested_at"] >= row["ingested_at"]
            and not _is_of(row, response)
        }
        if waiting:
            for record in records_of(trusted_body(response)) or []:
                if (hour := time_of(record.get("datetime"))) in waiting:
                    newest.pop((response["zone"], hour, response.get("signal", "")), None)
    return [row for _, row in sorted(newest.items())]


def _is_of(rejected: dict[str, Any], response: dict[str, Any]) -> bool:
    return all(rejected[name] == response[name] for name in ("payload_sha256", "ingested_at"))
