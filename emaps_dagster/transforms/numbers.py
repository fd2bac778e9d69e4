"""Parses the numbers of a JSON body as the nearest doubles, equal to Python's `float` of the same digits.

Sail parses JSON by Rust's serde_json without its feature `float_roundtrip`: it reads the digits as an integer and
multiplies or divides that by a power of ten. Both are exact up to 15 digits, so the result is the nearest double;
with more digits, or beyond 10^22, it is one or two units in the last place off. A cast from string to double is exact
on every engine. Therefore a body with a long number is parsed with all its numbers in quotes, and the strings are cast.
Any other body is parsed as doubles at once; the extra cost is one search of its text.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

# Up to 16 digits and points are an integer, which Sail parses exactly up to 64 bits, or have 15 digits.
_LONG_NUMBER = r"[0-9.]{17}|[0-9][eE]"
# Matches strings first, so that digits inside a string do not match as a number.
_STRING_OR_NUMBER = r'("[^"]*")|(-?[0-9][0-9.eE+-]*)'
# Control characters, which JSON allows nowhere.
_QUOTE, _BACKSLASH, _INNER_QUOTE = "\u0001", "\u0002", "\u0003"


def parsed_exactly(body: Column, schema: str) -> Column:
    """Parses a JSON body so that each DOUBLE of the schema is the nearest to its digits; `-0` may be -0.0.

    Args:
        body: the text.
        schema: the body's type, `struct<...>`; no field may be named `double`.
    """
    quoted = F.from_json(with_numbers_as_strings(body), schema.replace("double", "string"))
    exact = quoted.try_cast(schema)
    return F.when(body.rlike(_LONG_NUMBER), exact).otherwise(F.from_json(body, schema))


def number(value: Column) -> Column:
    """The value without a sign of zero: engines differ in how they read `-0`, and only the sum is 0.0 on all."""
    return value + F.lit(0.0)


def with_numbers_as_strings(body: Column) -> Column:
    """Puts the numbers of a JSON body in quotes, and leaves its strings as they are."""
    # Without escapes every quote begins or ends a string. A pattern that handles escapes is recursive in Java.
    plain = _replaced(body, {"\\\\": _BACKSLASH, '\\"': _INNER_QUOTE})
    marked = F.regexp_replace(plain, _STRING_OR_NUMBER, f"$1{_QUOTE}$2{_QUOTE}")
    # A string has both marks after it, a number one on each side.
    return _replaced(marked, {_QUOTE + _QUOTE: "", _QUOTE: '"', _INNER_QUOTE: '\\"', _BACKSLASH: "\\\\"})


def _replaced(text: Column, replacements: dict[str, str]) -> Column:
    for old, new in replacements.items():
        text = F.replace(text, F.lit(old), F.lit(new))
    return text
