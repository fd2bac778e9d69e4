"""A bronze with a random past of one zone: late, missed and repeated responses, revisions, gaps, nulls, flaws, DST."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from emaps_dagster.contracts.errors import RejectedBodyError
from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.tables import CARBON_DATA, FEED_TABLES, POWER_DATA, WITHDRAWN_RESPONSES
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import FEEDS, MODE_KEYS, Feed
from emaps_dagster.lakehouse.arrow_schema import arrow_schema
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.pipeline.ingest import store
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.pipeline_harness import FLAWS, Provider

# Summer time begins on 31 March 2024, in Athens at 01:00 UTC; a month and a quarter end that day.
FIRST, LAST = utc(2024, 3, 21), utc(2024, 4, 4)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Past:
    """Responses by feed in the order of their ingestion, and those of them that were withdrawn."""

    responses: dict[str, list[AcceptedResponse]]
    withdrawn: list[AcceptedResponse]

    def counted(self, feed: Feed) -> list[AcceptedResponse]:
        return [response for response in self.responses[feed.name] if response not in self.withdrawn]


def random_past(seed: int, *, turn: datetime = LAST, other: int = 0) -> Past:
    """What hourly runs received from FIRST to LAST; after `turn` something else for each `other`."""
    dice = random.Random(seed)
    provider = Provider()
    provider.long_numbers = True
    provider.missing = {(dice.choice(["power", "carbon"]), FIRST + dice.randrange(400) * HOUR) for _ in range(12)}
    gap = FIRST + dice.randrange(220, 250) * HOUR
    provider.missing |= {(feed.name, gap + n * HOUR) for feed in FEEDS for n in range(4)}
    past = Past({feed.name: [] for feed in FEEDS}, [])
    provider.now = FIRST + 2 * HOUR
    turned = False
    while provider.now < LAST:
        if provider.now > turn and not turned:
            turned, dice = True, random.Random(seed + 1000 + other)
            # Every hour is revised, those before the turn included.
            for hour in Window(FIRST, LAST).hours():
                for feed in FEEDS:
                    provider.opinions[feed.name, hour] = 10_000 * (other + 1) + dice.randrange(9)
        _something_happens(provider, dice)
        feeds = dice.choice([FEEDS, FEEDS, FEEDS, FEEDS, FEEDS[:1], FEEDS[1:]])
        for feed in feeds:
            _receive(past, provider, feed, dice)
        # Ticks at minute 7 or so, two within a moment, missed ones, and an outage of most of a day.
        wait = dice.choice([HOUR] * 20 + [MINUTE, timedelta(0), 2 * HOUR, 5 * HOUR, 17 * HOUR])
        provider.now = provider.now + wait if wait < HOUR else floor_hour(provider.now) + wait + _minute(dice)
    for feed in FEEDS:
        past.withdrawn.extend(dice.sample(past.responses[feed.name], 2))
    return past


def _minute(dice: random.Random) -> timedelta:
    return dice.choice([7 * MINUTE, 7 * MINUTE, timedelta(0), timedelta(minutes=7, microseconds=dice.randrange(10**6))])


def _something_happens(provider: Provider, dice: random.Random) -> None:
    running = floor_hour(provider.now)
    for _ in range(dice.randrange(4)):
        hour = running - dice.randrange(1, 24) * HOUR
        provider.opinions[dice.choice(["power", "carbon"]), hour] = dice.randrange(1, 9)
    provider.null_modes = {dice.choice(MODE_KEYS)}
    provider.repeats = {running - dice.randrange(1, 20) * HOUR} if dice.random() < 0.2 else set()
    provider.backwards = dice.random() < 0.2
    provider.gone_neighbours = {dice.choice(["AL", "BG", "IT-SO"])} if dice.random() < 0.3 else set()
    flawed = dice.choice(["power", "carbon"]), running - dice.randrange(1, 6) * HOUR
    provider.flaws = {flawed: dice.randrange(len(FLAWS))} if dice.random() < 0.3 else {}


def _receive(past: Past, provider: Provider, feed: Feed, dice: random.Random) -> None:
    try:
        past.responses[feed.name].append(provider.history(feed, "GR"))
        if dice.random() < 0.04:
            # A range of the past, some of it never seen before.
            start = max(FIRST - 3 * 24 * HOUR, floor_hour(provider.now) - dice.randrange(30, 150) * HOUR)
            window = Window(start, start + dice.randrange(2, 40) * HOUR)
            past.responses[feed.name].append(provider.past_range(feed, "GR", window))
    except RejectedBodyError:
        # The client would not load it either.
        return


def write(spark: SparkSession, folder: Path, past: Past) -> Path:
    """The past as tables: bronze, withdrawals, and today's silver."""
    lakehouse = FolderLakehouse(spark, folder)
    for feed in FEEDS:
        lakehouse.create(FEED_TABLES[feed.name][0])
        store(lakehouse, FEED_TABLES[feed.name][0], past.responses[feed.name])
    if past.withdrawn:
        lakehouse.create(WITHDRAWN_RESPONSES)
        rows = [_withdrawal(response) for response in past.withdrawn]
        columns = [list(column) for column in zip(*rows, strict=True)]
        lakehouse.append(WITHDRAWN_RESPONSES, pa.table(columns, schema=arrow_schema(WITHDRAWN_RESPONSES)))
    merge_silver(lakehouse, Window(FIRST - 4 * 24 * HOUR, LAST))
    return folder


def _withdrawal(response: AcceptedResponse) -> tuple[object, ...]:
    table = POWER_DATA if response.feed.name == "power" else CARBON_DATA
    span = response.first_hour, response.window.end
    month = f"{response.window.start:%Y-%m}"
    key = (response.zone, response.request, response.payload_sha256, response.received_at)
    return (table.name, *key, *span, "a test", LAST, month)
