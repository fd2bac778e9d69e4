"""Checks of single fields that the records of every signal share. Pure, standard library only."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from emaps_dagster.contracts.body_fields import aware_time, time_of
from emaps_dagster.contracts.signals import CARBON_FREE, RENEWABLE
from emaps_dagster.contracts.zones import CARBON, Feed

# Far above any hourly mean or intensity; beyond it gold's fixed-point sums would overflow.
LARGEST_NUMBER = 1e9
_LONGEST_ZONE_KEY = 50
_NUMERIC = frozenset((int, float, type(None)))
# Signals of what is consumed: without tracing the API serves those of local production under the same keys.
_TRACED = (CARBON, RENEWABLE, CARBON_FREE)


class UnusableRecordError(ValueError):
    """The record is quarantined; the message is one phrase."""


def refuse_wrong_flows(flows: dict[str, Any], field: str, name: str) -> None:
    """Rejects a map of flows whose keys are no zone keys or whose values are no numbers."""
    refuse_case_variants(flows, f"{field} of {name}")
    for key in flows:
        if not (0 < len(key) <= _LONGEST_ZONE_KEY and key.isprintable()):
            raise UnusableRecordError(f"{field} of {name} has {key[:50]!r} where a zone key belongs")
    refuse_wrong_numbers(flows, f"{field}.", name)


def refuse_wrong_numbers(values: dict[str, Any], where: str, name: str) -> None:
    """Rejects values that are neither null nor a number of the size of one."""
    # The fast path: nearly all records have no fault; a boolean has another type. The filter leaves nulls and 0 out.
    given = values.values()
    if _NUMERIC.issuperset(map(type, given)) and max(map(abs, filter(None, given)), default=0) <= LARGEST_NUMBER:
        return
    for key, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UnusableRecordError(f"{where}{key[:50]} of {name} is not a number")
        if abs(value) > LARGEST_NUMBER:
            raise UnusableRecordError(f"{where}{key[:50]} of {name} is beyond {LARGEST_NUMBER:g}")


def moment_of(value: Any, what: str) -> datetime:
    """Parses a time of a record to UTC.

    Raises:
        UnusableRecordError: engines would read it differently, or not at all.
    """
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
    if not _differ_in_case(tuple(part)):
        return
    seen: dict[str, str] = {}
    for key in part:
        other = seen.setdefault(key.lower(), key)
        if other != key:
            raise UnusableRecordError(f"{name} has the keys {other[:50]!r} and {key[:50]!r}")


@lru_cache(maxsize=256)
def _differ_in_case(keys: tuple[str, ...]) -> bool:
    """Whether some keys differ in case only. Records of a feed have the same keys, so nearly all answers are known."""
    return len(set(map(str.lower, keys))) < len(keys)


def refuse_untraced(part: dict[str, Any], feed: Feed, name: str) -> None:
    """Rejects values of local production where those of consumption, imports included, belong."""
    if part.get("flowTraced") is False and feed in _TRACED:
        raise UnusableRecordError(f"flowTraced of {name} is false, so it is of production instead of consumption")


def refuse_other_granularity(part: dict[str, Any], name: str) -> None:
    granularity = part.get("temporalGranularity", "hourly")
    if granularity != "hourly":
        raise UnusableRecordError(f"temporalGranularity of {name} is {str(granularity)[:50]!r}, not 'hourly'")
