"""Parses the fields of a body that admission, the checks and the sensors share. Pure, standard library only.

One definition for all three: with separate ones, a body that admission accepted stopped a sensor permanently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

# The one form that every engine parses alike: Spark fails on a time without seconds and on week dates, Python's
# versions differ on short fractions and offsets. All truncate a fraction to microseconds.
_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.(\d{1,9}))?(Z|[+-](?:0\d|1[0-4]):[0-5]\d)", re.ASCII
)
# The way in which the API writes nearly all of them.
_USUAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z", re.ASCII)
# The fields in which the API marks data of a sandbox key, in the body itself and in its records: "SANDBOX MODE ...",
# SANDBOX_MODE_DATA. The word in any other field is not a mark.
_MARKED = ("_disclaimer", "estimationMethod")
# Twice as deep as a trusted record may be. Python's own limit depends on the stack of the caller.
_DEEPEST = 64
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def without_depths(text: str) -> str:
    """Replaces what is nested more than 64 deep by 0 and blanks; the rest keeps its position, and can be parsed."""
    if text.count("[") + text.count("{") <= _DEEPEST:
        return text
    pieces: list[str] = []
    depth = kept = begun = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth == _DEEPEST + 1:
                begun = match.start()
        elif match[0] in "]}":
            if depth == _DEEPEST + 1:
                pieces += text[kept:begun], "0".ljust(match.end() - begun)
                kept = match.end()
            depth -= 1
    return "".join(pieces) + text[kept:] if pieces else text


def aware_time(text: object) -> datetime | None:
    """Parses a time of a body, keeping its offset; None where engines would parse it differently."""
    if not isinstance(text, str):
        return None
    try:
        if _USUAL_TIME.fullmatch(text):
            return datetime.fromisoformat(f"{text[:-1]}+00:00")
        match = _TIME.fullmatch(text)
        if match is None:
            return None
        fraction, offset = match.groups()
        micros = (fraction or "")[:6].ljust(6, "0")
        return datetime.fromisoformat(f"{match[0][:19]}.{micros}{'+00:00' if offset == 'Z' else offset}")
    except ValueError:
        return None


def time_of(text: object) -> datetime | None:
    """Parses a time of a body to UTC; None when it is unreadable or outside the years 1901 to 2199."""
    moment = aware_time(text)
    if moment is None or not 1900 < moment.year < 2200:
        return None
    return moment if moment.tzinfo is timezone.utc else moment.astimezone(timezone.utc)


def sandbox_mark(part: Mapping[str, Any]) -> str | None:
    """Name of the field that marks a body or record as sandbox data; None without a mark."""
    return next((name for name in _MARKED if name in part and "sandbox" in str(part[name]).lower()), None)


def sandbox_mark_of_body(body: object) -> str | None:
    """The first sandbox mark of a parsed body, with its position: `_disclaimer`, or `estimationMethod of record 3`."""
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
