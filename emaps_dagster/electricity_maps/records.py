"""Validates single records of a body. Pure, standard library only.

Accepts only values that Python, Sail and Spark's JVM parse alike; test_bodies.py shows where they differ. The error for
any other value names row and field.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from emaps_dagster.contracts.zones import MODE_KEYS, POWER, Feed
from emaps_dagster.electricity_maps.fields import (
    UnusableRecordError,
    moment_of,
    refuse_case_variants,
    refuse_other_granularity,
    refuse_untraced,
    refuse_wrong_flows,
    refuse_wrong_numbers,
)
from emaps_dagster.electricity_maps.signal_records import SIGNAL_FIELDS, refuse_wrong_signal

HOUR = timedelta(hours=1)

BREAKDOWNS = (
    "powerConsumptionBreakdown",
    "powerProductionBreakdown",
    "powerImportBreakdown",
    "powerExportBreakdown",
)
NUMBERS = {
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
REQUIRED = {"power": BREAKDOWNS[:2], "carbon": ("carbonIntensity",), **SIGNAL_FIELDS}

_MODES = frozenset(MODE_KEYS)


def hour_of(row: Any, place: int, feed: Feed, zone: str) -> datetime:
    """Validates a record and returns its hour.

    Raises:
        UnusableRecordError: the record must not be loaded.
    """
    if not isinstance(row, dict):
        raise UnusableRecordError(f"row {place} is not an object")
    hour = moment_of(row.get("datetime"), f"datetime of row {place}")
    if (hour.minute, hour.second, hour.microsecond) != (0, 0, 0):
        raise UnusableRecordError(f"datetime of row {place} is {row['datetime']!r}, not a full UTC hour")
    name = f"row {row['datetime']}"
    if row.get("zone", zone) != zone:
        raise UnusableRecordError(f"{name} is for zone {str(row['zone'])[:50]!r}, not {zone!r}")
    refuse_case_variants(row, name)
    refuse_other_granularity(row, name)
    refuse_untraced(row, feed, name)
    for field in REQUIRED[feed.name]:
        if field not in row:
            raise UnusableRecordError(f"{name} lacks the key {field!r}, so it is no row of {feed.endpoint}")
    _refuse_wrong_types(row, feed, name)
    return hour


def readable_hour(row: Any) -> datetime | None:
    """The hour of a record's `datetime`, regardless of other faults; None if it is unreadable."""
    try:
        hour = moment_of(row.get("datetime") if isinstance(row, dict) else None, "")
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
            moment_of(row[field], f"{field} of {name}")
    for field in ("estimationMethod", "emissionFactorType"):
        if not isinstance(row.get(field), (str, type(None))):
            raise UnusableRecordError(f"{field} of {name} is not a string")
    if not isinstance(row.get("isEstimated"), (bool, type(None))):
        raise UnusableRecordError(f"isEstimated of {name} is not true or false")
    if feed.name in SIGNAL_FIELDS:
        refuse_wrong_signal(row, feed, name)
        return
    refuse_wrong_numbers({field: row.get(field) for field in NUMBERS[feed.name]}, "", name)
    for field in BREAKDOWNS if feed == POWER else ():
        if row.get(field) is not None:
            _refuse_wrong_breakdown(row[field], field, name)


def _refuse_wrong_breakdown(breakdown: Any, field: str, name: str) -> None:
    if not isinstance(breakdown, dict):
        raise UnusableRecordError(f"{field} of {name} is not an object")
    refuse_case_variants(breakdown, f"{field} of {name}")
    if field in BREAKDOWNS[:2]:
        for key in () if _MODES.issuperset(breakdown) else breakdown:
            if key not in _MODES and breakdown[key] not in (None, 0):
                # Dropping the mode would lose data silently; it must be added to the contract first.
                raise UnusableRecordError(f"{field} of {name} has the mode {key[:50]!a}, which zones.py does not know")
    else:
        refuse_wrong_flows(breakdown, field, name)
        return
    refuse_wrong_numbers(breakdown, f"{field}.", name)
