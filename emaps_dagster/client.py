"""Electricity Maps API v3 over HTTP: requests, retries, typed errors. No Spark, no Dagster.

Which windows to ask for is decided in fetch.py; which bodies may be loaded in bodies.py.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

import requests
from pydantic import SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from emaps_dagster.bodies import Reach, Response, UnusableBodyError, judged
from emaps_dagster.errors import ProviderError, RejectedBodyError, SettingsError
from emaps_dagster.statuses import refusal, retry_after, surrender
from emaps_dagster.tokens import SENDABLE, is_token
from emaps_dagster.windows import Window, floor_hour, utc_now
from emaps_dagster.zones import Feed

logger = logging.getLogger(__name__)

# The API refuses longer hourly ranges.
LONGEST_RANGE = timedelta(days=10)
# How far beyond the asked range a row may lie before the answer is taken for one to another question.
_TOLERANCE = timedelta(days=1)
# A provider that asks for more patience than this is better asked again by a later run.
_LONGEST_WAIT_SECONDS = 120.0
_QUOTED = 200


class _RetryableError(Exception):
    """Worth another try: 429, 5xx or the network. `wait` is the provider's Retry-After in seconds."""

    def __init__(self, status: int | None, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.wait = wait


def past_range_chunks(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """[start, end) in the longest pieces that one past-range call may ask for."""
    whole = Window(start, end)
    chunks = []
    while start < whole.end:
        chunks.append((start, min(start + LONGEST_RANGE, whole.end)))
        start += LONGEST_RANGE
    return chunks


def admit(response: Response, reach: Reach | None = None) -> Response:
    """The response with the hours it holds and the records that are quarantined, those beyond `reach` among them.

    Raises:
        RejectedBodyError: its body must not be loaded; the error carries the response as evidence.
    """
    try:
        return judged(response, reach)
    except UnusableBodyError as error:
        raise RejectedBodyError(response, str(error)) from None


class ElectricityMapsClient:
    """A client of v3 `power-breakdown` and `carbon-intensity`. Use it as a context manager.

    Args:
        base_url: with the version, e.g. `https://api.electricitymaps.com/v3`.
        token: sent as `auth-token`; appears in no message, log or repr.
        clock: the present, UTC; stamps every response.
        timeout: seconds to connect and to wait for the next bytes.
        attempts: tries of one request, the first included.
        backoff_seconds: upper bound of the first random pause; it doubles with every try.
        calls_per_minute: requests are spaced so that there are no more, tries included; None for no limit.

    Raises:
        SettingsError: the token cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        token: SecretStr | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
        timeout: tuple[float, float] = (5.0, 30.0),
        attempts: int = 6,
        backoff_seconds: float = 1.0,
        calls_per_minute: float | None = None,
    ) -> None:
        if token is not None and not is_token(token):
            raise SettingsError(f"the API token cannot be sent: {SENDABLE}.")
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._echo = _echo_of(token.get_secret_value()) if token else None
        self._clock = clock
        self._timeout = timeout
        self._attempts = attempts
        self._backoff_seconds = backoff_seconds
        self._seconds_apart = 60.0 / calls_per_minute if calls_per_minute else 0.0
        self._next_call = 0.0
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "emaps-dagster"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter())
        # Without an auth of its own, requests would send a netrc entry of the host.
        self._session.auth = _NoAuth()

    def __enter__(self) -> ElectricityMapsClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def __repr__(self) -> str:
        return f"ElectricityMapsClient({self._base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ElectricityMapsClient holds a token and is not pickled; make one where it is used")

    def history(self, feed: Feed, zone: str) -> Response:
        """The running hour and the 23 before it.

        Raises:
            ProviderError: one of its subclasses, naming zone, endpoint, window and remedy.
        """
        return self._signal(feed, "history", zone, {}, "the last 24 hours")

    def past_range(self, feed: Feed, zone: str, start: datetime, end: datetime) -> Response:
        """The hours [start, end), at most 10 days of them.

        Raises:
            ProviderError: one of its subclasses, naming zone, endpoint, window and remedy.
            ValueError: more than 10 days, or not whole UTC hours.
        """
        window = Window(start, end)
        if end - start > LONGEST_RANGE:
            raise ValueError(f"past-range gives at most 10 days, not {window}")
        beyond = f"outside the range asked for, {window}"
        reach = Reach(start - _TOLERANCE, end + _TOLERANCE, beyond, asked=(start, end))
        return self._signal(feed, "past-range", zone, _range_query(start, end), str(window), reach)

    def past_range_request(self, feed: Feed, zone: str, start: datetime, end: datetime) -> str:
        """The path and query that bronze keeps of such a request."""
        return _path_of(self._url(feed, "past-range", zone, _range_query(start, end)))

    def updated_since(
        self, zone: str, since: datetime, window: Window, *, threshold: str, limit: int = 1000
    ) -> tuple[dict[datetime, datetime], bool]:
        """The hours of a window that the provider updated after `since`, with when; and whether there are more.

        Args:
            zone: a zone key.
            since: updates after this moment.
            window: the hours that matter.
            threshold: only updates that came so long after their hour, an ISO 8601 duration.
            limit: at most so many hours, up to 1,000.

        Raises:
            ProviderError: one of its subclasses, naming zone, endpoint, window and remedy.
        """
        query = {"zone": zone, "since": _iso(since), **_range_query(window.start, window.end)}
        query |= {"limit": str(limit), "threshold": threshold}
        what = f"updated-since of zone {zone}, {window}"
        body = self._object(f"{self._base_url}/updated-since?{urlencode(query)}", what)
        found: dict[datetime, datetime] = {}
        try:
            if body["zone"] != zone:
                raise ProviderError(f"{what}: the answer is for zone {self._quote(str(body['zone']))}.")
            for update in body["updates"]:
                hour = floor_hour(_moment(update["datetime"]))
                at = _moment(update["updatedAt"])
                if hour in window:
                    found[hour] = max(found.get(hour, at), at)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProviderError(f"{what}: the answer is no list of updates ({type(error).__name__}).") from None
        return found, bool(body.get("limitReached", len(found) >= limit))

    def zones(self) -> dict[str, Any]:
        """Zone keys with their names; with a token also what its plan allows."""
        return self._object(f"{self._base_url}/zones", "the list of zones")

    def health(self) -> dict[str, Any]:
        """The provider's own status; it lives at the root of the host and needs no token."""
        parts = urlsplit(self._base_url)
        return self._object(f"{parts.scheme}://{parts.netloc}/health", "the health of the API")

    def _object(self, url: str, what: str) -> dict[str, Any]:
        body = self._get(url, what)[0].decode("utf-8", errors="replace")
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            raise ProviderError(f"{what}: the answer is no JSON object: {self._quote(body)}")
        return parsed

    def _signal(
        self, feed: Feed, endpoint: str, zone: str, query: dict[str, str], hours: str, reach: Reach | None = None
    ) -> Response:
        url = self._url(feed, endpoint, zone, query)
        content, received_at = self._get(url, f"{feed.endpoint}/{endpoint} of zone {zone}, {hours}")
        # Escapes keep every byte of a body that is not UTF-8, as evidence.
        text = content.decode("utf-8", errors="backslashreplace")
        body = self._redacted(text)
        response = Response(feed, zone, endpoint, _path_of(url), body, received_at)
        if body != text:
            raise RejectedBodyError(response, "its body repeats the API token (replaced by [token] in what is kept)")
        if text.encode() != content:
            raise RejectedBodyError(response, "its body is not UTF-8")
        return admit(response, reach)

    def _url(self, feed: Feed, endpoint: str, zone: str, query: dict[str, str]) -> str:
        return f"{self._base_url}/{feed.endpoint}/{endpoint}?{urlencode({'zone': zone, **query})}"

    def _get(self, url: str, what: str) -> tuple[bytes, datetime]:
        """The body of a 200 and when it came; every other outcome raises."""
        retrying = Retrying(
            retry=retry_if_exception_type(_RetryableError),
            stop=stop_after_attempt(self._attempts),
            wait=self._wait,
            before_sleep=lambda state: self._log_retry(state, what),
            reraise=True,
        )
        try:
            return retrying(self._try, url, what)
        except _RetryableError as error:
            tries = retrying.statistics["attempt_number"]
            failure = surrender(what, error.status, error.reason, error.wait, tries)
        # Raised out here, so that no exception of requests, which holds the headers, stays in the chain.
        raise failure

    def _try(self, url: str, what: str) -> tuple[bytes, datetime]:
        headers = {"auth-token": self._token.get_secret_value()} if self._token else {}
        self._take_turn()
        began = time.monotonic()
        problem = ""
        try:
            # Redirects are not followed: they would carry the token to another host.
            answer = self._session.get(url, headers=headers, timeout=self._timeout, allow_redirects=False)
        except requests.RequestException as error:
            problem = self._quote(f"{type(error).__name__}: {_innermost(error)}")
        if problem:
            raise _RetryableError(None, f"no answer ({problem})")
        received_at = self._clock()
        path = url[url.index("/", 8) :]
        logger.info("GET %s -> %s in %.2f s", path, answer.status_code, time.monotonic() - began)
        if answer.status_code == 200:
            return answer.content, received_at
        said = self._said(answer.content)
        if answer.status_code == 429 or answer.status_code >= 500:
            wait = retry_after(answer.headers.get("Retry-After"))
            raise _RetryableError(answer.status_code, f"HTTP {answer.status_code} ({said})", wait)
        raise refusal(answer.status_code, what, said)

    def _take_turn(self) -> None:
        """Wait until the next call may be made."""
        pause = self._next_call - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        self._next_call = time.monotonic() + self._seconds_apart

    def _wait(self, state: RetryCallState) -> float:
        assert state.outcome is not None
        error = state.outcome.exception()
        asked = error.wait if isinstance(error, _RetryableError) else None
        if asked is not None and asked > _LONGEST_WAIT_SECONDS:
            assert error is not None
            raise error
        jittered = wait_random_exponential(multiplier=self._backoff_seconds, max=30.0)(state)
        # Not before the provider says, and not all clients at that very moment.
        return jittered if asked is None else asked + random.uniform(0, self._backoff_seconds)

    def _log_retry(self, state: RetryCallState, what: str) -> None:
        assert state.outcome is not None
        logger.warning("%s: try %d failed: %s", what, state.attempt_number, state.outcome.exception())

    def _said(self, content: bytes) -> str:
        text = content.decode("utf-8", errors="replace")
        try:
            body = json.loads(text)
            texts = [str(body[key]) for key in ("error", "message") if body.get(key)]
        except (ValueError, AttributeError, TypeError, RecursionError):
            texts = []
        return self._quote(" ".join(texts) or text or "no body")

    def _quote(self, text: str) -> str:
        """One short line of somebody's words, without the token should they repeat it."""
        return " ".join(self._redacted(text).split())[:_QUOTED]

    def _redacted(self, text: str) -> str:
        return self._echo.sub("[token]", text) if self._echo else text


def _range_query(start: datetime, end: datetime) -> dict[str, str]:
    return {"start": _iso(start), "end": _iso(end)}


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(timezone.utc)


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


class _Adapter(requests.adapters.HTTPAdapter):
    def close(self) -> None:
        # urllib3 leaves it to a finalizer, and a Ctrl-C or a termination that falls into one is lost.
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  # urllib3's container refuses to be iterated
                manager.pools[key].close()
        super().close()


class _NoAuth(requests.auth.AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _echo_of(token: str) -> re.Pattern[str]:
    """The token as a body may repeat it: as it is, or with characters escaped for JSON, a URL or HTML."""
    forms = (
        rf"(?:{re.escape(c)}|\\{re.escape(c)}|(?i:\\u{ord(c):04x}|%{ord(c):02x}|&\#0*{ord(c)};|&\#x0*{ord(c):x};))"
        for c in token
    )
    return re.compile("".join(forms))


def _innermost(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error)
