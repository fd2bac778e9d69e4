"""A past for forecasts: some weeks of simulated hourly runs, and the same hours fetched afterwards.

Bodies are the simulator's; admission, bronze, silver and gold are the pipeline's. No HTTP, no Dagster. See
docs/tutorial.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from emaps_dagster.cli.demo.folder import DemoFolder
from emaps_dagster.contracts.responses import AcceptedResponse, RawResponse
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, gold_window, silver_window, utc_now
from emaps_dagster.contracts.zones import CARBON, POWER, Feed
from emaps_dagster.electricity_maps.client import admit, past_range_chunks
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.ingest import ingest
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster.simulator.perturbations import Perturbation
from emaps_dagster.simulator.provider import Endpoint, FactorType, Provider

ZONE = "GR"
_DAY = timedelta(days=1)
# The longest lag is a week; its first hour is in no later row.
_LOOKBACK = 8 * _DAY
_SHORTEST = 14
# The minute of the hourly schedule.
_MINUTE = timedelta(minutes=7)
_TABLES = {POWER: POWER_DATA, CARBON: CARBON_DATA}


@dataclass(frozen=True)
class History:
    """Two folders of tables with the same hours of zone GR.

    Attributes:
        as_it_came: filled by hourly runs at minute 7, then fetched once more: silver and gold hold the values of today.
        fetched_later: filled by one run at the end; what was known before is not in it.
        start: first day of issue times whose lags are all in the tables.
        end: end of the issue times whose next 24 hours are over.
    """

    as_it_came: Path
    fetched_later: Path
    start: datetime
    end: datetime

    def __str__(self) -> str:
        return (
            f"As hourly runs filled them: {self.as_it_came}\nFetched at the end only: {self.fetched_later}\n"
            f"Issue times of zone {ZONE}: [{self.start:%Y-%m-%dT%H:%MZ}, {self.end:%Y-%m-%dT%H:%MZ})"
        )


class _RememberingProvider(Provider):
    """Computes the values of a record once: 24 hourly bodies hold the same hour. Nothing is planted in it."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[Feed, datetime, int, bool], dict[str, Any]] = {}

    def _values(
        self,
        feed: Feed,
        zone: str,
        hour: datetime,
        variant: int,
        seen: list[Perturbation],
        factors: FactorType,
        *,
        estimated: bool = False,
    ) -> dict[str, Any]:
        key = (feed, hour, variant, estimated)
        if key not in self._known:
            self._known[key] = super()._values(feed, zone, hour, variant, seen, factors, estimated=estimated)
        return self._known[key]


def make_history(folder: str | Path = "demo", days: int = 42, now: datetime | None = None) -> History:
    """Make the tables of so many days before now; what an earlier demo left in the folder is removed.

    Args:
        folder: of the demo; it is made, or was made by a demo.
        days: at least 14.
        now: the moment at which they end; default the present. The last run is at minute 7 before it.

    Raises:
        ValueError: days is below 14.
        FolderError: the folder holds other files, or another demo uses it.
    """
    if days < _SHORTEST:
        raise ValueError(f"days is {days}; at least {_SHORTEST} are needed: a week of lags, then days to learn from.")
    last = floor_hour((now or utc_now()) - _MINUTE) + _MINUTE
    hours = Window(floor_hour(last) - days * _DAY, floor_hour(last))
    place = DemoFolder(Path(folder).resolve())
    with place.claimed(), embedded_session() as spark:
        place.start_afresh()
        as_it_came, later = (FolderLakehouse(spark, path) for path in (place.warehouse, place.fetched_later))
        provider = _RememberingProvider()
        for lakehouse in (as_it_came, later):
            for table in _TABLES.values():
                lakehouse.create(table)
        for feed, table in _TABLES.items():
            afterwards = list(_past_ranges(provider, feed, hours, last))
            ingest(as_it_came, table, itertools.chain(_hourly_runs(provider, feed, hours, last), afterwards))
            ingest(later, table, iter(afterwards))
        for lakehouse in (as_it_came, later):
            merge_silver(lakehouse, silver_window(hours))
            merge_gold(lakehouse, (ZONE,), gold_window(hours))
    first_midnight = (hours.start + _DAY - HOUR).replace(hour=0)
    return History(place.warehouse, place.fetched_later, first_midnight + _LOOKBACK, hours.end.replace(hour=0) - _DAY)


def _hourly_runs(provider: Provider, feed: Feed, hours: Window, last: datetime) -> Iterator[AcceptedResponse]:
    """What the runs at minute 7 received: the running hour and the 23 before it."""
    for hour in hours.hours():
        now = hour + HOUR + (last - hours.end)
        yield _response(provider, feed, "history", now, None)


def _past_ranges(provider: Provider, feed: Feed, hours: Window, now: datetime) -> Iterator[AcceptedResponse]:
    for part in past_range_chunks(hours):
        yield _response(provider, feed, "past-range", now, part)


def _response(
    provider: Provider, feed: Feed, endpoint: Endpoint, now: datetime, part: Window | None
) -> AcceptedResponse:
    query = f"zone={ZONE}" + (f"&start={part.start:%Y-%m-%dT%H:%MZ}&end={part.end:%Y-%m-%dT%H:%MZ}" if part else "")
    body = provider.body(feed, ZONE, endpoint, now, part).decode()
    return admit(RawResponse(feed, ZONE, endpoint, f"/v3/{feed.endpoint}/{endpoint}?{query}", body, now))
