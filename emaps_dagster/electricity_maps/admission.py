"""Admits the records of a body, quarantines single records, or rejects the body. Pure, no I/O.

A body is rejected as a whole only if none of its records can be trusted; a fault of one record quarantines that record
(records.py) and admits all others (docs/adr/0012).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from emaps_dagster.contracts.body_fields import sandbox_mark, sandbox_mark_of_body, without_depths
from emaps_dagster.contracts.responses import AcceptedResponse, RawResponse, RejectedRecord
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import Feed
from emaps_dagster.electricity_maps import strict_json
from emaps_dagster.electricity_maps.fields import (
    UnusableRecordError,
    refuse_case_variants,
    refuse_other_granularity,
    refuse_untraced,
)
from emaps_dagster.electricity_maps.records import HOUR, REQUIRED, hour_between, hour_of, readable_hour
from emaps_dagster.electricity_maps.strict_json import Part, UnusableJSONError
from emaps_dagster.electricity_maps.usual_bodies import hours_of_usual_body

# Fifty times the longest response of the API, ten days of power-breakdown.
_LONGEST_BODY = 16_000_000
# Keys of the envelope that admission reads: a repeated one would be ambiguous.
_READ = ("zone", "history", "data", "temporalGranularity", "unit", "flowTraced", "_disclaimer", "estimationMethod")
# A request for at most so many hours, such as one of `gaps`, may cover only hours whose records are bad.
_FEW_HOURS = timedelta(days=1)
# Farther from the request, a record counts as one without a readable hour.
_ABSURD = timedelta(days=366)
# Before the first hour that a record may have.
_EVER = datetime(1902, 1, 3, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Reach:
    """The hours [start, end) that a response may hold; `beyond` completes the sentence about hours outside them.

    `asked` are the requested hours, if they are known; `later` completes the sentence about hours from `end` on.
    """

    start: datetime
    end: datetime
    beyond: str
    asked: tuple[datetime, datetime] | None = None
    later: str = ""

    def __contains__(self, hour: datetime) -> bool:
        return self.start <= hour < self.end

    def why_outside(self, hour: datetime) -> str:
        return self.later if self.later and hour >= self.end else self.beyond


class UnusableBodyError(ValueError):
    """The body is rejected as a whole; the message is one phrase."""


def admitted(response: RawResponse, reach: Reach | None = None) -> AcceptedResponse:
    """Validates a response: returns it with its window, its trusted body and its quarantined records.

    Args:
        response: as received.
        reach: records of hours beyond it are quarantined, and those of hours that had not begun when the response
            was sent; None admits any other hour.

    Raises:
        UnusableBodyError: none of its records can be trusted.
    """
    reach = _without_hours_to_come(reach, response.ends_by)
    try:
        # The fast path: nearly all bodies have no fault.
        hours = _hours_of_good_body(response.body, response.feed, response.zone)
        first, last = min(hours), max(hours)
        if reach is None or (first in reach and last in reach):
            return AcceptedResponse.of(response, Window(first, last + HOUR))
    except (UnusableBodyError, UnusableRecordError, UnusableJSONError):
        pass
    return _admitted_one_by_one(response, reach)


def _without_hours_to_come(reach: Reach | None, ends_by: datetime | None) -> Reach | None:
    if ends_by is None or (reach is not None and reach.end <= ends_by):
        return reach
    later = "after the hour in which the provider sent it"
    return Reach(_EVER, ends_by, later) if reach is None else replace(reach, end=ends_by, later=later)


def is_sandbox(response: RawResponse) -> bool:
    """Whether a body that can be parsed is marked as the provider's sandbox data."""
    try:
        return sandbox_mark_of_body(json.loads(without_depths(response.body), parse_int=float)) is not None
    except (ValueError, RecursionError):
        return False


def hours_of_body(body: str, feed: Feed, zone: str) -> Window:
    """The hours from the first to the last record of a body without faults.

    Raises:
        UnusableBodyError: a record cannot be trusted.
    """
    try:
        hours = _hours_of_good_body(body, feed, zone)
    except (UnusableRecordError, UnusableJSONError) as error:
        raise UnusableBodyError(str(error)) from None
    return Window(min(hours), max(hours) + HOUR)


