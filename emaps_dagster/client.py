"""The Electricity Maps API over HTTP: windows, retries, typed errors.

What a body must look like is in bodies.py. No Spark, no Dagster, no storage.
"""

from __future__ import annotations

import html
import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

import requests
import urllib3
from pydantic import SecretStr
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_result,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from emaps_dagster.bodies import Response, admit, parse_object, question
from emaps_dagster.errors import (
    BadRequestError,
    InvalidTokenError,
    NoDataError,
    NotInPlanError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    SettingsError,
)
from emaps_dagster.windows import Window, utc_now
from emaps_dagster.zones import Feed

__all__ = ["ElectricityMapsClient", "Response", "past_range_chunks"]

_log = logging.getLogger(__name__)

# The API refuses longer past-range windows of hourly data.
LONGEST_PAST_RANGE = timedelta(days=10)

# How the API words a 401 that is about the plan; every other 401 is about the token.
_PLAN = re.compile(
    r"request unauthorized for|do not have access|token unauthorized for zonekey|endpoint not available",
    re.IGNORECASE,
)
_QUOTED = 200
# A shorter token may stand in a body by chance; those of the provider are longer.
_ECHO = 8
_TOKEN_REMEDY = "EMAPS_API_TOKEN (on Databricks: the token in the secret scope)"
_NETWORK_FAULTS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    urllib3.exceptions.HTTPError,
    OSError,
)


