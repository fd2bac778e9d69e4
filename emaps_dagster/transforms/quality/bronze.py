"""Checks of bronze: every stored body can be parsed again, and none is sandbox data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from emaps_dagster.contracts.body_fields import sandbox_mark_of_body, time_of, without_depths
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.quality.outcome import Finding, Outcome


@dataclass(frozen=True)
class BronzeEvidence:
    """The responses of one bronze table that share an hour with the run, as `tables.POWER_DATA`.

    `rejected` are the feed's quarantined records of hours near the run (rows of `tables.REJECTED_RECORDS`), `mending`
    the responses that contain those hours.
    """

    responses: pa.Table
    rejected: tuple[dict[str, Any], ...] = ()
    mending: tuple[dict[str, Any], ...] = ()

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return list(self.responses.to_pylist())


def raw_json_parses(evidence: BronzeEvidence) -> Outcome:
    """Every body is strict JSON and matches its row of bronze: zone, first and last hour, hash."""
    findings = [finding_of(row, what) for row in evidence.rows for what in _wrong_with(row)]
    return Outcome(len(evidence.rows), tuple(findings))


def no_sandbox_data(evidence: BronzeEvidence) -> Outcome:
    """No body and no record has a sandbox mark; admission uses the same definition (contracts/body_fields.py)."""
    findings = []
    for row in evidence.rows:
        mark = sandbox_mark_of_body(_parsed(row["raw_json"], strict=False))
        if mark:
            findings.append(finding_of(row, f"the body carries the provider's sandbox marker in {mark}"))
    return Outcome(len(evidence.rows), tuple(findings))


def trusted_body(row: dict[str, Any]) -> str | None:
    """The body of a row of bronze without its quarantined records."""
    body: str | None = row["raw_json"] if row.get("trusted_json") is None else row["trusted_json"]
    return body


def records_of(raw_json: str | None, *, strict: bool = True) -> list[dict[str, Any]] | None:
    """The records of a body; None when it is not JSON with a list of them. Without `strict`, NaN and Infinity pass."""
    body = _parsed(raw_json, strict=strict)
    if not isinstance(body, dict):
        return None
    records = body["history"] if body.get("history") is not None else body.get("data")
    return [record for record in records if isinstance(record, dict)] if isinstance(records, list) else None


def _parsed(raw_json: str | None, *, strict: bool) -> Any:
    """The parsed body; None when it is not JSON. Without `strict`, NaN and Infinity pass."""
    text = raw_json or ""
    try:
        # A quarantined number may have more digits than Python converts to an int.
        return json.loads(
            text if strict else without_depths(text), parse_constant=_refuse if strict else None, parse_int=float
        )
    except (ValueError, RecursionError):
        return None


def _wrong_with(row: dict[str, Any]) -> Iterator[str]:
    raw = row["raw_json"]
    if raw is None or hashlib.sha256(raw.encode()).hexdigest() != row["payload_sha256"]:
        yield f"the body's SHA-256 is not the stored one ({row['payload_sha256']})"
    # Quarantined records need not be strict JSON.
    whole, readable = records_of(raw, strict=row.get("trusted_json") is None), trusted_body(row)
    records = records_of(readable)
    if whole is None or records is None:
        yield "the body is not strict JSON with a list of records"
        return
    if row.get("trusted_json") is not None:
        if any(record not in whole for record in records):
            yield "trusted_json has a record that the body has not"
        if not records:
            # All records are quarantined, and the window is theirs.
            return
    zone = json.loads(readable or "").get("zone")
    zones = {str(name) for name in (zone, *(record.get("zone", zone) for record in records))}
    if zones != {row["zone"]}:
        yield f"the body is for {', '.join(sorted(zones))}, stored under {row['zone']}"
    hours = [time_of(record.get("datetime")) for record in records]
    known = [hour for hour in hours if hour is not None]
    if not known or len(known) < len(hours):
        yield f"{len(hours) - len(known)} of {len(hours)} records have no hour"
    elif (min(known), max(known) + HOUR) != (row["window_start"], row["window_end"]):
        span = f"[{min(known):%Y-%m-%dT%H:%MZ}, {max(known) + HOUR:%Y-%m-%dT%H:%MZ})"
        yield f"the body holds {span}, another window is stored"


def finding_of(row: dict[str, Any], what: str) -> Finding:
    """A finding about a response, identified in the form that the job `withdraw` accepts."""
    received = f"{row['ingested_at']:%Y-%m-%dT%H:%M:%SZ}" if row["ingested_at"] else "an unknown time"
    named = f"{row['request']}, received {received}, payload_sha256 {row['payload_sha256']}"
    return Finding(row["zone"] or "", row["window_start"], f"{what}: {named}", row["window_end"])


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")
