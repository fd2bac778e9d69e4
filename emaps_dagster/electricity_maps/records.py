"""Validates single records of a body. Pure, standard library only.

Accepts only values that Python, Sail and Spark's JVM parse alike; test_bodies.py shows where they differ. The error for
any other value names row and field.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from emaps_dagster.contracts.body_fields import aware_time, time_of
from emaps_dagster.contracts.zones import MODE_KEYS, POWER, Feed

HOUR = timedelta(hours=1)
# Far above any hourly mean or intensity; beyond it gold's fixed-point sums would overflow.
LARGEST_NUMBER = 1e9
_LONGEST_ZONE_KEY = 50

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
# A row without these keys does not belong to its feed, and would replace a row with values by nulls.
REQUIRED = {"power": _BREAKDOWNS[:2], "carbon": ("carbonIntensity",)}

_MODES = frozenset(MODE_KEYS)


class UnusableRecordError(ValueError):
    """The record is quarantined; the message is one phrase."""


def hour_of(row: Any, place: int, feed: Feed, zone: str) -> datetime:
    """Validates a record and returns its hour.

    Raises:
        UnusableRecordError: the record must not be loaded.
    """
    if not isinstance(row, dict):
        raise UnusableRecordError(f"row {place} is not an object")
    hour = _time(row.get("datetime"), f"datetime of row {place}")
    if (hour.minute, hour.second, hour.microsecond) != (0, 0, 0):
        raise UnusableRecordError(f"datetime of row {place} is {row['datetime']!r}, not a full UTC hour")
    name = f"row {row['datetime']}"
    if row.get("zone", zone) != zone:
        raise UnusableRecordError(f"{name} is for zone {str(row['zone'])[:50]!r}, not {zone!r}")
    refuse_case_variants(row, name)
    refuse_other_granularity(row, name)
    for field in REQUIRED[feed.name]:
        if field not in row:
            raise UnusableRecordError(f"{name} lacks the key {field!r}, so it is no row of {feed.endpoint}")
    _refuse_wrong_types(row, feed, name)
    return hour


def readable_hour(row: Any) -> datetime | None:
    """The hour of a record's `datetime`, regardless of other faults; None if it is unreadable."""
    try:
        hour = _time(row.get("datetime") if isinstance(row, dict) else None, "")
    except UnusableRecordError:
        return None
    return hour if (hour.minute, hour.second, hour.microsecond) == (0, 0, 0) else None


def hour_between(known: Mapping[int, datetime], place: int) -> datetime | None:
    """Infers the hour of a record without a readable one from its neighbours; None if they do not determine it.

    Args:
        known: the hours of other records by their indices.
        place: index of the record.
    """
    if not known:
        return None
    hours = [hour for _, hour in sorted(known.items())]
    step = -HOUR if hours[-1] < hours[0] else HOUR
    if hours != sorted(hours, reverse=step < timedelta(0)):
        return None
    before = max((other for other in known if other < place), default=None)
    after = min((other for other in known if other > place), default=None)
    if before is not None and after is not None and known[after] - known[before] != (after - before) * step:
        return None
    near = before if before is not None else after
    assert near is not None
    hour = known[near] + (place - near) * step
    return None if hour in known.values() else hour


def _refuse_wrong_types(row: dict[str, Any], feed: Feed, name: str) -> None:
    for field in ("updatedAt", "createdAt"):
        if row.get(field) is not None:
            _time(row[field], f"{field} of {name}")
    for field in ("estimationMethod", "emissionFactorType"):
        if not isinstance(row.get(field), (str, type(None))):
            raise UnusableRecordError(f"{field} of {name} is not a string")
    if not isinstance(row.get("isEstimated"), (bool, type(None))):
        raise UnusableRecordError(f"isEstimated of {name} is not true or false")
    _refuse_wrong_numbers({field: row.get(field) for field in _NUMBERS[feed.name]}, "", name)
    for field in _BREAKDOWNS if feed == POWER else ():
        if row.get(field) is not None:
            _refuse_wrong_breakdown(row[field], field, name)


def _refuse_wrong_breakdown(breakdown: Any, field: str, name: str) -> None:
    if not isinstance(breakdown, dict):
        raise UnusableRecordError(f"{field} of {name} is not an object")
    refuse_case_variants(breakdown, f"{field} of {name}")
    if field in _BREAKDOWNS[:2]:
        for key in breakdown if breakdown.keys() - _MODES else ():
            if key not in _MODES and breakdown[key] not in (None, 0):
                # Dropping the mode would lose data silently; it must be added to the contract first.
                raise UnusableRecordError(f"{field} of {name} has the mode {key[:50]!r}, which zones.py does not know")
    else:
        for key in breakdown:
            if not (0 < len(key) <= _LONGEST_ZONE_KEY and key.isprintable()):
                raise UnusableRecordError(f"{field} of {name} has {key[:50]!r} where a zone key belongs")
    _refuse_wrong_numbers(breakdown, f"{field}.", name)


def _refuse_wrong_numbers(values: dict[str, Any], where: str, name: str) -> None:
    given = [value for value in values.values() if value is not None]
    # The fast path: nearly all records have no fault; a boolean has another type.
    if {int, float}.issuperset(map(type, given)) and max(map(abs, given), default=0) <= LARGEST_NUMBER:
        return
    for key, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UnusableRecordError(f"{where}{key[:50]} of {name} is not a number")
        if abs(value) > LARGEST_NUMBER:
            raise UnusableRecordError(f"{where}{key[:50]} of {name} is beyond {LARGEST_NUMBER:g}")


def _time(value: Any, what: str) -> datetime:
    moment = time_of(value)
    if moment is None and aware_time(value):
        raise UnusableRecordError(f"{what} is {value!r}, outside the years 1901 to 2199")
    if moment is None:
        raise UnusableRecordError(
            f"{what} is {str(value)[:50]!r}, not a time with its time zone such as 2024-01-01T00:00:00.000Z"
        )
    return moment


def refuse_case_variants(part: dict[str, Any], name: str) -> None:
    """Rejects keys that differ in case only: engines that ignore case would each choose one of the two."""
    if len(set(map(str.lower, part))) == len(part):
        return
    seen: dict[str, str] = {}
    for key in part:
        other = seen.setdefault(key.lower(), key)
        if other != key:
            raise UnusableRecordError(f"{name} has the keys {other[:50]!r} and {key[:50]!r}")


def refuse_other_granularity(part: dict[str, Any], name: str) -> None:
    granularity = part.get("temporalGranularity", "hourly")
    if granularity != "hourly":
        raise UnusableRecordError(f"temporalGranularity of {name} is {str(granularity)[:50]!r}, not 'hourly'")
