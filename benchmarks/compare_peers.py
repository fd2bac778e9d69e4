"""The same work by ours and by others, alternating: `python -m benchmarks.compare_peers`.

Backfill: stored bodies to silver and gold on disk, ten zones and a year. Tick: the same of a new hour of one zone, on a
table of a year, with the provider's revisions. Each run is a process of its own, its first backfill cold, its second
warm; a start is the engine's. Ours and Polars' tables are compared to the last bit before a time is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from benchmarks.backfill import ZONES
from benchmarks.bodies import PRESENT, StoredApi, days_before
from benchmarks.measurements import Figures, all_processes, progress
from benchmarks.peers.sides import SIDES, Side
from benchmarks.tick import BRONZE, take_in
from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.electricity_maps.fetch import fetch
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.lakehouse.comparison import same_values
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.local_files import dataset
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.pipeline.ingest import rows_of

ONE_ZONE = ("GR",)
Figure = tuple[str, str, float]
# Peers whose tables must be ours; the row-based method is wrong by design where an hour is late.
SAME_ROWS = ("ours", "Polars")
WARM_UP = 2


def measure(sides: tuple[str, ...], repeats: int, zones: tuple[str, ...], days: int, ticks: int) -> Figures:
    taken = Figures()
    with tempfile.TemporaryDirectory() as name:
        given = Path(name) / "given"
        progress(f"against: bronze of {len(zones)} zones x {days} days and of {ticks} ticks, which is not measured")
        give(given, zones, days, ticks)
        for number in range(repeats):
            # Who begins changes every time: what one leaves in the machine's caches serves the next.
            for side in sides if number % 2 else reversed(sides):
                progress(f"against: {number + 1} of {repeats}, {side}")
                folder = Path(name) / side.replace(" ", "-")
                shutil.rmtree(folder, ignore_errors=True)
                once = ["--once", side, "--given", str(given), "--folder", str(folder)]
                what = ["--zones", ",".join(zones), "--days", str(days), "--ticks", str(ticks)]
                command = [sys.executable, "-m", "benchmarks.compare_peers", *once, *what]
                # An embedded session, as `give` had one, puts pyspark's mode into the environment.
                env = {key: value for key, value in os.environ.items() if not key.startswith("SPARK_")}
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
                for measured, unit, value in json.loads(done.stdout):
                    taken.add(f"{measured}, {side}", value, unit)
            if set(SAME_ROWS) <= set(sides) and not number:
                for kind, of in (("backfill", zones), ("ticks", ONE_ZONE)):
                    for table in (ENERGY_DATA, ml_features(of)):
                        rows = assert_equal(table, *(Path(name) / side / kind for side in SAME_ROWS))
                        taken.add(f"rows of {table.qualified_name} after the {kind}, equal to the last bit", rows, "")
    _ratios(taken, sides)
    return taken


def _ratios(taken: Figures, sides: tuple[str, ...]) -> None:
    """Ours by theirs, run by run; ticks by their medians."""
    for other in sides:
        if other == "ours" or "ours" not in sides:
            continue
        for what in ("start and cold backfill", "warm backfill", "tick"):
            mine, theirs = taken.values[f"{what}, ours"], taken.values[f"{what}, {other}"]
            for a, b in zip(mine, theirs, strict=True):
                taken.add(f"{what}, ours : {other}", a / b, "")


def assert_equal(table: Table, ours: Path, theirs: Path) -> int:
    """How many rows both have; an error if a single bit of them differs."""
    mine, other = (_rows(table, folder) for folder in (ours, theirs))
    assert mine.num_rows == other.num_rows, f"{table.qualified_name}: {mine.num_rows} rows, Polars {other.num_rows}"
    for column in table.column_names:
        wrong = [number for number, same in enumerate(same_values(mine[column], other[column]).to_pylist()) if not same]
        assert not wrong, (
            f"{table.qualified_name}.{column} differs in {len(wrong)} rows, first "
            f"{mine.slice(wrong[0], 1).select([*table.key, column]).to_pylist()}, "
            f"Polars {other.slice(wrong[0], 1).select([*table.key, column]).to_pylist()}"
        )
    return int(mine.num_rows)


def _rows(table: Table, warehouse: Path) -> pa.Table:
    stored = dataset(DeltaTable(warehouse / table.layer / table.name)).to_table()
    return conform(stored, table).sort_by([(name, "ascending") for name in table.key])


def give(folder: Path, zones: tuple[str, ...], days: int, ticks: int) -> None:
    """Bronze of the backfill and of the ticks' table, and the bodies that the ticks will add to it."""
    api, window = StoredApi(), days_before(days)
    api.prepare(zones, window)
    with embedded_session() as spark:
        take_in(FolderLakehouse(spark, folder / "backfill"), api, zones, window)
        take_in(FolderLakehouse(spark, folder / "ticks"), api, ONE_ZONE, window)
    for number in range(ticks):
        _answers(number)


