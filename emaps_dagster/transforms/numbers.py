"""Numbers of a JSON body as the nearest doubles, which is what Python's `float` makes of the same digits.

Sail parses JSON by Rust's serde_json without its feature `float_roundtrip`: it takes the digits for an integer and
multiplies or divides that by a power of ten. Both are exact up to 15 digits, so the result is the nearest double;
with more digits, or beyond 10^22, it is one or two units in the last place off. A cast from string to double is exact
on every engine. So a body with a long number gets all its numbers put into quotes, and all bodies are read with
strings for numbers. A body with short numbers alone pays only for the look at its text.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

# Up to 16 digits and points are an integer, which Sail reads exactly up to 64 bits, or have 15 digits.
_LONG_NUMBER = r"[0-9.]{17}|[0-9][eE]"
# A string goes first: digits in it are none of a number.
_STRING_OR_NUMBER = r'("[^"]*")|(-?[0-9][0-9.eE+-]*)'
# Control characters, which JSON allows in no place.
_QUOTE, _BACKSLASH, _INNER_QUOTE = "\u0001", "\u0002", "\u0003"


def with_long_numbers_as_strings(body: Column) -> Column:
    """The text of a JSON body, with its numbers in quotes if one of them is long; the schema must say string."""
    return F.when(body.rlike(_LONG_NUMBER), _with_numbers_as_strings(body)).otherwise(body)


def number(text: Column) -> Column:
    """The nearest double of a number that was read as string; null where it is none.

    `-0` is -0.0 by Python's `float` and in the cast; the sum is 0.0.
    """
    return text.try_cast("double") + F.lit(0.0)


def _with_numbers_as_strings(body: Column) -> Column:
    # Without escapes every quote begins or ends a string. A pattern that knows them is recursive in Java.
    plain = _replaced(body, {"\\\\": _BACKSLASH, '\\"': _INNER_QUOTE})
    marked = F.regexp_replace(plain, _STRING_OR_NUMBER, f"$1{_QUOTE}$2{_QUOTE}")
    # A string has both marks behind it, a number one on each side.
    return _replaced(marked, {_QUOTE + _QUOTE: "", _QUOTE: '"', _INNER_QUOTE: '\\"', _BACKSLASH: "\\\\"})


def _replaced(text: Column, replacements: dict[str, str]) -> Column:
    for old, new in replacements.items():
        text = F.replace(text, F.lit(old), F.lit(new))
    return text
