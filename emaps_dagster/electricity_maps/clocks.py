"""Compares the provider's clock, read from response headers, with the clock that stamps the responses.

The latest ingestion of an hour wins, so a response stamped in the future would outrank all later ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from emaps_dagster.contracts.windows import HOUR, floor_hour

# Clocks synchronized by NTP differ by less than a second; a `Date` header has whole seconds.
LARGEST_SKEW = timedelta(minutes=5)


def http_date(value: str | None) -> datetime | None:
    """Parses an HTTP date to UTC; None when absent or unreadable."""
    try:
        moment = parsedate_to_datetime(value or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def provider_clock(headers: Mapping[str, str]) -> datetime | None:
    """The present by the provider's clock: `Date` plus the `Age` of a cached response."""
    date = http_date(headers.get("Date"))
    age = headers.get("Age", "")
    try:
        return date + timedelta(seconds=int(age)) if date and re.fullmatch(r"[0-9]{1,9}", age) else date
    except OverflowError:
        return None


def end_of_running_hour(headers: Mapping[str, str]) -> datetime | None:
    """End of the hour that was running by the provider's clock; None when its response has no readable `Date`."""
    theirs = provider_clock(headers)
    try:
        return None if theirs is None else floor_hour(theirs + LARGEST_SKEW) + HOUR
    except OverflowError:
        return None


def skew(present: datetime, machine: datetime, theirs: datetime | None) -> timedelta | None:
    """Difference of a run's present from the provider's clock, positive when ahead; None within `LARGEST_SKEW`.

    Args:
        present: the run's present; in a replay (EMAPS_FIXED_NOW) not the machine's clock.
        machine: the machine's clock.
        theirs: the provider's clock; None when its response has no `Date`.
    """
    if theirs is None:
        return None
    ahead = present - theirs
    if abs(ahead) <= LARGEST_SKEW:
        return None
    # A replay of the past with a provider in the present is allowed; one of the future would outrank true responses.
    replays = machine - present > LARGEST_SKEW and abs(machine - theirs) <= LARGEST_SKEW
    return None if replays else ahead


def length(span: timedelta) -> str:
    """Formats the absolute value of a span, such as `23 h 5 min`."""
    minutes, seconds = divmod(round(abs(span).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "days" if days != 1 else "day"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    named = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(named[:2]) or "0 s"
