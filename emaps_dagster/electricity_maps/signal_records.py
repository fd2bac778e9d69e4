"""Validates the records of v4's signals of the power feed. Pure, standard library only."""

from __future__ import annotations

from typing import Any

from emaps_dagster.contracts.signals import CARBON_FREE, FLOWS, MIX, RENEWABLE, STORAGE_KEYS, TRACED_MIX
from emaps_dagster.contracts.zones import MODE_KEYS, Feed
from emaps_dagster.electricity_maps.fields import (
    UnusableRecordError,
    refuse_case_variants,
    refuse_wrong_flows,
    refuse_wrong_numbers,
)

# The keys without which a row belongs to another signal.
SIGNAL_FIELDS: dict[str, tuple[str, ...]] = {
    MIX.name: ("mix",),
    TRACED_MIX.name: ("mix",),
    FLOWS.name: ("import", "export"),
    RENEWABLE.name: ("value",),
    CARBON_FREE.name: ("value",),
}
_NUMBERS = frozenset(MODE_KEYS) - set(STORAGE_KEYS.values())
_STORAGE = ("charge", "discharge")
_TOTALS = ("exports", "imports")


def refuse_wrong_signal(row: dict[str, Any], feed: Feed, name: str) -> None:
    """Rejects a record of a signal that must not be loaded.

    Args:
        row: the record, with the keys of `SIGNAL_FIELDS`.
        feed: the signal.
        name: of the record, for messages.

    Raises:
        UnusableRecordError: a value is of a wrong type, or the row is not what was requested.
    """
    if row.get("updatedAt") is None:
        # The version by which the signals of an hour are put together.
        raise UnusableRecordError(f"{name} has no updatedAt, so its version is unknown")
    if "unit" in row and row["unit"] != feed.unit:
        raise UnusableRecordError(f"unit of {name} is {str(row['unit'])[:50]!r}, not {feed.unit!r}")
    if feed.breakdown is not None:
        given = row.get("breakdownType")
        if given != feed.breakdown:
            raise UnusableRecordError(f"breakdownType of {name} is {str(given)[:50]!r}, not {feed.breakdown!r}")
        _refuse_wrong_mix(row["mix"], name)
    elif feed == FLOWS:
        for field in SIGNAL_FIELDS[feed.name]:
            if not isinstance(row[field], dict):
                raise UnusableRecordError(f"{field} of {name} is not an object")
            refuse_wrong_flows(row[field], field, name)
    else:
        refuse_wrong_numbers({"value": row["value"]}, "", name)


def _refuse_wrong_mix(mix: Any, name: str) -> None:
    if not isinstance(mix, dict):
        raise UnusableRecordError(f"mix of {name} is not an object")
    refuse_case_variants(mix, f"mix of {name}")
    for key, value in mix.items():
        if key in STORAGE_KEYS:
            _refuse_wrong_parts(value, _STORAGE, key, name)
        elif key == "flows":
            _refuse_wrong_parts(value, _TOTALS, key, name)
        elif key not in _NUMBERS and not _is_nothing(value):
            # Dropping the mode would lose data silently; it must be added to the contract first.
            raise UnusableRecordError(f"mix of {name} has the mode {key[:50]!a}, which zones.py does not know")
    refuse_wrong_numbers({key: mix[key] for key in _NUMBERS if key in mix}, "mix.", name)


def _is_nothing(value: Any) -> bool:
    """Whether a mode or storage that we do not know reports nothing: null or 0, or an object of these."""
    if isinstance(value, dict):
        return all(not isinstance(part, dict) and _is_nothing(part) for part in value.values())
    return value is None or (value == 0 and not isinstance(value, bool))


def _refuse_wrong_parts(part: Any, known: tuple[str, ...], key: str, name: str) -> None:
    """Rejects an object of the mix with other keys than the known ones, or with values that are no amounts."""
    if part is None:
        return
    if not isinstance(part, dict):
        raise UnusableRecordError(f"mix.{key} of {name} is not an object")
    for other in part:
        if other not in known:
            raise UnusableRecordError(f"mix.{key} of {name} has the key {other[:50]!r}, not {' or '.join(known)}")
    refuse_wrong_numbers(part, f"mix.{key}.", name)
    for field, value in part.items():
        if value is not None and value < 0:
            raise UnusableRecordError(f"mix.{key}.{field} of {name} is {value:g}, below 0")