def _hours_of_good_body(body: str, feed: Feed, zone: str) -> list[datetime]:
    _refuse_unusable_text(body)
    usual = hours_of_usual_body(body, feed, zone)
    if usual is not None:
        return usual
    envelope = strict_json.parse(body)
    if not isinstance(envelope, dict):
        raise UnusableBodyError(f"it is a JSON {type(envelope).__name__}, not an object")
    refuse_case_variants(envelope, "the body")
    rows = envelope[_name_of_rows(envelope, feed, zone)]
    for row in rows:
        if isinstance(row, dict):
            _refuse_sandbox(row, "a row")
    return [hour_of(row, place, feed, zone) for place, row in enumerate(rows)]


def _admitted_one_by_one(response: RawResponse, reach: Reach | None) -> AcceptedResponse:
    feed, zone, body = response.feed, response.zone, response.body
    name, parts = _rows(body, feed, zone)
    few = reach.asked if reach and reach.asked and reach.asked[1] - reach.asked[0] <= _FEW_HOURS else None
    _refuse_sandbox_rows(parts)
    if few is None:
        _refuse_other_answers(parts, feed, zone)
    trusted: list[tuple[Part, datetime]] = []
    wrong: dict[int, str] = {}
    readable: dict[int, datetime] = {}
    for place, part in enumerate(parts):
        hour = readable_hour(part.value)
        if hour is not None and (reach is None or hour in reach):
            readable[place] = hour
        try:
            hour = hour_of(strict_json.parse(body[part.start : part.end]), place, feed, zone)
        except (UnusableRecordError, UnusableJSONError) as error:
            wrong[place] = str(error)
            continue
        if place in readable:
            trusted.append((part, hour))
        else:
            assert reach is not None
            wrong[place] = f"datetime of row {place} is {hour:%Y-%m-%dT%H:%MZ}, {reach.why_outside(hour)}"
    elsewhere = _elsewhere(parts, reach)
    if len(elsewhere) > len(parts) / 2:
        raise UnusableBodyError(_why_unusable([*elsewhere, *readable.values()], wrong, reach))
    if readable:
        hours = [hour for _, hour in trusted] or list(readable.values())
        start, end = min(hours), max(hours) + HOUR
    elif few is not None and not elsewhere:
        start, end = few
    else:
        raise UnusableBodyError(_why_unusable([*elsewhere, *readable.values()], wrong, reach))
    rejected = [
        RejectedRecord(place, readable.get(place), body[parts[place].start : parts[place].end], reason)
        for place, reason in wrong.items()
    ]
    if readable:
        rejected = [r if r.hour else replace(r, hour=hour_between(readable, r.position)) for r in rejected]
    elif len(parts) == (end - start) // HOUR:
        rejected = [replace(record, hour=start + record.position * HOUR) for record in rejected]
    # Copies the text of each record, so that a number keeps its digits.
    texts = ",".join(body[part.start : part.end] for part, _ in trusted)
    return AcceptedResponse.of(
        response,
        Window(start, end),
        trusted_json=f'{{"zone":{json.dumps(zone)},"{name}":[{texts}]}}',
        rejected=tuple(rejected),
    )


def _rows(body: str, feed: Feed, zone: str) -> tuple[str, list[Part]]:
    """The name and the elements of a body's list of records; ignores the other fields of the envelope."""
    _refuse_unusable_text(body)
    body = without_depths(body)
    try:
        members = strict_json.members(body)
    except UnusableJSONError as error:
        raise UnusableBodyError(str(error)) from None
    seen: dict[str, str] = {}
    for member in members:
        if member.key.lower() not in map(str.lower, _READ):
            continue
        other = seen.setdefault(member.key.lower(), member.key)
        if other != member.key:
            raise UnusableBodyError(f"the body has the keys {other!r} and {member.key!r}")
        if sum(member.key == other_member.key for other_member in members) > 1:
            raise UnusableBodyError(f"the key {member.key!r} stands twice in one object")
    name = _name_of_rows({member.key: member.value for member in members}, feed, zone)
    start = next(member.start for member in members if member.key == name)
    return name, list(strict_json.elements(body, start))


