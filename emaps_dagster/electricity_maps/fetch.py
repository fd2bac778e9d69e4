"""Fetches a window of hours zone by zone, and yields each response or failure.

Chooses between /history and /past-range and continues with the next zone after a failure; client.py does the HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from emaps_dagster.contracts.api_limits import HISTORY_SPAN, LONGEST_BODY
from emaps_dagster.contracts.errors import (
    GoneError,
    InvalidTokenError,
    NoDataError,
    NotInPlanError,
    ProviderError,
    RejectedBodyError,
    WrongAddressError,
)
from emaps_dagster.contracts.responses import AcceptedResponse, RawResponse
from emaps_dagster.contracts.signals import FLOWS, MIX, NEEDED_SIGNALS, TRACED_MIX
from emaps_dagster.contracts.windows import HOUR, LATE_DATA_MARGIN, Window, floor_hour
from emaps_dagster.contracts.zones import CARBON, POWER, Feed
from emaps_dagster.electricity_maps.admission import Reach, is_sandbox
from emaps_dagster.electricity_maps.client import admit, past_range_chunks
from emaps_dagster.electricity_maps.http_errors import withdrawn

# 401, 404 and 410; the address is wrong for 404 without the API's own words.
_REFUSALS = (NotInPlanError, InvalidTokenError, NoDataError, GoneError, WrongAddressError)
_OTHER_ROAD = (
    "EMAPS_POWER_SIGNAL=electricity-mix needs this signal; `python -m emaps_dagster.cli.preflight` says whether the "
    "token is served power-breakdown instead."
)
# Records of /history may lie so far ahead of the present: a clock may be wrong by hours.
_AHEAD = timedelta(days=1)


class ResponseSource(Protocol):
    """The methods of `ElectricityMapsClient` that `fetch` calls."""

    def history(self, feed: Feed, zone: str) -> AcceptedResponse:
        """The running hour and the 23 before it."""

    def past_range(self, feed: Feed, zone: str, window: Window) -> AcceptedResponse:
        """The hours of a window, at most 10 days."""

    def past_range_request(self, feed: Feed, zone: str, window: Window) -> str:
        """The path and query of such a request, as bronze stores it."""


@dataclass(frozen=True)
class FetchFailure:
    """Hours that could not be fetched: `error` names zone, feed, window, cause and remedy.

    `is_tolerated`: the plan lacks a signal without which only the percentages and the time of creation are null.
    """

    error: ProviderError
    is_tolerated: bool = False


def count_requests(window: Window, now: datetime) -> int:
    """Number of requests for a window of one feed and zone, without retries."""
    older_than = floor_hour(now) - HISTORY_SPAN
    history = int(window.end > older_than)
    if window.start >= older_than:
        return history
    return history + len(past_range_chunks(Window(window.start, min(window.end, older_than))))


def fetch(
    client: ResponseSource,
    feeds: Feed | tuple[Feed, ...],
    zones: tuple[str, ...],
    window: Window,
    now: datetime,
    answered: Set[str] = frozenset(),
) -> Iterator[AcceptedResponse | FetchFailure]:
    """Fetches a window of one feed for every zone; a zone that fails does not stop the others.

    Args:
        client: the API, or a stand-in of it.
        feeds: the signal, or the signals that make up the feed: each range is requested of all before the next range.
        zones: zone keys.
        window: the hours to fetch.
        now: the present, UTC; it determines the hours that /history carries.
        answered: past-range requests (path and query) to skip.

    Yields:
        Usable responses and failures, in the order of the requests, so that the caller can store each at once.
    """
    signals = feeds if isinstance(feeds, tuple) else (feeds,)
    for zone in zones:
        yield from _Zone(client, signals, zone, window, now, answered).outcomes()


class _Zone:
    """The requests of a zone, and what one response determines about the next."""

    def __init__(
        self,
        client: ResponseSource,
        feeds: tuple[Feed, ...],
        zone: str,
        window: Window,
        now: datetime,
        answered: Set[str],
    ) -> None:
        self._client, self._feeds, self._zone, self._window = client, feeds, zone, window
        self._now, self._answered = now, answered
        # Signals whose next chunk would fail as this one did.
        self._stopped: set[Feed] = set()
        # The mixes whose last body was of a sandbox key.
        self._sandbox: set[Feed] = set()

    def outcomes(self) -> Iterator[AcceptedResponse | FetchFailure]:
        older_than = floor_hour(self._now) - HISTORY_SPAN
        window = self._window
        if window.end > older_than:
            first_hours = []
            for feed in self._feeds:
                try:
                    response = self._request(feed, lambda feed: self._client.history(feed, self._zone))
                except ProviderError as error:
                    yield self._failure(feed, error)
                else:
                    yield response
                    first_hours.append(response.first_hour)
            # The clock may have passed a full hour meanwhile, and a body may be shorter than a day.
            if first_hours:
                older_than = max(older_than, min(max(first_hours), window.end))
        if window.start < older_than:
            yield from self._older(Window(window.start, min(window.end, older_than)))

    def _older(self, older: Window) -> Iterator[AcceptedResponse | FetchFailure]:
        for chunk in past_range_chunks(older):
            for feed in self._feeds:
                if feed not in self._stopped:
                    yield from self._chunk(feed, chunk, older)

    def _chunk(self, feed: Feed, chunk: Window, older: Window) -> Iterator[AcceptedResponse | FetchFailure]:
        client, zone = self._client, self._zone
        if self._answered and client.past_range_request(feed, zone, chunk) in self._answered:
            return
        try:
            yield self._request(feed, lambda feed: client.past_range(feed, zone, chunk))
        except (RejectedBodyError, NoDataError) as error:
            yield self._failure(feed, error)
        except ProviderError as error:
            # A wrong token, a missing plan or a provider that is down would fail the next chunk too.
            self._stopped.add(feed)
            yield self._failure(feed, _naming_the_rest(error, chunk.end, older.end))

    def _failure(self, feed: Feed, error: ProviderError) -> FetchFailure:
        return FetchFailure(error, is_tolerated=feed.is_optional and isinstance(error, NotInPlanError))

    def _request(self, feed: Feed, send: Callable[[Feed], AcceptedResponse]) -> AcceptedResponse:
        """Sends a request for a signal, and reports a refusal of power-breakdown that carbon-intensity does not get.

        Raises:
            ProviderError: no usable response.
        """
        try:
            response = _near(send(feed), self._window, self._now)
        except RejectedBodyError as error:
            if feed in (MIX, TRACED_MIX) and is_sandbox(error.response):
                self._sandbox.add(feed)
            raise
        except _REFUSALS as error:
            refusal = error
            if feed in NEEDED_SIGNALS and isinstance(error, NotInPlanError):
                refusal = NotInPlanError(f"{error} {_OTHER_ROAD}")
        else:
            self._sandbox.discard(feed)
            if feed == FLOWS and self._sandbox:
                raise RejectedBodyError(
                    response,
                    "electricity-mix of the same call is marked as the provider's sandbox data, and rows of "
                    "electricity-flows carry no mark",
                )
            return response
        if feed == POWER and _may_be_withdrawn(refusal):
            try:
                answer: RawResponse = send(CARBON)
            except RejectedBodyError as error:
                answer = error.response
            except ProviderError:
                raise refusal from None
            is_v4 = answer.source.startswith("electricitymaps/v4/")
            raise withdrawn(refusal, f"{answer.feed.endpoint}/{answer.endpoint}", is_v4=is_v4)
        raise refusal


def _may_be_withdrawn(refusal: ProviderError) -> bool:
    """Whether a refusal fits a removed endpoint: one of 401, 404 and 410, and not of a single range of old hours."""
    return not isinstance(refusal, NoDataError) or "/history of zone" in str(refusal)


def _naming_the_rest(error: ProviderError, end: datetime, until: datetime) -> ProviderError:
    if end >= until:
        return error
    return type(error)(f"{error} The later hours {Window(end, until)} were not requested.")


def _near(response: AcceptedResponse, window: Window, now: datetime) -> AcceptedResponse:
    """Quarantines the records whose hours lie too far from the run's own hours for this run to merge them.

    Raises:
        RejectedBodyError: all records lie too far away.
    """
    reach = window.widen(LATE_DATA_MARGIN, LATE_DATA_MARGIN)
    if _lies_in(response, reach):
        return response
    start, end = reach.start, reach.end
    if response.endpoint == "history":
        # The margins of a run of a year span a year, and no body may span that.
        start, end = max(start, floor_hour(now) + _AHEAD - LONGEST_BODY), min(end, floor_hour(now) + _AHEAD)
    beyond = f"more than {LATE_DATA_MARGIN // HOUR} hours from the requested hours, {window}"
    near = admit(response, Reach(start, end, beyond))
    if not _lies_in(near, reach):
        raise RejectedBodyError(response, f"its hours span more than {LONGEST_BODY.days} days")
    return near


def _lies_in(response: AcceptedResponse, reach: Window) -> bool:
    held = response.window
    return reach.start <= held.start and held.end <= reach.end and held.duration <= LONGEST_BODY
