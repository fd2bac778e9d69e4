"""The error text of a body without data, and whether a body is one: an API's error, a gateway's page, or cut off.

The API sends its errors as a JSON object with `error` or `message`; a gateway, proxy or firewall sends something else.
http_errors.py maps the texts to typed errors.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_ERROR_KEYS = ("error", "message", "detail", "errors")
_ROWS = ("history", "data", "updates")
# Longer objects are not parsed as errors.
_LONGEST_ERROR = 16_384
_TITLE = re.compile(r"<title[^>]*>\s*([^<]*\S)\s*</title>", re.I)


@dataclass(frozen=True)
class Words:
    """The error text of a body without data; `of_api`: the body has the form of the API's errors."""

    text: str
    of_api: bool


def words_of(content: bytes) -> Words:
    """The error text of a body, or the whole body."""
    text = content.decode("utf-8", errors="replace")
    parsed = _parsed(content)
    if isinstance(parsed, dict):
        named = " ".join(filter(None, (_flat(parsed.get(key)) for key in _ERROR_KEYS)))
        return Words(named or text, any(isinstance(parsed.get(key), str) for key in ("error", "message")))
    title = _TITLE.search(text[:4096])
    return Words(title[1] if title else text or "no body", of_api=False)


def error_in(content: bytes) -> Words | None:
    """The error text of a 200 that holds an error instead of rows; None for every other body."""
    if len(content) > _LONGEST_ERROR:
        return None
    parsed = _parsed(content)
    if not isinstance(parsed, dict) or any(isinstance(parsed.get(name), list) for name in _ROWS):
        return None
    if parsed.get("status") == "no-data":
        return Words("no-data", of_api=True)
    words = words_of(content)
    return words if any(_flat(parsed.get(key)) for key in _ERROR_KEYS) else None


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _flat(value: Any) -> str:
    """Flattens an error that is an object or a list to one text."""
    if isinstance(value, dict):
        return " ".join(filter(None, (_flat(value.get(key)) for key in ("message", "detail", "title", "reason"))))
    if isinstance(value, list):
        return " ".join(filter(None, map(_flat, value)))
    return value if isinstance(value, str) else ""


def is_cut_off(content: bytes) -> bool:
    """Whether a body is a truncated JSON object."""
    text = content.strip()
    if not text.startswith(b"{") or (text.endswith(b"}") and text.count(b"{") <= text.count(b"}")):
        return False
    try:
        json.loads(text)
    except RecursionError:
        return False
    except json.JSONDecodeError as error:
        # Extra text behind the object is another fault.
        return error.msg != "Extra data"
    except ValueError:
        return True
    return False
