"""What a token or a client's secret may look like; what it says is nobody's business."""

from __future__ import annotations

import re

from pydantic import SecretStr

SENDABLE = "one word of printable ASCII characters is allowed, without blanks or line breaks"


def is_token(token: SecretStr) -> bool:
    """Whether it can be sent in a header; one that cannot would be quoted by the HTTP library's error."""
    return re.fullmatch(r"[!-~]+", token.get_secret_value()) is not None
