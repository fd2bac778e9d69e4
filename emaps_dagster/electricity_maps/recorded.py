"""Answers of the API that one machine fetches and another one stores: recorded call by call, and given again.

For compute that does not reach the provider. What `fetch` makes of the answers is decided where they are stored.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

from emaps_dagster.contracts.errors import ProviderError, ProviderUnavailableError
from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import Feed
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.fetch import ResponseSource, fetch

Answer = AcceptedResponse | ProviderError

# Of this process, by the name of the bronze table.
_given: dict[str, Recording] = {}


@dataclass(frozen=True)
class Recording:
    """The answers to the calls of one `fetch`.

    Attributes:
        api_url: the API with its version.
        now: the present that the calls were chosen by.
        answers: what was asked, with the answer or the error, in the order of the calls.
    """

    api_url: str
    now: datetime
    answers: tuple[tuple[str, Answer], ...]


def record(
    client: ResponseSource, api_url: str, feeds: tuple[Feed, ...], zones: tuple[str, ...], window: Window, now: datetime
) -> Recording:
    """Fetches a window of a feed for every zone; failures are recorded, not raised."""
    recorder = _Recorder(client)
    for _ in fetch(recorder, feeds, zones, window, now):
        pass
    return Recording(api_url, now, tuple(recorder.answers))


def give(recordings: Mapping[str, Recording]) -> None:
    """Keep recordings by the name of the bronze table; this process asks the API for none of these tables."""
    _given.clear()
    _given.update(recordings)


def recording_of(table: str) -> Recording | None:
    """The recording that this process was given for a bronze table."""
    return _given.get(table)


class RecordedClient:
    """Answers as recorded; a call that was not recorded is an error of the provider."""

    def __init__(self, recording: Recording) -> None:
        self._api_url = recording.api_url
        self._answers: defaultdict[str, deque[Answer]] = defaultdict(deque)
        for asked, answer in recording.answers:
            self._answers[asked].append(answer)

    def __enter__(self) -> RecordedClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def history(self, feed: Feed, zone: str) -> AcceptedResponse:
        """As `ElectricityMapsClient.history`."""
        return self._answer(_history(feed, zone))

    def past_range(self, feed: Feed, zone: str, window: Window) -> AcceptedResponse:
        """As `ElectricityMapsClient.past_range`."""
        return self._answer(_past_range(feed, zone, window))

    def past_range_request(self, feed: Feed, zone: str, window: Window) -> str:
        """As `ElectricityMapsClient.past_range_request`; nothing is sent."""
        with ElectricityMapsClient(self._api_url) as client:
            return client.past_range_request(feed, zone, window)

    def _answer(self, asked: str) -> AcceptedResponse:
        if not self._answers[asked]:
            raise ProviderUnavailableError(
                f"{asked}: this was not fetched on Dagster's machine (EMAPS_DATABRICKS_FETCH=host). Run these "
                "partitions again."
            )
        answer = self._answers[asked].popleft()
        if isinstance(answer, ProviderError):
            raise answer
        return answer


class _Recorder:
    def __init__(self, client: ResponseSource) -> None:
        self._client = client
        self.answers: list[tuple[str, Answer]] = []

    def history(self, feed: Feed, zone: str) -> AcceptedResponse:
        return self._noted(_history(feed, zone), lambda: self._client.history(feed, zone))

    def past_range(self, feed: Feed, zone: str, window: Window) -> AcceptedResponse:
        return self._noted(_past_range(feed, zone, window), lambda: self._client.past_range(feed, zone, window))

    def past_range_request(self, feed: Feed, zone: str, window: Window) -> str:
        return self._client.past_range_request(feed, zone, window)

    def _noted(self, asked: str, ask: Callable[[], AcceptedResponse]) -> AcceptedResponse:
        try:
            answer = ask()
        except ProviderError as error:
            self.answers.append((asked, error))
            raise
        self.answers.append((asked, answer))
        return answer


def _history(feed: Feed, zone: str) -> str:
    return f"{feed.name} of zone {zone}, the last 24 hours"


def _past_range(feed: Feed, zone: str, window: Window) -> str:
    return f"{feed.name} of zone {zone}, {window}"
