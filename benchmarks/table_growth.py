"""A tick and a revision on tables of a month to ten years, and of many ticks: `python -m benchmarks.table_growth`.

Zone GR, embedded engine, warm, no HTTP and no Dagster; the tables alternate. A tick is bronze, silver, gold and all
checks of a new hour; a revision is a response with one changed value of an hour 60 days ago; nothing new is the same
run again; reads are of all rows and columns. Files and versions are what silver and gold gained.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

from deltalake import DeltaTable

from benchmarks.bodies import StoredApi, days_before
from benchmarks.measurements import Figures, progress
from benchmarks.tick import judge, merge, take_in
from emaps_dagster.contracts.responses import RawResponse
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import ENERGY_DATA, POWER_DATA, all_tables, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, gold_window, silver_window
from emaps_dagster.contracts.zones import POWER
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.ingest import store
from emaps_dagster.pipeline.silver import merge_silver

ZONES = ("GR",)
GOLD = ml_features(ZONES)
# Late enough that ten years lie behind it: the simulator's grid begins in 2021.
PRESENT = datetime(2031, 12, 15, 0, 7, tzinfo=timezone.utc)
SIZES = {"one month": 30, "one year": 365, "five years": 1826, "ten years": 3652}
REVISED = timedelta(days=60)
WARM_UP = 2


class Grown:
    """A warehouse and the provider that fills it."""

    def __init__(self, lakehouse: FolderLakehouse, days: int, now: datetime = PRESENT) -> None:
        self.lakehouse, self.api = lakehouse, StoredApi(now)
        self.filled = days_before(days, now)

    def fill(self) -> None:
        self.api.prepare(ZONES, self.filled)
        self.api.calls = 0
        take_in(self.lakehouse, self.api, ZONES, self.filled)
        merge(self.lakehouse, ZONES, self.filled)

    def next_hour(self) -> Window:
        self.api.now += HOUR
        run = Window(floor_hour(self.api.now) - HOUR, floor_hour(self.api.now))
        self.api.prepare(ZONES, run)
        return run

    def tick(self, run: Window) -> None:
        take_in(self.lakehouse, self.api, ZONES, run)
        merge(self.lakehouse, ZONES, run)

    def revision(self) -> Window:
        """A response with another value of one hour is in bronze; returns the hour."""
        hour = floor_hour(self.api.now) - REVISED
        run = Window(hour, hour + HOUR)
        answer = self.api.past_range(POWER, ZONES[0], Window(hour - 12 * HOUR, hour + 12 * HOUR))
        body = json.loads(answer.body)
        (record,) = [row for row in body["data"] if row["datetime"].startswith(f"{hour:%Y-%m-%dT%H}")]
        record["powerConsumptionTotal"] += self.api.now.hour + 1
        record["updatedAt"] = f"{self.api.now:%Y-%m-%dT%H:%M:%S}.000Z"
        revised = RawResponse(answer.feed, answer.zone, answer.endpoint, answer.request, json.dumps(body), self.api.now)
        store(self.lakehouse, POWER_DATA, [admit(revised)])
        return run

    def settle(self, run: Window) -> None:
        """The answer before the revision, so that nothing else has changed."""
        hour = run.start
        store(
            self.lakehouse,
            POWER_DATA,
            [self.api.past_range(POWER, ZONES[0], Window(hour - 12 * HOUR, hour + 12 * HOUR))],
        )
        merge(self.lakehouse, ZONES, run)

    def written(self, table: Table) -> tuple[int | None, set[str]]:
        return self.lakehouse.version(table), set(DeltaTable(self.lakehouse.location(table)).file_uris())


def measure(sizes: dict[str, int], repeats: int, ticks: int) -> Figures:
    taken, unread = Figures(), Figures()
    with embedded_session() as spark, tempfile.TemporaryDirectory() as folder:
        grown = {}
        for size, days in sizes.items():
            progress(f"growth: a table of {size}")
            grown[size] = Grown(FolderLakehouse(spark, Path(folder) / size.replace(" ", "-")), days)
            grown[size].fill()
            taken.add(f"calls of the API for {size} of one zone", grown[size].api.calls, "calls")
        for number in range(WARM_UP + repeats):
            progress(f"growth: {number + 1} of {WARM_UP + repeats}")
            for size, table in grown.items():
                figures = taken if number >= WARM_UP else unread
                _tick(table, size, figures)
                if table.filled.duration > REVISED:
                    _revision(table, size, figures)
        first = next(iter(sizes))
        for size in list(sizes)[1:]:
            pairs = zip(taken.values[f"tick, {size}"], taken.values[f"tick, {first}"], strict=True)
            for long, short in pairs:
                taken.add(f"tick, {size} : {first}", long / short, "ratio")
        if ticks:
            _of_ticks(FolderLakehouse(spark, Path(folder) / "ticks"), ticks, repeats, taken)
    return taken


def _tick(table: Grown, size: str, figures: Figures) -> None:
    run = table.next_hour()
    before = table.api.calls
    with figures.clock(f"tick, {size}"):
        table.tick(run)
        judge(table.lakehouse, table.api, ZONES, run)
    figures.add(f"calls of the API for a tick, {size}", table.api.calls - before, "calls")
    was = {of.name: table.written(of) for of in (ENERGY_DATA, GOLD)}
    with figures.clock(f"nothing new, without checks, {size}"):
        merge(table.lakehouse, ZONES, run)
    assert was == {of.name: table.written(of) for of in (ENERGY_DATA, GOLD)}, "nothing was new, something was written"


def _revision(table: Grown, size: str, figures: Figures) -> None:
    table.settle(Window(floor_hour(table.api.now) - REVISED, floor_hour(table.api.now) - REVISED + HOUR))
    run = table.revision()
    before = {of.name: table.written(of) for of in (ENERGY_DATA, GOLD)}
    with figures.clock(f"revision 60 days back, without checks, {size}"):
        silver = merge_silver(table.lakehouse, silver_window(run))
        gold = merge_gold(table.lakehouse, ZONES, gold_window(run))
    assert (silver.total.inserted, silver.total.updated) == (0, 1), silver.total
    assert gold.total.inserted == 0, gold.total
    assert gold.total.updated <= 24, gold.total
    figures.add(f"rows of silver written by the revision, {size}", silver.total.updated, "rows")
    figures.add(f"rows of gold written by the revision, {size}", gold.total.updated, "rows")
    for of in (ENERGY_DATA, GOLD):
        version, files = table.written(of)
        was, old = before[of.name]
        assert version == (was or 0) + 1
        figures.add(f"files of {of.qualified_name} written by the revision, {size}", len(files - old), "files")


def _of_ticks(lakehouse: FolderLakehouse, ticks: int, repeats: int, taken: Figures) -> None:
    """A table that hourly runs alone have made, before and after maintenance."""
    name = f"{ticks} ticks"
    table = Grown(lakehouse, 2, PRESENT - ticks * HOUR)
    table.fill()
    for number in range(ticks):
        if number % 100 == 0:
            progress(f"growth: {number} of {ticks} ticks")
        table.tick(table.next_hour())
    for _ in range(repeats):
        _tick(table, f"after {name}", taken)
        _read(lakehouse, f"after {name}", taken)
    taken.add(f"files after {name}", _files(lakehouse), "files")
    with taken.clock(f"maintenance after {name}"):
        for of in all_tables(ZONES):
            if lakehouse.version(of) is not None:
                lakehouse.maintain(of, retain=timedelta(days=7))
    taken.add(f"files after {name} and maintenance", _files(lakehouse), "files")
    for _ in range(repeats):
        _tick(table, f"after {name} and maintenance", taken)
        _read(lakehouse, f"after {name} and maintenance", taken)


def _read(lakehouse: FolderLakehouse, when: str, figures: Figures) -> None:
    """All rows and columns, by the engine, as a person reads them."""
    for of in (ENERGY_DATA, GOLD):
        with figures.clock(f"read of the whole {of.qualified_name}, {when}"):
            lakehouse.collect(lakehouse.scan(of))


def _files(lakehouse: FolderLakehouse) -> int:
    """Of the latest versions of all tables."""
    stored = [of for of in all_tables(ZONES) if lakehouse.version(of) is not None]
    return sum(len(DeltaTable(lakehouse.location(of)).file_uris()) for of in stored)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(SIZES), help="of the tables, comma-separated")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--ticks", type=int, default=300, help="of the table made by ticks alone; 2000 take half an hour"
    )
    options = parser.parse_args()
    chosen = {size: SIZES[size] for size in options.sizes.split(",")}
    print(measure(chosen, options.repeats, options.ticks).table())
