"""Validates tokens and client secrets, and redacts tokens from texts."""

from __future__ import annotations

import re
from collections.abc import Callable

from pydantic import SecretStr

SENDABLE = "one word of printable ASCII characters is allowed, without blanks or line breaks"


def is_token(token: SecretStr) -> bool:
    """Whether a token can be sent in a header; the HTTP library's error would quote one that cannot."""
    return re.fullmatch(r"[!-~]+", token.get_secret_value()) is not None


def redaction(token: SecretStr | None) -> Callable[[str], str]:
    """Returns a function that replaces the token in a text, in every form in which a body may repeat it."""
    if token is None:
        return str
    echo = _echo_of(token.get_secret_value())
    return lambda text: echo.sub("[token]", text)


def _echo_of(token: str) -> re.Pattern[str]:
    """Matches the token verbatim and with characters escaped for JSON, a URL or HTML."""
    forms = (
        rf"(?:{re.escape(c)}|\\{re.escape(c)}|(?i:\\u{ord(c):04x}|%{ord(c):02x}|&\#0*{ord(c)};|&\#x0*{ord(c):x};))"
        for c in token
    )
    return re.compile("".join(forms))