def past_range_chunks(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """[start, end) cut into what one past-range request may ask for.

    Raises:
        ValueError: the bounds are not whole UTC hours, or there is no hour between them.
    """
    whole = Window(start, end)
    chunks = []
    while start < whole.end:
        stop = start + min(LONGEST_PAST_RANGE, whole.end - start)
        chunks.append((start, stop))
        start = stop
    return chunks


@dataclass(frozen=True)
class _Outcome:
    """What came of one attempt; `status` is 0 when no answer came, `said` is one line without the token."""

    status: int
    said: str = ""
    is_transient: bool = False
    retry_after: float | None = None
    content: bytes = field(default=b"", repr=False)


class _TokenHeader(requests.auth.AuthBase):
    """Sends the token. Being an `auth`, it also keeps requests from sending a password of ~/.netrc."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["auth-token"] = self._token.get_secret_value()
        return request


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: a redirect is an answer like another, so the token goes to no other host."""


class ElectricityMapsClient:
    """Asks one API with one token; a context manager that keeps its connection open.

    Args:
        base_url: with the version: `https://api.electricitymaps.com/v3`.
        token: sent as `auth-token`; without one no header is sent and the API answers what it likes.
        clock: the present, UTC; read once for each response.
        timeout: seconds to connect, and between two pieces of an answer.
        retries: attempts after the first.
        backoff_seconds: the first pause, doubled each time, and the most that chance adds to each.
        max_backoff_seconds: the longest pause of our own choice.
        max_retry_after_seconds: the longest pause that the API may choose; a longer one is an error.

    Raises:
        SettingsError: the token holds what no HTTP header can carry.
    """

    def __init__(
        self,
        base_url: str,
        token: SecretStr | None,
        *,
        clock: Callable[[], datetime] = utc_now,
        timeout: tuple[float, float] = (5, 30),
        retries: int = 5,
        backoff_seconds: float = 0.5,
        max_backoff_seconds: float = 30,
        max_retry_after_seconds: float = 120,
    ) -> None:
        parts = urlsplit(base_url.rstrip("/"))
        self._host = f"{parts.scheme}://{parts.netloc}"
        self._root = parts.path
        self._token = _usable_token(token)
        self._clock = clock
        self._timeout = timeout
        self._attempts = retries + 1
        self._max_retry_after = max_retry_after_seconds
        self._backoff = wait_exponential(multiplier=backoff_seconds, max=max_backoff_seconds)
        self._jitter = wait_random(0, backoff_seconds)
        self._session = _Session()
        self._session.auth = _TokenHeader(self._token)
        self._session.headers["User-Agent"] = f"emaps-dagster/{_version()}"
        self._session.headers["Accept"] = "application/json"

    def __enter__(self) -> ElectricityMapsClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ElectricityMapsClient({self._host}{self._root})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ElectricityMapsClient holds a token and connections: make one where it is used")

    def close(self) -> None:
        self._session.close()

    def history(self, feed: Feed, zone: str) -> Response:
        """The last 24 hours of one zone.

        Raises:
            RejectedBodyError: a 200 that must not be loaded.
            ProviderError: no usable answer; the subclass says why.
        """
        return self._fetch(feed, zone, "history", None)

    def past_range(self, feed: Feed, zone: str, start: datetime, end: datetime) -> Response:
        """The hours [start, end) of one zone, at most 10 days: see `past_range_chunks`.

        Raises:
            ValueError: the bounds are not whole UTC hours, or not 1 hour to 10 days apart.
            RejectedBodyError: a 200 that must not be loaded.
            ProviderError: no usable answer; the subclass says why.
        """
        asked = Window(start, end)
        if end - start > LONGEST_PAST_RANGE:
            raise ValueError(
                f"one past-range request spans at most {LONGEST_PAST_RANGE.days} days, not {asked}"
            )
        return self._fetch(feed, zone, "past-range", asked)

    def zones(self) -> dict[str, Any]:
        """Zone key to its names and, with a token, what the plan may `access`."""
        return self._ask_object(f"{self._root}/zones", "the list of zones")

    def health(self) -> dict[str, Any]:
        """How the API says it is; lives at the root of the host."""
        return self._ask_object("/health", "the health of the API")

    def _fetch(self, feed: Feed, zone: str, endpoint: str, asked: Window | None) -> Response:
        query = {"zone": zone}
        if asked is not None:
            query |= {"start": f"{asked.start:%Y-%m-%dT%H:%M:%SZ}", "end": f"{asked.end:%Y-%m-%dT%H:%M:%SZ}"}
        request = f"{self._root}/{feed.endpoint}/{endpoint}?{urlencode(query, safe=':')}"
        content = self._ask(request, question(feed, zone, endpoint, asked))
        received_at = self._clock()
        body, defect = self._decode(content)
        return admit(Response(feed, zone, endpoint, request, body, received_at, asked=asked, defect=defect))

    def _decode(self, content: bytes) -> tuple[str, str | None]:
        """The body as text and what is wrong with it; what cannot be decoded is kept as evidence."""
        try:
            text, defect = content.decode("utf-8"), None
        except UnicodeDecodeError as error:
            text = content.decode("utf-8", errors="backslashreplace")
            defect = f"the body is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}"
        if self._token is not None and len(self._token.get_secret_value()) >= _ECHO:
            redacted = self._redact(text)
            if redacted != text:
                return redacted, "the body echoes the API token (it was cut out here)"
        return text, defect

    def _ask_object(self, path: str, what: str) -> dict[str, Any]:
        content = self._ask(path, what)
        try:
            return parse_object(content.decode("utf-8"))
        except ValueError as error:
            reason = self._redact(str(error))
        raise ProviderUnavailableError(
            f"{what}: {self._host}{path} answered 200, but {reason}. Check EMAPS_API_URL."
        )

    def _ask(self, path: str, what: str) -> bytes:
        """The bytes of a 200."""
        outcome: _Outcome = Retrying(
            retry=retry_if_result(self._is_worth_another),
            stop=stop_after_attempt(self._attempts),
            wait=self._pause,
            before_sleep=lambda state: self._warn(path, state),
            retry_error_callback=_last,
        )(self._attempt, path)
        if outcome.status == 200:
            return outcome.content
        # Raised here, outside every handler: an exception of requests carries the headers it sent.
        raise self._error(outcome, what)

    def _attempt(self, path: str) -> _Outcome:
        started = time.perf_counter()
        outcome = self._send(path)
        seconds = time.perf_counter() - started
        _log.info("GET %s: %s in %.2f s", path, outcome.status or "no answer", seconds)
        return outcome

    def _send(self, path: str) -> _Outcome:
        try:
            with self._session.get(self._host + path, timeout=self._timeout) as answer:
                status, content, headers = answer.status_code, answer.content, answer.headers
        except (requests.RequestException, *_NETWORK_FAULTS, ValueError) as error:
            return _Outcome(0, self._redact(_root_of(error)), isinstance(error, _NETWORK_FAULTS))
        if status == 200:
            return _Outcome(200, content=content)
        said = self._quote(content)
        if 300 <= status < 400:
            said = f"a redirect to {self._quote(headers.get('Location', 'nowhere').encode())}"
        return _Outcome(status, said, status == 429 or status >= 500, _retry_after(headers))

    def _is_worth_another(self, outcome: _Outcome) -> bool:
        return outcome.is_transient and (outcome.retry_after or 0) <= self._max_retry_after

    def _pause(self, state: RetryCallState) -> float:
        asked_for = _last(state).retry_after
        # Jitter comes on top: never earlier than the API asked for, and not all clients at once.
        return self._jitter(state) + (self._backoff(state) if asked_for is None else asked_for)

    def _warn(self, path: str, state: RetryCallState) -> None:
        outcome = _last(state)
        _log.warning(
            "GET %s: %s; attempt %d of %d in %.1f s",
            path,
            f"{outcome.status or 'no answer'} ({outcome.said})",
            state.attempt_number + 1,
            self._attempts,
            state.upcoming_sleep,
        )

    def _error(self, outcome: _Outcome, what: str) -> ProviderError:
        status = outcome.status
        said = f'answered {status}: "{outcome.said}"' if outcome.said else f"answered {status} without a word"
        if status == 401 and not _PLAN.search(outcome.said):
            if self._token is None:
                return InvalidTokenError(
                    f"{what}: no token was sent and the API {said}. Set {_TOKEN_REMEDY}."
                )
            return InvalidTokenError(
                f"{what}: the API does not take the token; it {said}. Check {_TOKEN_REMEDY}; a new token can take "
                "a while to work."
            )
        if status in (401, 403):
            return NotInPlanError(
                f"{what}: the plan of the token lacks this endpoint or this zone; the API {said}. Take zones (EMAPS_ZONES) "
                "and hours that the plan has, or a plan that has these: past-range is a paid endpoint."
            )
        if status == 404:
            return NoDataError(
                f"{what}: the API has no such data; it {said}. Check the zone key; run these hours again later; if "
                "every request ends so, check EMAPS_API_URL."
            )
        if outcome.is_transient:
            return self._outlasted(outcome, what, said)
        if status == 0:
            return ProviderUnavailableError(
                f"{what}: {self._host} cannot be asked: {outcome.said}. Check EMAPS_API_URL and the proxy settings."
            )
        if 300 <= status < 400:
            return BadRequestError(
                f"{what}: the API answered {status}, {outcome.said}, which is not followed lest the token reach "
                "another host. Set EMAPS_API_URL to the address that answers itself."
            )
        return BadRequestError(
            f"{what}: the API did not take the question; it {said}. Check EMAPS_ZONES and EMAPS_API_URL; asking "
            "again as it is will not help."
        )

    def _outlasted(self, outcome: _Outcome, what: str, said: str) -> ProviderError:
        if not self._is_worth_another(outcome):
            tried, remedy = "and wants a longer pause than a run waits", f"Wait {outcome.retry_after:.0f} s"
        else:
            tried, remedy = f"at the last of {self._attempts} attempts", "Wait some minutes"
        if outcome.status == 429:
            return RateLimitedError(
                f"{what}: too many requests; the API {said} {tried}. {remedy}, then run these hours again; ask for fewer "
                "zones or less often if it comes back."
            )
        if outcome.status:
            return ProviderUnavailableError(
                f"{what}: the API {said} {tried}. {remedy}, then run these hours again."
            )
        return ProviderUnavailableError(
            f"{what}: no whole answer from {self._host} {tried}: {outcome.said}. Check the network, the proxy and "
            "EMAPS_API_URL, then run these hours again."
        )

    def _quote(self, content: bytes) -> str:
        """What an error body says: one line, short, without the token."""
        # Cut out first, that no later cut leaves half a token; and last, when escapes are undone.
        text = self._redact(content.decode("utf-8", errors="replace"))
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict):
            parts = [str(said[key]).rstrip(".") for key in ("error", "message") if said.get(key)]
            text = ": ".join(parts) or text
        else:
            text = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^<>]*>", " ", text[:10_000])
        text = "".join(character if character.isprintable() else " " for character in text)
        text = self._redact(" ".join(text.split()))
        return text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "..."

    def _redact(self, text: str) -> str:
        if self._token is None:
            return text
        token = self._token.get_secret_value()
        forms = {
            token,
            json.dumps(token)[1:-1],
            token.replace("/", "\\/"),
            quote(token, safe=""),
            html.escape(token),
        }
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, "[token]")
        return text


