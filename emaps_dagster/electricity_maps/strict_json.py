"""Parses JSON that Python, Sail and Spark's JVM read alike, and locates the parts of a body. Standard library only.

Engines silently drop a whole body for one number or string that they cannot represent; test_bodies.py shows which.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# The API nests five deep. Sail fails at depth 128 and Python at 1,000, both for the whole body.
_DEEPEST = 32
# The JVM fails, for the whole body, at numbers of 1,000 digits and keys of 50,000 characters.
_LONGEST_NUMBER = 100
_LONGEST_KEY = 1000

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_CONTAINERS = frozenset((dict, list))
_END_OF_KEY = re.compile(rb'"[ \t\r\n]*:')
_BLANKS = re.compile(r"[ \t\r\n]*")


class UnusableJSONError(ValueError):
    """The text is not usable JSON; the message is one phrase."""


@dataclass(frozen=True)
class Part:
    """A value inside a text: its key or index, the parsed value, and its position."""

    key: str
    value: Any
    start: int
    end: int


def parse(text: str) -> Any:
    """Parses a text that every engine reads as Python does.

    Raises:
        UnusableJSONError: an engine would read it differently.
    """
    encoded = text.encode(errors="surrogatepass")
    numbers: dict[str, Any] = {"parse_int": _integer, "parse_float": _decimal}
    if not may_hold_extreme_numbers(encoded):
        numbers = {}
    # A surrogate is written as an escape, or begins with this byte in UTF-8.
    may_hold_halves = b"\\u" in encoded or b"\xed" in encoded
    if b"\\" not in encoded:
        # The fast path: no call for each object. Objects that lack a key of the text had it twice.
        try:
            parsed = json.loads(text, parse_constant=_refuse_constant, **numbers)
            if _refuse_unreadable(parsed, may_hold_halves=may_hold_halves) == most_keys(encoded):
                return parsed
        except (ValueError, RecursionError):
            # The other path names the fault.
            pass
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats, **numbers)
    except UnusableJSONError:
        raise
    except RecursionError:
        raise UnusableJSONError("it is nested too deeply to be one of the API's") from None
    except ValueError as error:
        raise UnusableJSONError(f"it is not strict JSON ({error})") from None
    _refuse_unreadable(parsed, may_hold_halves=may_hold_halves)
    return parsed


def has_half_a_character(text: str) -> bool:
    """Whether the text contains a lone surrogate, which cannot be encoded."""
    return not text.isascii() and _HALF_CHARACTER.search(text) is not None


def members(text: str) -> list[Part]:
    """The members of a JSON object, repeated keys included.

    Checks the grammar only, not whether an engine can represent the numbers, keys and strings. Accepts NaN and
    Infinity, which Python's writer produces and no engine reads: `parse` rejects the parts that hold them.

    Raises:
        UnusableJSONError: the text is not strict JSON, or not an object.
    """
    try:
        # Parses the whole text first, so that the scan below runs over valid JSON.
        whole = _LENIENT.decode(text)
    except RecursionError:
        raise UnusableJSONError("it is nested too deeply to be one of the API's") from None
    except ValueError as error:
        raise UnusableJSONError(f"it is not strict JSON ({error})") from None
    if not isinstance(whole, dict):
        raise UnusableJSONError(f"it is a JSON {type(whole).__name__}, not an object")
    return list(_members(text))


def elements(text: str, start: int) -> Iterator[Part]:
    """The elements of the list that begins at `start`; `members` must have accepted the text."""
    at = _skipped(text, start + 1)
    while text[at] != "]":
        value, end = _LENIENT.raw_decode(text, at)
        yield Part("", value, at, end)
        at = _behind_comma(text, end)


def _members(text: str) -> Iterator[Part]:
    at = _skipped(text, text.index("{") + 1)
    while text[at] != "}":
        key, end = _LENIENT.raw_decode(text, at)
        at = _skipped(text, _skipped(text, end) + 1)
        value, end = _LENIENT.raw_decode(text, at)
        yield Part(key, value, at, end)
        at = _behind_comma(text, end)


def _behind_comma(text: str, at: int) -> int:
    at = _skipped(text, at)
    return _skipped(text, at + 1) if text[at] == "," else at


def _skipped(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    assert blanks is not None
    return blanks.end()


def may_hold_extreme_numbers(encoded: bytes) -> bool:
    """Whether each number's text has to be checked, which takes as long as all other parsing."""
    # A number of more than 100 characters has 33 digits in a row; one beyond a double has hundreds, or an exponent.
    digits = encoded.translate(_DIGITS)
    return b"0" * 33 in digits or b"0e" in digits


def most_keys(encoded: bytes) -> int:
    """At least the number of keys of all objects in a valid JSON text without escapes, repeated keys included.

    There, each quote begins or ends a string. A string that begins with a colon counts as a key.
    """
    # The search for a blank alone is the faster one, and a compact body has none.
    if any(blank in encoded and b'"' + blank in encoded for blank in (b" ", b"\n", b"\r", b"\t")):
        return len(_END_OF_KEY.findall(encoded))
    return encoded.count(b'":')


def _refuse_constant(name: str) -> None:
    raise UnusableJSONError(f"it is not strict JSON ({name} is no number)")


# Python refuses to make an int of more than 4,300 digits; a float of them is infinite.
_LENIENT = json.JSONDecoder(parse_int=float)


def _integer(digits: str) -> int:
    return int(_short(digits))


def _decimal(digits: str) -> float:
    number = float(_short(digits))
    if abs(number) == float("inf"):
        raise UnusableJSONError(f"the number {digits} is beyond what a double holds")
    return number


def _short(digits: str) -> str:
    if len(digits) > _LONGEST_NUMBER:
        raise UnusableJSONError(f"it has a number of {len(digits)} digits")
    return digits


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        left = list(result)
        twice = next(name for (name, _), first in zip(pairs, [*left, None], strict=False) if name != first)
        raise UnusableJSONError(f"the key {twice[:50]!r} stands twice in one object")
    return result


def _refuse_unreadable(parsed: object, *, may_hold_halves: bool) -> int:
    """Rejects values for which an engine silently drops the whole body, in any field; returns the number of keys."""
    level = [parsed]
    keys = 0
    for _ in range(_DEEPEST):
        below: list[object] = []
        for part in level:
            if isinstance(part, dict):
                keys += len(part)
                if part and max(map(len, part)) > _LONGEST_KEY:
                    raise UnusableJSONError(f"it has a key of more than {_LONGEST_KEY} characters")
                below += part.values()
                if may_hold_halves:
                    below += part
            elif isinstance(part, list):
                below += part
        if may_hold_halves and any(_HALF_CHARACTER.search(part) for part in below if isinstance(part, str)):
            raise UnusableJSONError("it has half a character (a lone surrogate) in a string")
        if _CONTAINERS.isdisjoint(map(type, below)):
            return keys
        level = below
    raise UnusableJSONError("it is nested too deeply to be one of the API's")
