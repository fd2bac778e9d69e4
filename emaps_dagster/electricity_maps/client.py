"""Client of the Electricity Maps API: builds the requests and parses the bodies of its endpoints. No Spark, no Dagster.

Retries are in retries.py, typed errors in http_errors.py. fetch.py selects the windows to request; admission.py
validates the bodies.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

from pydantic import SecretStr

from emaps_dagster.contracts.api_limits import LONGEST_RANGE
from emaps_dagster.contracts.errors import ProviderError, RejectedBodyError, SettingsError
from emaps_dagster.contracts.responses import AcceptedResponse, RawResponse
from emaps_dagster.contracts.secrets import SENDABLE, is_token
from emaps_dagster.contracts.windows import Window, floor_hour, parse_utc, utc_now
from emaps_dagster.contracts.zones import Feed
from emaps_dagster.electricity_maps.admission import Reach, UnusableBodyError, admitted
from emaps_dagster.electricity_maps.clocks import end_of_running_hour
from emaps_dagster.electricity_maps.error_bodies import error_in, is_cut_off, words_of
from emaps_dagster.electricity_maps.pace import Pace, pace_file
from emaps_dagster.electricity_maps.retries import Requester

# Rows farther beyond the requested range show that the response belongs to another request.
_TOLERANCE = timedelta(days=1)


def past_range_chunks(window: Window) -> list[Window]:
    """Splits a window into the longest ranges that one past-range call may request."""
    chunks = []
    start = window.start
    while start < window.end:
        chunks.append(Window(start, min(start + LONGEST_RANGE, window.end)))
        start += LONGEST_RANGE
    return chunks


def admit(response: RawResponse, reach: Reach | None = None) -> AcceptedResponse:
    """Validates a response: returns it with its window and its quarantined records, those beyond `reach` included.

    Raises:
        RejectedBodyError: the body must not be loaded; the error carries the response.
    """
    try:
        return admitted(response, reach)
    except UnusableBodyError as error:
        raise RejectedBodyError(response, str(error)) from None


class ElectricityMapsClient:
    """Client of v3 and v4, used as a context manager: `power-breakdown`, `carbon-intensity`, and v4's further signals.

    Args:
        base_url: with the version, e.g. `https://api.electricitymaps.com/v3`; it decides which signals are served.
        token: sent as `auth-token`; appears in no message, log or repr.
        clock: the present, UTC; stamps every response, and is compared with the provider's clock (clocks.py).
        timeout: seconds to connect and to wait for the next bytes; a whole response may take 1.5 times as long.
        attempts: attempts per request, the first included.
        backoff_seconds: upper bound of the first random pause; it doubles with every attempt.
        calls_per_minute: rate limit, evenly spaced, retries included, shared by all processes of this user that send
            the same token to the same host; None for no limit.
        longest_pause: most seconds to wait for this limit; None for no bound.

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
        longest_pause: float | None = None,
    ) -> None:
        if token is not None and not is_token(token):
            raise SettingsError(f"the API token cannot be sent: {SENDABLE}.")
        self._base_url = base_url.rstrip("/")
        self._requester = Requester(
            self._base_url,
            token,
            clock=clock,
            timeout=timeout,
            attempts=attempts,
            backoff_seconds=backoff_seconds,
            pace=Pace(pace_file(base_url, token), calls_per_minute, longest_pause) if calls_per_minute else None,
        )

    def __enter__(self) -> ElectricityMapsClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requester.close()

    def __repr__(self) -> str:
        return f"ElectricityMapsClient({self._base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ElectricityMapsClient holds a token and is not pickled; make one where it is used")

    def history(self, feed: Feed, zone: str) -> AcceptedResponse:
        """Requests the running hour and the 23 before it.

        Raises:
            ProviderError: one of its subclasses, naming zone, endpoint, window and remedy.
        """
        return self._signal(feed, "history", zone, {}, "the last 24 hours")

    def past_range(self, feed: Feed, zone: str, window: Window) -> AcceptedResponse:
        """Requests the hours of a window, at most 10 days.

        Raises:
            ProviderError: one of its subclasses, naming zone, endpoint, window and remedy.
            ValueError: more than 10 days.
        """
        if window.duration > LONGEST_RANGE:
            raise ValueError(f"past-range gives at most 10 days, not {window}")
        beyond = f"outside the requested range, {window}"
        near = window.widen(_TOLERANCE, _TOLERANCE)
        reach = Reach(near.start, near.end, beyond, asked=(window.start, window.end))
        return self._signal(feed, "past-range", zone, _range_query(window), str(window), reach)

    def past_range_request(self, feed: Feed, zone: str, window: Window) -> str:
        """Path and query of a past-range request, as bronze stores them."""
        return _path_of(self._url(feed, "past-range", zone, _range_query(window)))

    def updated_since(
        self, zone: str, since: datetime, window: Window, *, threshold: str, limit: int = 1000
    ) -> tuple[dict[datetime, datetime], bool]:
        """Requests the hours of a window that the provider updated after `since`.

        Returns each hour with its update time, and whether there are more.

        Args:
            zone: a zone key.
            since: lower bound of the update time.
            window: the hours of interest.
            threshold: shortest time from an hour to its update, an ISO 8601 duration.
            limit: most hours to return, up to 1,000.

        Raises:
            ProviderError: one of its subclasses, naming zone, endpoint, window and remedy.
        """
        query = {"zone": zone, "since": _iso(since), **_range_query(window)}
        query |= {"limit": str(limit), "threshold": threshold}
        what = f"updated-since of zone {zone}, {window}"
        body = self._object(f"{self._base_url}/updated-since?{urlencode(query)}", what)
        found: dict[datetime, datetime] = {}
        try:
            if body["zone"] != zone:
                raise ProviderError(f"{what}: the answer is for zone {self._requester.quote(str(body['zone']))}.")
            for update in body["updates"]:
                hour = floor_hour(parse_utc(update["datetime"], naive_is_utc=False))
                at = parse_utc(update["updatedAt"], naive_is_utc=False)
                if hour in window:
                    found[hour] = max(found.get(hour, at), at)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProviderError(f"{what}: the answer is no list of updates ({type(error).__name__}).") from None
        return found, bool(body.get("limitReached", len(found) >= limit))

    def zones(self) -> dict[str, Any]:
        """Zone keys with their names; with a token also the access of its plan."""
        return self._object(f"{self._base_url}/zones", "the list of zones")

    def health(self) -> dict[str, Any]:
        """The provider's own status, from the root of the host; it needs no token."""
        parts = urlsplit(self._base_url)
        return self._object(f"{parts.scheme}://{parts.netloc}/health", "the health of the API")

    def _object(self, url: str, what: str) -> dict[str, Any]:
        content = self._requester.get(url, what).content
        try:
            parsed = json.loads(content)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict) and not error_in(content):
            return parsed
        raise ProviderError(
            f"{what}: the answer is no usable JSON object: {self._requester.quote(words_of(content).text)}"
        )

    def _signal(
        self, feed: Feed, endpoint: str, zone: str, query: dict[str, str], hours: str, reach: Reach | None = None
    ) -> AcceptedResponse:
        url = self._url(feed, endpoint, zone, query)
        answer = self._requester.get(url, f"{feed.endpoint}/{endpoint} of zone {zone}, {hours}")
        # Escapes preserve every byte of a body that is not UTF-8.
        text = answer.content.decode("utf-8", errors="backslashreplace")
        body = self._requester.redacted(text)
        ends_by = end_of_running_hour(answer.headers)
        response = RawResponse(feed, zone, endpoint, _path_of(url), body, answer.arrived_at, ends_by=ends_by)
        if body != text:
            raise RejectedBodyError(response, "its body repeats the API token (replaced by [token] in what is kept)")
        if is_cut_off(answer.content):
            raise RejectedBodyError(
                response, f"its body was cut off in every try, at last after {len(body):,} characters"
            )
        if text.encode() != answer.content:
            raise RejectedBodyError(response, "its body is not UTF-8")
        words = error_in(answer.content)
        if words:
            raise RejectedBodyError(response, f"its body is an error and no data: {self._requester.quote(words.text)}")
        return admit(response, reach)

    def _url(self, feed: Feed, endpoint: str, zone: str, query: dict[str, str]) -> str:
        breakdown = {"breakdownType": feed.breakdown} if feed.breakdown else {}
        return f"{self._base_url}/{feed.endpoint}/{endpoint}?{urlencode({'zone': zone, **breakdown, **query})}"


def _range_query(window: Window) -> dict[str, str]:
    return {"start": _iso(window.start), "end": _iso(window.end)}


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"
