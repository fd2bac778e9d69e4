"""The simulated provider without its cost: bodies are made once, kept in the temp folder, and answered from there.

A stand-in for the HTTP client: `fetch` asks it as it asks the API.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path

from emaps_dagster import simulator
from emaps_dagster.contracts.responses import AcceptedResponse, RawResponse
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import FEEDS, Feed
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster.electricity_maps.fetch import FetchFailure, fetch
from emaps_dagster.simulator.provider import Endpoint, Provider, Version

# The middle of a month: a tick at the turn of a month merges into two months and costs about twice as much. In the past
# of any machine that runs this: Dagster has no partitions of hours that are not over by its own clock.
PRESENT = datetime(2025, 12, 15, 0, 7, tzinfo=timezone.utc)


class StoredApi:
    """Answers of a provider whose clock stands at `now`; a body that is not in the store is made first."""

    def __init__(self, now: datetime = PRESENT, seed: int = 7, version: Version = "v3") -> None:
        self.now = now
        self.seed = seed
        self.version: Version = version
        # Asked by what is measured or prepared; each would be a request.
        self.calls = 0

    def history(self, feed: Feed, zone: str) -> AcceptedResponse:
        running = floor_hour(self.now)
        return self._answer(feed, zone, "history", Window(running - 23 * HOUR, running + HOUR))

    def past_range(self, feed: Feed, zone: str, window: Window) -> AcceptedResponse:
        return self._answer(feed, zone, "past-range", window)

    def past_range_request(self, feed: Feed, zone: str, window: Window) -> str:
        return self._asked(feed, zone, "past-range", window)

    def prepare(self, zones: tuple[str, ...], window: Window, feeds: tuple[Feed, ...] = FEEDS) -> int:
        """Make every body that a run of the window asks for; returns how many there are."""
        made = 0
        for feed in feeds:
            for answer in fetch(self, feed, zones, window, self.now):
                if isinstance(answer, FetchFailure):
                    raise answer.error
                made += 1
        return made

    def _answer(self, feed: Feed, zone: str, endpoint: Endpoint, window: Window) -> AcceptedResponse:
        self.calls += 1
        name = f"{feed.name}-{endpoint}-{zone}-{window.start:%Y%m%dT%H}-{window.end:%Y%m%dT%H}-{self.now:%Y%m%dT%H%M}"
        path = _store() / f"{self.version}-{self.seed}-{name}.json"
        if not path.exists():
            written = path.with_suffix(f".{os.getpid()}")
            written.write_bytes(self._provider.body(feed, zone, endpoint, self.now, window, version=self.version))
            written.replace(path)
        request = self._asked(feed, zone, endpoint, window)
        return admit(RawResponse(feed, zone, endpoint, request, path.read_text(), self.now))

    def _asked(self, feed: Feed, zone: str, endpoint: str, window: Window) -> str:
        breakdown = f"&breakdownType={feed.breakdown}" if feed.breakdown else ""
        hours = f"{window.start:%Y-%m-%dT%H}/{window.end:%Y-%m-%dT%H}"
        return f"/{self.version}/{feed.endpoint}/{endpoint}?zone={zone}{breakdown}&window={hours}"

    @cached_property
    def _provider(self) -> Provider:
        return Provider(self.seed)


def days_before(days: int, end: datetime = PRESENT) -> Window:
    """So many days of hours that were over."""
    return Window(floor_hour(end) - timedelta(days=days), floor_hour(end))


def _store() -> Path:
    # Another simulator is another provider: its bodies are none of these.
    sources = sorted(Path(simulator.__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"emaps-benchmarks-{digest}"
    folder.mkdir(exist_ok=True)
    return folder
