"""A response, and which bodies may be loaded. Pure, standard library only.

Let in is what Python, Sail and Spark's JVM read alike; test_bodies.py shows where they differ. All else
is refused with a phrase that names row and field. A number of more than 15 digits is let in, though Sail may
read it two units in the last place off: losing the hour would be worse.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from emaps_dagster.records import aware_time, sandbox_mark, time_of
from emaps_dagster.zones import MODE_KEYS, POWER, Feed

# No hourly mean or intensity comes near it; beyond it gold's fixed-point sums would overflow.
LARGEST_NUMBER = 1e9

# Fifty times the longest answer of the API, ten days of power-breakdown.
_LONGEST_BODY = 16_000_000
# The API nests five deep. Sail gives up at 128 and Python at 1,000, both for the whole body.
_DEEPEST = 32
# The JVM gives up, for the whole body, at numbers of 1,000 digits and keys of 50,000 characters.
_LONGEST_NUMBER = 100
_LONGEST_KEY = 1000
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
# Without these keys a row is none of its feed, and would replace one that says something by nulls.
_REQUIRED = {"power": _BREAKDOWNS[:2], "carbon": ("carbonIntensity",)}

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_CONTAINERS = frozenset((dict, list))
_MODES = frozenset(MODE_KEYS)


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
    if len(body) > _LONGEST_BODY:
        raise UnusableBodyError(f"it has {len(body):,} characters, far more than any answer of the API")
    encoded = body.encode(errors="surrogatepass")
    integer, decimal = (_integer, _decimal) if _may_hold_extreme_numbers(encoded) else (None, None)
    try:
        parsed = json.loads(
            body,
            parse_constant=_refuse_constant,
            parse_int=integer,
            parse_float=decimal,
            object_pairs_hook=_without_repeats,
        )
    except UnusableBodyError:
        raise
    except RecursionError:
        raise UnusableBodyError("it is nested too deeply to be one of the API's") from None
    except ValueError as error:
        raise UnusableBodyError(f"it is not strict JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise UnusableBodyError(f"it is a JSON {type(parsed).__name__}, not an object")
    # By an escape, or as the first byte that UTF-8 would give one.
    _refuse_unreadable(parsed, may_hold_halves=b"\\u" in encoded or b"\xed" in encoded)
    return parsed


def _may_hold_extreme_numbers(encoded: bytes) -> bool:
    """Whether each number has to be looked at as it is written, which takes as long as all other parsing."""
    # Of more than 100 characters 33 digits stand in a row; what is beyond a double has hundreds, or an exponent.
    digits = encoded.translate(_DIGITS)
    return b"0" * 33 in digits or b"0e" in digits


def _refuse_constant(name: str) -> None:
    raise UnusableBodyError(f"it is not strict JSON ({name} is no number)")


def _integer(digits: str) -> int:
    return int(_short(digits))


def _decimal(digits: str) -> float:
    number = float(_short(digits))
    if abs(number) == float("inf"):
        raise UnusableBodyError(f"the number {digits} is beyond what a double holds")
    return number


def _short(digits: str) -> str:
    if len(digits) > _LONGEST_NUMBER:
        raise UnusableBodyError(f"it has a number of {len(digits)} digits")
    return digits


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        left = list(result)
        twice = next(name for (name, _), first in zip(pairs, [*left, None], strict=False) if name != first)
        raise UnusableBodyError(f"the key {twice[:50]!r} stands twice in one object")
    return result


def _refuse_unreadable(parsed: object, *, may_hold_halves: bool) -> None:
    """What makes an engine drop a whole body without a word, in whatever field it stands."""
    level = [parsed]
    for _ in range(_DEEPEST):
        below: list[object] = []
        for part in level:
            if isinstance(part, dict):
                if part and max(map(len, part)) > _LONGEST_KEY:
                    raise UnusableBodyError(f"it has a key of more than {_LONGEST_KEY} characters")
                below += part.values()
                if may_hold_halves:
                    below += part
            elif isinstance(part, list):
                below += part
        if may_hold_halves and any(_HALF_CHARACTER.search(part) for part in below if isinstance(part, str)):
            raise UnusableBodyError("it has half a character (a lone surrogate) in a string")
        if _CONTAINERS.isdisjoint(map(type, below)):
            return
        level = below
    raise UnusableBodyError("it is nested too deeply to be one of the API's")


def _rows(envelope: dict[str, Any], zone: str) -> list[Any]:
    _refuse_sandbox(envelope, "the body")
    _refuse_case_variants(envelope, "the body")
    if envelope.get("zone") != zone:
        raise UnusableBodyError(f"it is for zone {str(envelope.get('zone'))[:50]!r}, not {zone!r}")
    _refuse_other_granularity(envelope, "the body")
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
    _refuse_case_variants(row, name)
    _refuse_other_granularity(row, name)
    for field in _REQUIRED[feed.name]:
        if field not in row:
            raise UnusableBodyError(f"{name} lacks the key {field!r}, so it is no row of {feed.endpoint}")
    _refuse_wrong_types(row, feed, name)
    return hour


def _refuse_wrong_types(row: dict[str, Any], feed: Feed, name: str) -> None:
    for field in ("updatedAt", "createdAt"):
        if row.get(field) is not None:
            _time(row[field], f"{field} of {name}")
    for field in ("estimationMethod", "emissionFactorType"):
        if not isinstance(row.get(field), (str, type(None))):
            raise UnusableBodyError(f"{field} of {name} is not a string")
    if not isinstance(row.get("isEstimated"), (bool, type(None))):
        raise UnusableBodyError(f"isEstimated of {name} is not true or false")
    _refuse_wrong_numbers({field: row.get(field) for field in _NUMBERS[feed.name]}, "", name)
    for field in _BREAKDOWNS if feed == POWER else ():
        if row.get(field) is not None:
            _refuse_wrong_breakdown(row[field], field, name)


def _refuse_wrong_breakdown(breakdown: Any, field: str, name: str) -> None:
    if not isinstance(breakdown, dict):
        raise UnusableBodyError(f"{field} of {name} is not an object")
    _refuse_case_variants(breakdown, f"{field} of {name}")
    if field in _BREAKDOWNS[:2]:
        for key in breakdown if breakdown.keys() - _MODES else ():
            if key not in _MODES and breakdown[key] not in (None, 0):
                # Dropping it would be a silent loss; the contract has to learn the mode first.
                raise UnusableBodyError(f"{field} of {name} has the mode {key[:50]!r}, which zones.py does not know")
    else:
        for key in breakdown:
            if not (0 < len(key) <= _LONGEST_ZONE_KEY and key.isprintable()):
                raise UnusableBodyError(f"{field} of {name} has {key[:50]!r} where a zone key belongs")
    _refuse_wrong_numbers(breakdown, f"{field}.", name)


def _refuse_wrong_numbers(values: dict[str, Any], where: str, name: str) -> None:
    given = [value for value in values.values() if value is not None]
    # All at once, as nearly always nothing is wrong; a boolean is of another type.
    if {int, float}.issuperset(map(type, given)) and max(map(abs, given), default=0) <= LARGEST_NUMBER:
        return
    for key, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UnusableBodyError(f"{where}{key[:50]} of {name} is not a number")
        if abs(value) > LARGEST_NUMBER:
            raise UnusableBodyError(f"{where}{key[:50]} of {name} is beyond {LARGEST_NUMBER:g}")


def _time(value: Any, what: str) -> datetime:
    moment = time_of(value)
    if moment is None and aware_time(value):
        raise UnusableBodyError(f"{what} is {value!r}, outside the years 1901 to 2199")
    if moment is None:
        raise UnusableBodyError(
            f"{what} is {str(value)[:50]!r}, not a time with its time zone such as 2024-01-01T00:00:00.000Z"
        )
    return moment


def _refuse_case_variants(part: dict[str, Any], name: str) -> None:
    """Engines that compare keys without case would take one of the two, and not all of them the same."""
    if len(set(map(str.lower, part))) == len(part):
        return
    seen: dict[str, str] = {}
    for key in part:
        other = seen.setdefault(key.lower(), key)
        if other != key:
            raise UnusableBodyError(f"{name} has the keys {other[:50]!r} and {key[:50]!r}")


def _refuse_other_granularity(part: dict[str, Any], name: str) -> None:
    granularity = part.get("temporalGranularity", "hourly")
    if granularity != "hourly":
        raise UnusableBodyError(f"temporalGranularity of {name} is {str(granularity)[:50]!r}, not 'hourly'")


def _refuse_sandbox(part: dict[str, Any], name: str) -> None:
    if sandbox_mark(part):
        raise UnusableBodyError(f"{name} is marked as the provider's sandbox data")
