"""A response, and which bodies may be loaded: strict JSON, the right zone, whole hours, no sandbox.

Pure and standard library only. Sail and the JVM disagree about JSON that is not strict, so only
strict JSON comes in. Everything else is refused with a sentence that names the row and the field.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from emaps_dagster.zones import CARBON, MODE_KEYS, Feed

# No hourly mean or intensity comes near it; beyond it gold's fixed-point sums would overflow.
LARGEST_NUMBER = 1e9

_BREAKDOWNS = (
    "powerConsumptionBreakdown",
    "powerProductionBreakdown",
    "powerImportBreakdown",
    "powerExportBreakdown",
)
_NUMBERS = {
    "power": (
        "fossilFreePercentage",
        "renewablePercentage",
        "powerConsumptionTotal",
        "powerProductionTotal",
        "powerImportTotal",
        "powerExportTotal",
    ),
    "carbon": ("carbonIntensity",),
}


@dataclass(frozen=True)
class Response:
    """One body that came with status 200. `window_*` are None until it was found usable."""

    feed: Feed
    zone: str
    endpoint: str
    request: str
    body: str
    received_at: datetime
    window_start: datetime | None = None
    window_end: datetime | None = None

    @property
    def source(self) -> str:
        return f"electricitymaps/v3/{self.feed.endpoint}/{self.endpoint}"

    @property
    def payload_sha256(self) -> str:
        return hashlib.sha256(self.body.encode()).hexdigest()


class UnusableBodyError(ValueError):
    """Why a body is refused, as one phrase."""


def hours_of_body(body: str, feed: Feed, zone: str) -> tuple[datetime, datetime]:
    """First hour and end of the last hour of a usable body.

    Args:
        body: the response as text.
        feed: the signal that was asked for.
        zone: the zone that was asked for.

    Raises:
        UnusableBodyError: the body must not be loaded.
    """
    rows = _rows(_parse(body), zone)
    hours = [_hour_of_row(row, place, feed, zone) for place, row in enumerate(rows)]
    return min(hours), max(hours) + timedelta(hours=1)


def _parse(body: str) -> dict[str, Any]:
    if body.startswith("\ufeff"):
        raise UnusableBodyError("it begins with a byte order mark")
    try:
        parsed = json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
    except UnusableBodyError:
        raise
    except RecursionError:
        raise UnusableBodyError("it is nested too deeply to be one of the API's") from None
    except ValueError as error:
        raise UnusableBodyError(f"it is not strict JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise UnusableBodyError(f"it is a JSON {type(parsed).__name__}, not an object")
    return parsed


def _refuse_constant(name: str) -> None:
    raise UnusableBodyError(f"it is not strict JSON ({name} is no number)")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UnusableBodyError(f"the key {twice[:50]!r} stands twice in one object")
    return result


def _rows(envelope: dict[str, Any], zone: str) -> list[Any]:
    _refuse_sandbox(envelope, "the body")
    if envelope.get("zone") != zone:
        raise UnusableBodyError(f"it is for zone {str(envelope.get('zone'))[:50]!r}, not {zone!r}")
    if envelope.get("temporalGranularity", "hourly") != "hourly":
        raise UnusableBodyError(f"its granularity is {str(envelope['temporalGranularity'])[:50]!r}, not 'hourly'")
    lists = [name for name in ("history", "data") if name in envelope]
    if len(lists) != 1:
        raise UnusableBodyError("it has both 'history' and 'data'" if lists else "it has neither 'history' nor 'data'")
    rows = envelope[lists[0]]
    if not isinstance(rows, list):
        raise UnusableBodyError(f"{lists[0]!r} is not a list")
    if not rows:
        raise UnusableBodyError("it has no rows")
    return rows


def _hour_of_row(row: Any, place: int, feed: Feed, zone: str) -> datetime:
    if not isinstance(row, dict):
        raise UnusableBodyError(f"row {place} is not an object")
    hour = _time(row.get("datetime"), f"datetime of row {place}")
    if (hour.minute, hour.second, hour.microsecond) != (0, 0, 0):
        raise UnusableBodyError(f"datetime of row {place} is {row['datetime']!r}, not a full UTC hour")
    name = f"row {row['datetime']}"
    if row.get("zone", zone) != zone:
        raise UnusableBodyError(f"{name} is for zone {str(row['zone'])[:50]!r}, not {zone!r}")
    _refuse_sandbox(row, name)
    for field in ("updatedAt", "createdAt"):
        if row.get(field) is not None:
            _time(row[field], f"{field} of {name}")
    for field in ("estimationMethod", "emissionFactorType"):
        if not isinstance(row.get(field), (str, type(None))):
            raise UnusableBodyError(f"{field} of {name} is not a string")
    if not isinstance(row.get("isEstimated"), (bool, type(None))):
        raise UnusableBodyError(f"isEstimated of {name} is not true or false")
    for field, value in _numbers(row, feed, name):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UnusableBodyError(f"{field} of {name} is not a number")
        if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
            raise UnusableBodyError(f"{field} of {name} is beyond {LARGEST_NUMBER:g}")
    return hour


def _numbers(row: dict[str, Any], feed: Feed, name: str) -> Iterator[tuple[str, Any]]:
    for field in _NUMBERS[feed.name]:
        yield field, row.get(field)
    if feed == CARBON:
        return
    for field in _BREAKDOWNS:
        breakdown = row.get(field)
        if breakdown is None:
            continue
        if not isinstance(breakdown, dict):
            raise UnusableBodyError(f"{field} of {name} is not an object")
        modes = field in _BREAKDOWNS[:2]
        for key, value in breakdown.items():
            if modes and key not in MODE_KEYS and value not in (None, 0):
                # Dropping it would be a silent loss; the contract has to learn the mode first.
                raise UnusableBodyError(f"{field} of {name} has the mode {key[:50]!r}, which zones.py does not know")
            yield f"{field}.{key[:50]}", value


def _time(value: Any, what: str) -> datetime:
    try:
        # 3.10 reads neither Z nor three digits of a second everywhere; 2024-03-06T19:00:00.000Z it must.
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (AttributeError, TypeError, ValueError):
        raise UnusableBodyError(f"{what} is {str(value)[:50]!r}, not an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise UnusableBodyError(f"{what} is {value!r}, without a time zone")
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise UnusableBodyError(f"{what} is {value!r}, outside the calendar") from None


def _refuse_sandbox(part: dict[str, Any], name: str) -> None:
    marks = (str(part.get("_disclaimer", "")), str(part.get("estimationMethod", "")))
    if any("sandbox" in mark.lower() for mark in marks):
        raise UnusableBodyError(f"{name} is marked as the provider's sandbox data")
