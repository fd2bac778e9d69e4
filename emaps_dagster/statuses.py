"""What an answer other than 200 means: which error with which remedy, and how long to wait.

Sending and trying again is client.py's.
"""

from __future__ import annotations

import re
from datetime import timezone
from email.utils import parsedate_to_datetime

from emaps_dagster.errors import (
    BadRequestError,
    InvalidTokenError,
    NoDataError,
    NotInPlanError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
)
from emaps_dagster.windows import utc_now

# The API says 401 for a wrong token and for a plan that is too small; only the words differ.
_PLAN_WORDS = ("Request unauthorized for", "do not have access", "Token unauthorized for", "Endpoint not available")


def refusal(status: int, what: str, said: str) -> ProviderError:
    """The error of an answer that would be the same if asked again."""
    if status == 403 or (status == 401 and any(words in said for words in _PLAN_WORDS)):
        return NotInPlanError(
            f"{what}: not in the token's plan (HTTP {status}: {said}). Hours older than a day need a plan with "
            "past-range; other zones a plan that includes them. Change EMAPS_ZONES, the range, or the plan."
        )
    if status == 401:
        return InvalidTokenError(
            f"{what}: the token is missing or wrong (HTTP 401: {said}). Set EMAPS_API_TOKEN, or on Databricks the "
            "secret that stands for it; a new token can take a while to work."
        )
    if status == 404:
        return NoDataError(
            f"{what}: the provider has no data (HTTP 404: {said}). Check the zone key; otherwise run these "
            "partitions again when the provider has them."
        )
    return BadRequestError(
        f"{what}: refused (HTTP {status}: {said}). Check EMAPS_API_URL and EMAPS_ZONES; the same request would "
        "be refused again."
    )


def surrender(what: str, status: int | None, reason: str, wait: float | None, tries: int) -> ProviderError:
    """The error of a fault that outlasted its tries, or that asks for more patience than a run has."""
    after = f"after {tries} {'try' if tries == 1 else 'tries'}"
    pause = f" The provider asks to wait {wait:.0f} s." if wait else ""
    if status == 429:
        return RateLimitedError(
            f"{what}: rate limit (429) {after}.{pause} Run these partitions again later, with fewer zones "
            "or a plan that allows more calls."
        )
    return ProviderUnavailableError(
        f"{what}: {reason} {after}.{pause} Look at the provider's status page and at the network, then "
        "run these partitions again."
    )


def retry_after(value: str | None) -> float | None:
    """Seconds to wait, from the header's number or HTTP date; None when absent or unreadable."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return max(0.0, (moment - utc_now()).total_seconds())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
