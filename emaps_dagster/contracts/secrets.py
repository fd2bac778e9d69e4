"""What a token or a client's secret may look like; what it says is nobody's business."""

from __future__ import annotations

import re
from collections.abc import Callable

from pydantic import SecretStr

SENDABLE = "one word of printable ASCII characters is allowed, without blanks or line breaks"


def is_token(token: SecretStr) -> bool:
    """Whether it can be sent in a header; one that cannot would be quoted by the HTTP library's error."""
    return re.fullmatch(r"[!-~]+", token.get_secret_value()) is not None


def redaction(token: SecretStr | None) -> Callable[[str], str]:
    """A function that replaces the token in a text, in every form in which a body may repeat it."""
    if token is None:
        return str
    echo = _echo_of(token.get_secret_value())
    return lambda text: echo.sub("[token]", text)


def _echo_of(token: str) -> re.Pattern[str]:
    """The token as a body may repeat it: as it is, or with characters escaped for JSON, a URL or HTML."""
    forms = (
        rf"(?:{re.escape(c)}|\\{re.escape(c)}|(?i:\\u{ord(c):04x}|%{ord(c):02x}|&\#0*{ord(c)};|&\#x0*{ord(c):x};))"
        for c in token
    )
    return re.compile("".join(forms))
