"""A warehouse with a past: what runs at given moments would have fetched, stored and merged.

The bodies are the simulator's; storing and merging are the pipeline's own. No HTTP, no Dagster run.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, gold_window, silver_window
from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER, Feed
from emaps_dagster.electricity_maps.admission import UnusableBodyError, hours_of_body
from emaps_dagster.electricity_maps.client import past_range_chunks
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.ingest import store
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster.simulator.provider import Endpoint, Provider

TABLE = {POWER: POWER_DATA, CARBON: CARBON_DATA}


class Past:
    """Fetches as a run at a moment would, and merges on request."""

    def __init__(
        self, lakehouse: Lakehouse, zones: tuple[str, ...] = ("GR",), provider: Provider | None = None
    ) -> None:
        self.lakehouse, self.zones, self.provider = lakehouse, zones, provider or Provider()
        for table in TABLE.values():
            lakehouse.create(table)

    def tick(self, *moments: datetime, feeds: Iterable[Feed] = FEEDS) -> Window:
        """Store what /history says at each moment; returns the hours of those hourly runs."""
        for feed in feeds:
            bodies = (self.history(feed, zone, now) for now in moments for zone in self.zones)
            store(self.lakehouse, TABLE[feed], [body for body in bodies if body is not None])
        return Window(floor_hour(min(moments)) - HOUR, floor_hour(max(moments)))

    def backfill(self, window: Window, now: datetime, feeds: Iterable[Feed] = FEEDS) -> Window:
        """Store what /past-range says of the window at a moment."""
        parts = past_range_chunks(window)
        for feed in feeds:
            bodies = [self.past_range(feed, zone, part, now) for zone in self.zones for part in parts]
            store(self.lakehouse, TABLE[feed], [body for body in bodies if body is not None])
        return window

    def merge(self, run: Window) -> None:
        """Bring silver and gold up to date, as runs of these hours do."""
        merge_silver(self.lakehouse, silver_window(run))
        merge_gold(self.lakehouse, self.zones, gold_window(run))

    def history(self, feed: Feed, zone: str, now: datetime) -> AcceptedResponse | None:
        return self._response(feed, zone, now, "history", None, f"zone={zone}")

    def past_range(self, feed: Feed, zone: str, hours: Window, now: datetime) -> AcceptedResponse | None:
        query = f"zone={zone}&start={hours.start:%Y-%m-%dT%H:%MZ}&end={hours.end:%Y-%m-%dT%H:%MZ}"
        return self._response(feed, zone, now, "past-range", hours, query)

    def _response(
        self, feed: Feed, zone: str, now: datetime, endpoint: Endpoint, hours: Window | None, query: str
    ) -> AcceptedResponse | None:
        body = self.provider.body(feed, zone, endpoint, now, hours).decode()
        try:
            span = hours_of_body(body, feed, zone)
        except UnusableBodyError:
            # No rows in a gap: the client would reject it.
            return None
        return AcceptedResponse(feed, zone, endpoint, f"/{feed.endpoint}/{endpoint}?{query}", body, now, span)
