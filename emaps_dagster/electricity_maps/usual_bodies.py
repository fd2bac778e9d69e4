"""Validates a body of the usual form in one pass of pydantic-core, four times as fast as record by record.

The form is narrower than what admission accepts: the fields that the API is known to send, in the way in which it
writes them. A body of any other form is left to records.py, which accepts it or names its fault. Every body of the
usual form is one that records.py accepts with the same hours (test_usual_bodies.py).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic_core import CoreSchema, SchemaValidator, ValidationError
from pydantic_core import core_schema as cs

from emaps_dagster.contracts.zones import CARBON, MODE_KEYS, POWER, Feed
from emaps_dagster.electricity_maps.fields import LARGEST_NUMBER
from emaps_dagster.electricity_maps.records import BREAKDOWNS, NUMBERS, REQUIRED
from emaps_dagster.electricity_maps.strict_json import may_hold_extreme_numbers, most_keys

# Every day that exists but 29 February, which needs the year.
_DAY = (
    r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_HOUR_OF_DAY = rf"^20[0-9]{{2}}-{_DAY}T(?:[01][0-9]|2[0-3])"


def hours_of_usual_body(body: str, feed: Feed, zone: str) -> list[datetime] | None:
    """The hours of the records, in UTC, of a body of the usual form without faults; None for any other body.

    Args:
        body: as received.
        feed: power-breakdown or carbon-intensity; a body of another signal has no usual form.
        zone: the requested zone.
    """
    # An escape could hide a repeated key. The word is the mark of sandbox data.
    if feed not in (POWER, CARBON) or not body.isascii() or "\\" in body or "sandbox" in body.lower():
        return None
    encoded = body.encode()
    if may_hold_extreme_numbers(encoded):
        return None
    try:
        envelope = _validator(feed, zone).validate_json(encoded)
    except ValidationError:
        return None
    if ("history" in envelope) == ("data" in envelope):
        return None
    rows = envelope["history"] if "history" in envelope else envelope["data"]
    # Of a key that stands twice in one object the parser keeps one: such a text has more keys than its objects.
    if len(envelope) + _keys(rows, BREAKDOWNS if feed == POWER else ()) != most_keys(encoded):
        return None
    return [datetime.fromisoformat(f"{row['datetime'][:-1]}+00:00") for row in rows]


def _keys(rows: list[dict[str, Any]], breakdowns: tuple[str, ...]) -> int:
    parts = (row.get(name) for name in breakdowns for row in rows)
    return sum(map(len, rows)) + sum(map(len, filter(None, parts)))


@lru_cache(maxsize=256)
def _validator(feed: Feed, zone: str) -> SchemaValidator:
    time = cs.nullable_schema(cs.str_schema(pattern=rf"{_HOUR_OF_DAY}:[0-5][0-9]:[0-5][0-9]\.[0-9]{{3}}Z$"))
    text = cs.nullable_schema(cs.str_schema())
    fields: dict[str, CoreSchema] = {
        "zone": cs.literal_schema([zone]),
        "updatedAt": time,
        "createdAt": time,
        "isEstimated": cs.nullable_schema(cs.bool_schema()),
        "estimationMethod": text,
        "emissionFactorType": text,
        "temporalGranularity": cs.literal_schema(["hourly"]),
    }
    number = cs.nullable_schema(cs.float_schema(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, allow_inf_nan=False))
    fields |= dict.fromkeys(NUMBERS[feed.name], number)
    if feed == POWER:
        modes = cs.nullable_schema(cs.dict_schema(cs.literal_schema(list(MODE_KEYS)), number))
        zone_key = cs.str_schema(pattern="^[A-Z]{2}(?:-[A-Z0-9]{1,8}){0,3}$")
        flows = cs.nullable_schema(cs.dict_schema(zone_key, number))
        fields |= dict.fromkeys(BREAKDOWNS[:2], modes) | dict.fromkeys(BREAKDOWNS[2:], flows)
    else:
        fields["flowTraced"] = cs.literal_schema([True])
    fields["datetime"] = cs.str_schema(pattern=rf"{_HOUR_OF_DAY}:00:00\.000Z$")
    rows = cs.list_schema(_object(fields, ("datetime", *REQUIRED[feed.name])), min_length=1)
    envelope = {name: fields[name] for name in ("zone", "temporalGranularity")} | {"history": rows, "data": rows}
    return SchemaValidator(_object(envelope, ("zone",)))


def _object(fields: dict[str, CoreSchema], required: Collection[str]) -> CoreSchema:
    """An object of these fields and no others, each of exactly its JSON type."""
    members = {name: cs.typed_dict_field(schema, required=name in required) for name, schema in fields.items()}
    return cs.typed_dict_schema(members, extra_behavior="forbid", config=cs.CoreConfig(strict=True))