def _name_of_rows(envelope: dict[str, Any], feed: Feed, zone: str) -> str:
    """The key of the envelope that holds the records."""
    _refuse_sandbox(envelope, "the body")
    if envelope.get("zone") != zone:
        raise UnusableBodyError(f"it is for zone {str(envelope.get('zone'))[:50]!r}, not {zone!r}")
    try:
        refuse_other_granularity(envelope, "the body")
        refuse_untraced(envelope, feed, "the body")
    except UnusableRecordError as error:
        raise UnusableBodyError(str(error)) from None
    if feed.unit is not None and envelope.get("unit", feed.unit) != feed.unit:
        raise UnusableBodyError(f"its unit is {str(envelope['unit'])[:50]!r}, not {feed.unit!r}")
    lists = [name for name in ("history", "data") if name in envelope]
    if len(lists) != 1:
        raise UnusableBodyError("it has both 'history' and 'data'" if lists else "it has neither 'history' nor 'data'")
    rows = envelope[lists[0]]
    if not isinstance(rows, list):
        raise UnusableBodyError(f"{lists[0]!r} is not a list")
    if not rows:
        raise UnusableBodyError("it has no rows")
    return lists[0]


def _refuse_unusable_text(body: str) -> None:
    if body.startswith("\ufeff"):
        raise UnusableBodyError("it begins with a byte order mark")
    if len(body) > _LONGEST_BODY:
        raise UnusableBodyError(f"it has {len(body):,} characters, far more than any answer of the API")
    if strict_json.has_half_a_character(body):
        raise UnusableBodyError("it has half a character (a lone surrogate)")


def _refuse_sandbox_rows(parts: Sequence[Part]) -> None:
    for part in parts:
        if isinstance(part.value, dict):
            _refuse_sandbox(part.value, f"row {str(part.value.get('datetime'))[:50]}")


def _refuse_other_answers(parts: Sequence[Part], feed: Feed, zone: str) -> None:
    """Rejects a response to another request: every row is of another zone, granularity or signal."""
    rows = [part.value for part in parts if isinstance(part.value, dict)]
    if not rows:
        return
    name = f"row {str(rows[0].get('datetime'))[:50]}"
    if all(row.get("zone", zone) != zone for row in rows):
        raise UnusableBodyError(f"{name} is for zone {str(rows[0]['zone'])[:50]!r}, not {zone!r}, as is every row")
    granularities = [row.get("temporalGranularity", "hourly") for row in rows]
    if "hourly" not in granularities:
        first = str(granularities[0])[:50]
        raise UnusableBodyError(f"temporalGranularity of {name} is {first!r}, not 'hourly', as is that of every row")
    if feed.breakdown is not None and all(row.get("breakdownType") != feed.breakdown for row in rows):
        given = str(rows[0].get("breakdownType"))[:50]
        raise UnusableBodyError(
            f"breakdownType of {name} is {given!r}, not {feed.breakdown!r}, as is that of every row"
        )
    own = set(REQUIRED[feed.name])
    others = {key for keys in REQUIRED.values() for key in keys} - own
    if all(own.isdisjoint(row) and not others.isdisjoint(row) for row in rows):
        lacks = REQUIRED[feed.name][0]
        raise UnusableBodyError(f"{name} lacks the key {lacks!r}, so it is no row of {feed.endpoint}, nor is any other")


def _elsewhere(parts: Sequence[Part], reach: Reach | None) -> list[datetime]:
    """Hours of rows beyond reach, as in a response to another request."""
    if reach is None:
        return []
    hours = [hour for part in parts if (hour := readable_hour(part.value)) is not None and hour not in reach]
    return [hour for hour in hours if reach.start - _ABSURD < hour < reach.end + _ABSURD]


def _why_unusable(hours: Sequence[datetime], wrong: dict[int, str], reach: Reach | None) -> str:
    """Reason why no record of a body can be trusted."""
    if reach is None or not hours:
        return wrong[0] + (f", and no row has a readable hour ({len(wrong)} rows)" if len(wrong) > 1 else "")
    first, last = min(hours), max(hours) + HOUR
    return f"its hours [{first:%Y-%m-%dT%H:%MZ}, {last:%Y-%m-%dT%H:%MZ}) lie {reach.why_outside(last - HOUR)}"


def _refuse_sandbox(part: dict[str, Any], name: str) -> None:
    if sandbox_mark(part):
        raise UnusableBodyError(f"{name} is marked as the provider's sandbox data")