def _answers(number: int) -> dict[Table, list[AcceptedResponse]]:
    """The responses for the run of an hour, with the provider's revisions of the hours before."""
    api = StoredApi(PRESENT + timedelta(hours=1 + number))
    outcomes = {table: fetch(api, feed, ONE_ZONE, _hour(number), api.now) for feed, table in BRONZE.items()}
    return {table: [it for it in outcome if isinstance(it, AcceptedResponse)] for table, outcome in outcomes.items()}


def _hour(number: int) -> Window:
    hour = floor_hour(PRESENT) + number * HOUR
    return Window(hour, hour + HOUR)


def once(side: Side, given: Path, folder: Path, zones: tuple[str, ...], days: int, ticks: int) -> list[Figure]:
    """One side in this process."""
    figures: list[Figure] = []

    def clock(what: str, work: Callable[[], None]) -> float:
        began, worked = time.perf_counter(), all_processes().seconds
        work()
        seconds = time.perf_counter() - began
        figures.append((what, "s", seconds))
        figures.append((f"work of all cores, {what}", "s", all_processes().seconds - worked))
        return seconds

    def warehouse(name: str, of: str) -> Path:
        shutil.copytree(given / of / "bronze", folder / name / "bronze")
        return folder / name

    run, own = (
        days_before(days),
        {name: warehouse(name, name.partition(" ")[0]) for name in ("backfill", "backfill again", "ticks")},
    )
    start = clock("start", side.start)
    cold = clock("cold backfill", lambda: side.merge(own["backfill"], zones, run))
    figures.append(("start and cold backfill", "s", start + cold))
    figures.append(("peak of memory", "GB", all_processes().peak_gigabytes))
    clock("warm backfill", lambda: side.merge(own["backfill again"], zones, run))
    side.merge(own["ticks"], ONE_ZONE, run)
    for number in range(ticks):
        for table, responses in _answers(number).items():
            write_deltalake(own["ticks"] / table.layer / table.name, rows_of(table, responses), mode="append")
        if number < WARM_UP:
            side.merge(own["ticks"], ONE_ZONE, _hour(number))
        else:
            clock("tick", partial(side.merge, own["ticks"], ONE_ZONE, _hour(number)))
    side.end()
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", default=",".join(SIDES), help="who takes part")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--zones", default=",".join(ZONES))
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--ticks", type=int, default=WARM_UP + 4)
    parser.add_argument("--once", choices=SIDES, help="one side in this process, as JSON")
    parser.add_argument("--given", type=Path)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    which = tuple(options.zones.split(","))
    if options.once:
        side = SIDES[options.once]()
        print(json.dumps(once(side, options.given, options.folder, which, options.days, options.ticks)))
    else:
        taking_part = tuple(options.sides.split(","))
        print(measure(taking_part, options.repeats, which, options.days, options.ticks).table())
