"""Maps responses without data to typed errors with remedies, and parses Retry-After.

error_bodies.py reads the text of the body, which distinguishes the API's own errors from those of a gateway, proxy or
firewall. Requests and retries are in retries.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import urljoin, urlsplit

from emaps_dagster.contracts.errors import (
    BadRequestError,
    BlockedError,
    ClockSkewError,
    GoneError,
    InvalidTokenError,
    NoDataError,
    NotInPlanError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    ResponseTooLongError,
    WithdrawnError,
    WrongAddressError,
)
from emaps_dagster.contracts.signals import PUBLIC_API_URL_V4
from emaps_dagster.contracts.windows import utc_now
from emaps_dagster.electricity_maps.clocks import http_date, length, provider_clock
from emaps_dagster.electricity_maps.error_bodies import Words
from emaps_dagster.electricity_maps.transport import MOST_BYTES

# The API returns 401 for a wrong token, for a plan that is too small and for too many calls; only the text differs.
_PLAN_WORDS = re.compile(
    r"request unauthorized for|do(es)? not have access|token unauthorized for|endpoint not available"
    r"|\b(your|current|token's) (plan|subscription)\b|not (included|available) in",
    re.I,
)
_LIMIT_WORDS = re.compile(
    r"rate.?limit|too many (requests|calls)|(quota|limit)s? (was |has been |is )?exceeded|thrott", re.I
)
_TOKEN_WORDS = re.compile(
    r"(invalid|missing|wrong|expired|revoked|provided|no) (auth(entication)?[- ]?|api[- ]?)?token|auth-token"
    r"|token (is|was|has) |authentication|unauthori[sz]ed",
    re.I,
)
_NO_DATA_WORDS = re.compile(r"\bno[- ]([a-z]+ ){0,3}data\b|data (is |are )?not (found|available)", re.I)
# The text of a gateway's 404 in JSON; the API's own 404 names the zone or hour without data.
_NO_ROUTE_WORDS = re.compile(
    r"^(404\W*)?((page|route|path|resource|url|endpoint) )?not[ _]found\W*((route|cannot|no route)\b.*)?$"
    r"|no route|cannot get|\broute \S+ not found",
    re.I,
)
_REDIRECTS = (301, 302, 303, 307, 308)
# Not ready yet, a part of the answer, and the 4xx statuses that are retried.
PASSING = (202, 206, 408, 425, 429)
_PUBLIC = "https://api.electricitymaps.com/v3"


def is_passing(status: int, words: Words) -> bool:
    """Whether the same request may succeed later."""
    return status in PASSING or status >= 500 or ((status == 200 or status >= 400) and is_limit(words))


def is_limit(words: Words) -> bool:
    return _LIMIT_WORDS.search(words.text) is not None


def error_for_status(status: int, what: str, words: Words, text: str, *, target: str = "") -> ProviderError:
    """The error for a response whose request would fail again when retried.

    Args:
        status: of the response.
        what: endpoint, zone and hours of the request.
        words: the error text of its body.
        text: the same text, shortened and without the token.
        target: the target of a redirect, as one sentence.
    """
    answer = f"HTTP {status}: {text}"
    if status in _REDIRECTS:
        return WrongAddressError(f"{what}: redirected (HTTP {status}), which is not followed. {target}")
    if status in (404, 405, 421, 426) and (not words.of_api or _NO_ROUTE_WORDS.search(words.text.strip())):
        return WrongAddressError(
            f"{what}: the address does not lead to the API ({answer}). Set EMAPS_API_URL to the API's address with "
            f"its version, such as {_PUBLIC}; the token and the data are not concerned."
        )
    if status == 402 or (status in (401, 403) and _PLAN_WORDS.search(words.text)):
        return _not_in_plan(what, answer)
    if status == 401:
        return _invalid_token(what, answer, of_api=words.of_api)
    if status == 403 and words.text == "no body":
        return _not_in_plan(what, f"{answer}; or a proxy or firewall on the way refused it")
    if status in (403, 407):
        return BlockedError(
            f"{what}: refused on the way to the API ({answer}). This is not an answer of the API: a proxy, a firewall "
            "or the provider's protection blocks this machine. Have the host of EMAPS_API_URL allowed there, or set "
            "HTTPS_PROXY to a proxy that lets it through; token and plan are not concerned."
        )
    if status == 404:
        return _no_data(what, answer)
    if status == 410:
        return GoneError(
            f"{what}: the provider has removed this endpoint ({answer}). Set EMAPS_API_URL to a version that serves "
            "it; `python -m emaps_dagster.cli.preflight` lists what the token is served."
        )
    if status < 300:
        return WrongAddressError(
            f"{what}: not an answer of the API ({answer}), which answers 200. A proxy on the way may change its "
            "answers: check EMAPS_API_URL and HTTPS_PROXY; the token and the data are not concerned."
        )
    return BadRequestError(
        f"{what}: refused ({answer}). Check EMAPS_API_URL and EMAPS_ZONES; the same request would be refused again."
    )


def error_in_200(what: str, words: Words, text: str) -> ProviderError | None:
    """The error that the text of a 200 identifies as clearly as a status would; None otherwise."""
    answer = f"HTTP 200 with the error: {text}"
    if _NO_DATA_WORDS.search(words.text):
        return _no_data(what, answer)
    if _PLAN_WORDS.search(words.text):
        return _not_in_plan(what, answer)
    return _invalid_token(what, answer, of_api=True) if _TOKEN_WORDS.search(words.text) else None


def without_body(status: int, what: str) -> ProviderError:
    return _no_data(what, f"HTTP {status} without a body")


def _no_data(what: str, answer: str) -> NoDataError:
    return NoDataError(
        f"{what}: the provider has no data ({answer}). Check the zone key; otherwise run these partitions again when "
        "the provider has them."
    )


def _not_in_plan(what: str, answer: str) -> NotInPlanError:
    return NotInPlanError(
        f"{what}: not in the token's plan ({answer}). Hours older than a day need a plan with past-range; other zones "
        "a plan that includes them. Change EMAPS_ZONES, the range, or the plan."
    )


def _invalid_token(what: str, answer: str, *, of_api: bool) -> InvalidTokenError:
    gateway = "" if of_api else " If this is a gateway's answer and not the API's, check EMAPS_API_URL."
    return InvalidTokenError(
        f"{what}: the token is missing or wrong ({answer}). Set EMAPS_API_TOKEN, or on Databricks the secret that "
        f"stands for it; a new token can take a while to work.{gateway}"
    )


def withdrawn(refusal: ProviderError, carbon: str, *, is_v4: bool) -> WithdrawnError:
    """The error of power-breakdown refused for a zone whose carbon-intensity is served.

    The API checks the plan before the path, so that a removed endpoint may be refused like one that is not paid for.

    Args:
        refusal: of power-breakdown.
        carbon: the request that was answered.
        is_v4: whether the base URL is v4's.
    """
    version = "" if is_v4 else f"EMAPS_API_URL={PUBLIC_API_URL_V4} and "
    return WithdrawnError(
        f"{refusal} But {carbon} of the same zone is answered: power-breakdown is withdrawn, or not in the token's "
        f"plan. Set {version}EMAPS_POWER_SIGNAL=electricity-mix, which serves the same columns by other signals "
        "(docs/how-to/change-to-v4.md); `python -m emaps_dagster.cli.preflight` lists what the token is served."
    )


def redirect_target(base: str, url: str, location: str | None) -> str:
    """Describes a redirect's target and the setting to change; omits user, query and fragment of the target.

    Args:
        base: the base URL that was used.
        url: the address of the request, which begins with it.
        location: the response's `Location`.
    """
    remedy = "Set EMAPS_API_URL to the API's address with its version."
    try:
        parts = urlsplit(urljoin(url, location or ""))
    except ValueError:
        return f"Its target cannot be read. {remedy}"
    if not location or not parts.netloc:
        return f"It names no target. {remedy}"
    target = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    path = url.removeprefix(base).partition("?")[0]
    moved = target.removesuffix("/").removesuffix(path)
    if target.removesuffix("/").endswith(path) and moved != base:
        # The same endpoint under another base URL.
        remedy = f"Set EMAPS_API_URL={moved}"
    return f"It leads to {target}. {remedy}"


def error_after_retries(what: str, reason: str, wait: float | None, tries: int, *, is_limit: bool) -> ProviderError:
    """The error of a fault that outlasted its attempts, or whose Retry-After exceeds the longest wait of a run."""
    after = f"after {tries} {'try' if tries == 1 else 'tries'}"
    pause = f" The provider asks to wait {wait:.0f} s." if wait else ""
    if is_limit:
        return RateLimitedError(
            f"{what}: rate limit ({reason}) {after}.{pause} Run these partitions again later, with fewer zones, "
            "with EMAPS_CALLS_PER_MINUTE below the plan's limit, or with a plan that allows more calls."
        )
    return ProviderUnavailableError(
        f"{what}: {reason} {after}.{pause} Look at EMAPS_API_URL, the network and the provider's status page, then "
        "run these partitions again."
    )


def clock_skew(what: str, present: datetime, ahead: timedelta, *, is_machines: bool) -> ClockSkewError:
    """The error of a clock that would stamp responses too early or too late."""
    way = "ahead of" if ahead > timedelta(0) else "behind"
    whose = (
        "this machine's clock"
        if is_machines
        else "the present of this run (EMAPS_FIXED_NOW, or else the machine's clock)"
    )
    remedy = "Let" if is_machines else "Correct or remove EMAPS_FIXED_NOW, or let"
    return ClockSkewError(
        f"{what}: {whose} is {length(ahead)} {way} the provider's: {present:%Y-%m-%dT%H:%M:%SZ} here, "
        f"{present - ahead:%Y-%m-%dT%H:%M:%SZ} by the Date of its response. Nothing of the response is stored. "
        f"{remedy} the system keep the time (NTP, such as `timedatectl set-ntp true`), "
        "then run these partitions again; if the clock here is right, a cache on the way serves old responses."
    )


def too_long(what: str) -> ResponseTooLongError:
    return ResponseTooLongError(
        f"{what}: the response is longer than {MOST_BYTES // 10**6} MB, far more than any answer of the API, and was "
        "not read further. Check that EMAPS_API_URL leads to the API."
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from the header's number or HTTP date; None when absent or unreadable."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    moment = http_date(value)
    # Relative to the provider's clock, which wrote the date.
    return max(0.0, (moment - (provider_clock(headers) or utc_now())).total_seconds()) if moment else None
