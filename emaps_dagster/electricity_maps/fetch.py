"""Fetches a window of hours zone by zone, and yields each response or failure.

Chooses between /history and /past-range and continues with the next zone after a failure; client.py does the HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from emaps_dagster.contracts.api_limits import HISTORY_SPAN, LONGEST_BODY
from emaps_dagster.contracts.errors import NoDataError, ProviderError, RejectedBodyError
from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.windows import HOUR, LATE_DATA_MARGIN, Window, floor_hour
from emaps_dagster.contracts.zones import Feed
from emaps_dagster.electricity_maps.admission import Reach
from emaps_dagster.electricity_maps.client import admit, past_range_chunks

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
    """Hours that could not be fetched: `error` names zone, feed, window, cause and remedy."""

    error: ProviderError


def count_requests(window: Window, now: datetime) -> int:
    """Number of requests for a window of one feed and zone, without retries."""
    older_than = floor_hour(now) - HISTORY_SPAN
    history = int(window.end > older_than)
    if window.start >= older_than:
        return history
    return history + len(past_range_chunks(Window(window.start, min(window.end, older_than))))


def fetch(
    client: ResponseSource,
    feed: Feed,
    zones: tuple[str, ...],
    window: Window,
    now: datetime,
    answered: Set[str] = frozenset(),
) -> Iterator[AcceptedResponse | FetchFailure]:
    """Fetches a window of one feed for every zone; a zone that fails does not stop the others.

    Args:
        client: the API, or a stand-in of it.
        feed: the signal.
        zones: zone keys.
        window: the hours to fetch.
        now: the present, UTC; it determines the hours that /history carries.
        answered: past-range requests (path and query) to skip.

    Yields:
        Usable responses and failures, in the order of the requests, so that the caller can store each at once.
    """
    for zone in zones:
        yield from _fetch_zone(client, feed, zone, window, now, answered)


def _fetch_zone(
    client: ResponseSource, feed: Feed, zone: str, window: Window, now: datetime, answered: Set[str]
) -> Iterator[AcceptedResponse | FetchFailure]:
    older_than = floor_hour(now) - HISTORY_SPAN
    if window.end > older_than:
        try:
            response = _near(client.history(feed, zone), window, now)
        except ProviderError as error:
            yield FetchFailure(error)
        else:
            yield response
            # The clock may have passed a full hour meanwhile, and a body may be shorter than a day.
            older_than = max(older_than, min(response.first_hour, window.end))
    if window.start >= older_than:
        return
    older = Window(window.start, min(window.end, older_than))
    for chunk in past_range_chunks(older):
        if answered and client.past_range_request(feed, zone, chunk) in answered:
            continue
        try:
            yield _near(client.past_range(feed, zone, chunk), window, now)
        except (RejectedBodyError, NoDataError) as error:
            yield FetchFailure(error)
        except ProviderError as error:
            # A wrong token, a missing plan or a provider that is down would fail the next chunk too.
            yield FetchFailure(_naming_the_rest(error, chunk.end, older.end))
            return


def _naming_the_rest(error: ProviderError, end: datetime, until: datetime) -> ProviderError:
    if end >= until:
        return error
    return type(error)(f"{error} The later hours {Window(end, until)} were not asked for.")


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
    beyond = f"more than {LATE_DATA_MARGIN // HOUR} hours from the hours asked for, {window}"
    near = admit(response, Reach(start, end, beyond))
    if not _lies_in(near, reach):
        raise RejectedBodyError(response, f"its hours span more than {LONGEST_BODY.days} days")
    return near


def _lies_in(response: AcceptedResponse, reach: Window) -> bool:
    held = response.window
    return reach.start <= held.start and held.end <= reach.end and held.duration <= LONGEST_BODY