def _usable_token(token: SecretStr | None) -> SecretStr | None:
    # Files and secret scopes like to end in a newline.
    stripped = token.get_secret_value().strip() if token is not None else ""
    if not stripped:
        return None
    if not re.fullmatch(r"[!-~]+", stripped):
        del stripped
        raise SettingsError(
            f"{_TOKEN_REMEDY} holds a blank, a line break or a letter beyond ASCII: copy it again."
        )
    return SecretStr(stripped)


def _last(state: RetryCallState) -> _Outcome:
    assert state.outcome is not None
    outcome: _Outcome = state.outcome.result()
    return outcome


def _root_of(error: BaseException) -> str:
    """The first cause: requests wraps it in layers that say less."""
    root = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    return " ".join(f"{type(error).__name__}, {root}".split())


def _retry_after(headers: requests.structures.CaseInsensitiveDict[str]) -> float | None:
    """Seconds to wait by the Retry-After header, None without a readable one."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
        return float(value)
    until = _http_date(value)
    if until is None:
        return None
    # Against the API's own clock: ours may be wrong, and the injected one may stand still.
    now = _http_date(headers.get("Date", "")) or utc_now()
    return max(0.0, (until - now).total_seconds())


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def _version() -> str:
    try:
        return version("emaps_dagster")
    except PackageNotFoundError:
        return "unknown"
