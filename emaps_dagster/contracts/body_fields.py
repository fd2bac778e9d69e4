"""What admission, the checks and the sensors read of a body alike. Pure, standard library only.

Each had a definition of its own once: a body that one let in stopped the other for ever.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

# The one form that every engine reads alike: a time without seconds stops Spark, week dates do, Python's
# versions differ on short fractions and offsets. A fraction beyond microseconds is cut off by all.
_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.(\d{1,9}))?(Z|[+-](?:0\d|1[0-4]):[0-5]\d)", re.ASCII
)
# Where the API puts the marks of a sandbox key, in the body itself and in its records: "SANDBOX MODE ...",
# SANDBOX_MODE_DATA. The word in any other field is no mark.
_MARKED = ("_disclaimer", "estimationMethod")


def aware_time(text: object) -> datetime | None:
    """A time of a body with the offset that it is written with; None where engines would read it differently."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    fraction, offset = match.groups()
    micros = (fraction or "")[:6].ljust(6, "0")
    try:
        return datetime.fromisoformat(f"{match[0][:19]}.{micros}{'+00:00' if offset == 'Z' else offset}")
    except ValueError:
        return None


def time_of(text: object) -> datetime | None:
    """A time of a body in UTC; None where it is no time that may be loaded."""
    moment = aware_time(text)
    if moment is None or not 1900 < moment.year < 2200:
        return None
    return moment.astimezone(timezone.utc)


def sandbox_mark(part: Mapping[str, Any]) -> str | None:
    """The field of a body or record that marks it as the provider's sandbox data; None where none does."""
    return next((name for name in _MARKED if name in part and "sandbox" in str(part[name]).lower()), None)


def sandbox_mark_of_body(body: object) -> str | None:
    """The first mark of a parsed body, with its place: `_disclaimer`, or `estimationMethod of record 3`."""
    if not isinstance(body, dict):
        return None
    if mark := sandbox_mark(body):
        return mark
    for name in ("history", "data"):
        records = body.get(name)
        for place, record in enumerate(records if isinstance(records, list) else ()):
            if isinstance(record, dict) and (mark := sandbox_mark(record)):
                return f"{mark} of record {place}"
    return None
