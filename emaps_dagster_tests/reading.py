"""An oracle of our own making that shares no code with the package: bodies read by plain Python."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

Key = tuple[str, datetime]


def latest_by_hand(
    responses: Iterable[tuple[str, dict[str, Any], datetime, str]],
) -> dict[Key, tuple[dict[str, Any], datetime]]:
    """The record of each (zone, hour) that counts, and since when its content is known.

    Args:
        responses: of one feed, as (zone, parsed body, ingested at, body as text).
    """
    readings: dict[Key, list[tuple[Any, ...]]] = defaultdict(list)
    for zone, parsed, ingested_at, text in responses:
        digest = hashlib.sha256(text.encode()).hexdigest()
        for place, row in enumerate(parsed.get("history") or parsed.get("data") or []):
            hour = datetime.fromisoformat(row["datetime"].replace("Z", "+00:00"))
            if ingested_at - hour < timedelta(hours=1):
                continue
            readings[zone, hour].append((ingested_at, row.get("updatedAt") or "", digest, place, row))
    found = {}
    for key, told in readings.items():
        told.sort(key=lambda reading: reading[:4])
        content = _without_nulls(told[-1][4])
        since = told[-1][0]
        for reading in reversed(told):
            if _without_nulls(reading[4]) != content:
                break
            since = reading[0]
        found[key] = (told[-1][4], since)
    return found


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None and name != "zone"}
