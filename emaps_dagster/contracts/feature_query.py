"""Parses and validates the arguments of `features.load`: zones, hours, knowledge time, columns.

Every error names the given value and the allowed ones. The features package reads the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from difflib import get_close_matches

from emaps_dagster.contracts.errors import FeaturesError
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour

KEY = ("zone", "datetime")
# Values of `allow`.
MISSING, BACKFILLED = "missing", "backfilled"
_UNITS = {"d": timedelta(days=1), "h": HOUR, "min": timedelta(minutes=1), "s": timedelta(seconds=1)}
# Moments at which something is known: a day leaves open whether its hours are included.
_OF_A_DAY = ("as_of", "target_as_of", "at")
# A longer delay is a typing error, and its times would leave the calendar.
_LONGEST_DELAY = timedelta(days=3650)


@dataclass(frozen=True)
class FeatureQuery:
    """Hours of zones: as stored (`as_of` and `delay` None), as of a moment, or each row at its own knowledge time."""

    zones: tuple[str, ...]
    window: Window
    as_of: datetime | None
    delay: timedelta | None
    columns: tuple[str, ...] | None
    allow: frozenset[str] = frozenset()

    def chosen(self, offered: Iterable[str]) -> list[str]:
        """The key columns and the requested features, in the requested order.

        Raises:
            FeaturesError: a column is not in `offered`.
        """
        names = list(offered)
        for name in self.columns or ():
            if name not in names:
                near = get_close_matches(name, names, n=3)
                hint = f"near it are {', '.join(near)}" if near else "docs/tables.md lists them"
                raise FeaturesError(f"gold.ml_features has no column {name!r}; {hint}.")
        wanted = names if self.columns is None else self.columns
        return [*KEY, *(name for name in wanted if name not in KEY)]


def parse_query(
    zone: str | Sequence[str],
    start: date | str | None,
    end: date | str | None,
    as_of: datetime | str | None,
    known_at: str | timedelta | None,
    columns: Sequence[str] | None,
    allow: str | Collection[str],
    held: Callable[[tuple[str, ...]], Window],
) -> FeatureQuery:
    """Validates the arguments of `features.load`; `held` returns the hours that gold stores of some zones.

    Raises:
        FeaturesError: an argument is invalid, or two exclude each other.
    """
    if as_of is not None and known_at is not None:
        raise FeaturesError(
            "as_of and known_at both say when a row is known: as_of one moment for all rows, known_at one for each "
            "row. Give one of them."
        )
    if isinstance(columns, str):
        raise FeaturesError(f"columns is {columns!r}; give a list of names: [{columns!r}].")
    zones = (zone,) if isinstance(zone, str) else tuple(dict.fromkeys(zone))
    if not zones:
        raise FeaturesError("No zone is given; give a zone key such as 'GR', or several.")
    there = held(zones) if start is None or end is None else None
    return FeatureQuery(
        zones=zones,
        window=hours_between(
            there.start if there and start is None else start, there.end if there and end is None else end
        ),
        as_of=None if as_of is None else moment_of(as_of, "as_of"),
        delay=None if known_at is None else delay_of(known_at),
        columns=None if columns is None else tuple(dict.fromkeys(columns)),
        allow=_allowed(allow),
    )


def _allowed(allow: str | Collection[str]) -> frozenset[str]:
    names = frozenset((allow,) if isinstance(allow, str) else allow)
    if unknown := sorted(names - {MISSING, BACKFILLED}):
        raise FeaturesError(
            f"allow holds {unknown[0]!r}; {MISSING!r} accepts fewer rows than hours, {BACKFILLED!r} rows that only a "
            "backfill made known."
        )
    return names


def other_zone(zone: str, held: Iterable[str]) -> str:
    """What to request instead of a zone that the tables do not hold, as a sentence after theirs."""
    keys = sorted(held)
    near = get_close_matches(zone.upper().replace("_", "-"), keys, n=1, cutoff=0.8)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f"{' Request one of these.' if keys else ''} docs/how-to/add-a-zone.md adds a zone to the pipeline."


def hours_between(start: date | str | None, end: date | str | None) -> Window:
    """The hours [start, end), each an aware datetime, ISO 8601 with a zone, or a day (its midnight UTC).

    Raises:
        FeaturesError: they are not full UTC hours in this order.
    """
    return _window(moment_of(start, "start"), moment_of(end, "end"))


def _window(start: datetime, end: datetime) -> Window:
    for name, bound in (("start", start), ("end", end)):
        if bound != floor_hour(bound):
            raise FeaturesError(f"{name} is {bound.isoformat()}; give a full UTC hour.")
    if start >= end:
        raise FeaturesError(
            f"start {start:%Y-%m-%dT%H:%MZ} is not before end {end:%Y-%m-%dT%H:%MZ}; the hours are [start, end)."
        )
    return Window(start, end)


def moment_of(value: object, name: str) -> datetime:
    """A moment in UTC. A date means its midnight, except for `_OF_A_DAY`, which need a time of day."""
    moment = _parsed(value, name) if isinstance(value, str) else value
    if isinstance(moment, date) and not isinstance(moment, datetime) and name not in _OF_A_DAY:
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=timezone.utc)
    if not isinstance(moment, datetime):
        raise FeaturesError(f"{name} is {value!r}; give an aware datetime, or a string such as '2024-05-01T06:00Z'.")
    if moment.tzinfo is None:
        raise FeaturesError(
            f"{name} is {value!r}, which has no time zone: give datetime(..., tzinfo=timezone.utc), or a string "
            "such as '2024-05-01T06:00Z'."
        )
    if not 2000 <= moment.year < 2200:
        raise FeaturesError(f"{name} is {value!r}; the years 2000 to 2199 are allowed.")
    utc = moment.astimezone(timezone.utc)
    # Converts subclasses to a plain datetime (pandas has one with nanoseconds).
    return datetime(*utc.timetuple()[:6], utc.microsecond, tzinfo=timezone.utc)


def _parsed(text: str, name: str) -> date:
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return date.fromisoformat(text)
        # 3.10 does not read Z.
        return datetime.fromisoformat(re.sub("Z$", "+00:00", text))
    except ValueError:
        raise FeaturesError(f"{name} is {text!r}, not an ISO 8601 time such as '2024-05-01T06:00Z'.") from None


def duration_of(value: object) -> timedelta | None:
    """A timedelta, or a number with its unit such as "15min", "2h" or "7d"; None for anything else."""
    if isinstance(value, str):
        # A number without a unit is ambiguous.
        parts = re.fullmatch(r"\s*(\d{1,6})\s*(d|h|min|s)\s*", value)
        return int(parts[1]) * _UNITS[parts[2]] if parts else None
    return value if isinstance(value, timedelta) else None


def delay_of(value: object) -> timedelta:
    """The delay `known_at`.

    Raises:
        FeaturesError: it is no duration from 0 to ten years.
    """
    delay = duration_of(value)
    if delay is None or not timedelta(0) <= delay <= _LONGEST_DELAY:
        raise FeaturesError(
            f"known_at is {value!r}; give how long after the end of its hour a row is made, as a timedelta or a "
            f"number with its unit (d, h, min, s) such as '15min' or '1h', {_LONGEST_DELAY.days} days at most."
        )
    return delay
