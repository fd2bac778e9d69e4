"""Many writers at once, and runs killed at any moment: the long proofs behind two short tests.

python -m emaps_dagster_tests.support.endurance writers --writers 8 --runs 200
python -m emaps_dagster_tests.support.endurance writers --writers 4 --runs 20 --no-turns
python -m emaps_dagster_tests.support.endurance kills --kills 100
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

import emaps_dagster.lakehouse.delta_rs
from emaps_dagster.contracts.errors import EmapsError
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, gold_window, silver_window
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster.simulator.provider import Provider
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.pipeline_harness import stored_rows
from emaps_dagster_tests.support.reference_implementation import (
    differences,
    gold_by_hand,
    latest_by_hand,
    silver_by_hand,
)
from harness.history_builder import Past

# Five days that end in the last hours of winter time and of a month.
BASE = utc(2024, 3, 27)
GOLD = ml_features(("GR",))


class Clock:
    """A time that all processes share and that runs fast, so that hours end and are revised while they write."""

    def __init__(self, began: float, speed: float) -> None:
        self.began, self.speed = began, speed

    def now(self) -> datetime:
        passed = timedelta(seconds=(time.time() - self.began) * self.speed)
        return BASE + 5 * 24 * HOUR + timedelta(microseconds=passed // timedelta(microseconds=1))


def provider_of(seed: int) -> Provider:
    """The same for every process: two hundred hours with revisions at moments all over the test."""
    provider, dice = Provider(seed), random.Random(seed)
    for number in range(200):
        hour = BASE + dice.randrange(200) * HOUR
        at = BASE + (120 + dice.random() * 100) * HOUR
        provider.revise("GR", hour, at=at, variant=1000 + number)
    return provider


def judge(folder: Path) -> list[str]:
    """Where silver and gold are not what bronze says, read by hand."""

    def latest(table: Table) -> Any:
        rows = DeltaTable(str(folder / table.layer / table.name)).to_pyarrow_table().to_pylist()
        return latest_by_hand((r["zone"], json.loads(r["raw_json"]), r["ingested_at"], r["raw_json"]) for r in rows)

    silver = silver_by_hand(latest(POWER_DATA), latest(CARBON_DATA))
    return differences(stored_rows(folder, ENERGY_DATA), silver) + differences(
        stored_rows(folder, GOLD), gold_by_hand(silver)
    )


def run(past: Past, window: Window) -> int:
    """Silver and gold of a run; returns how many commit races it lost on the way."""
    silver = merge_silver(past.lakehouse, silver_window(window))
    gold = merge_gold(past.lakehouse, past.zones, gold_window(window))
    return silver.retries + gold.retries


def write(number: int, folder: Path, runs: int, clock: Clock, seed: int, turns: bool, results: Any) -> None:
    """One writer: ticks, late ticks and backfills over hours that the others write too.

    Without turns, as on a file system without locks, the commit alone finds a race.
    """
    if not turns:
        emaps_dagster.lakehouse.delta_rs.table_lock = lambda _folder: nullcontext()
    dice = random.Random(f"{seed}-{number}")
    lost = failed_once = 0
    waiting: list[Window] = []
    with embedded_session() as spark:
        past = Past(FolderLakehouse(spark, folder), provider=provider_of(seed))
        for _ in range(runs):
            now = clock.now()
            if dice.random() < 0.6:
                window = past.tick(now)
            else:
                end = floor_hour(now) - dice.randrange(100) * HOUR
                window = past.backfill(Window(end - dice.randrange(1, 40) * HOUR, end), now)
            try:
                lost += run(past, window)
            except EmapsError:
                failed_once += 1
                waiting.append(window)
        for window in waiting:
            lost += run(past, window)
    results.put((runs, lost, failed_once))


def writers(folder: Path, count: int, runs: int, seed: int, *, turns: bool = True) -> dict[str, Any]:
    """Let them write; returns what is to be reported. Anything wrong is in `wrong`."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    # A run takes about two seconds for every writer that waits for a core; some 60 hours pass in all.
    clock = Clock(time.time(), speed=60 * 3600 / max(60.0, runs * count * 0.8))
    with embedded_session() as spark:
        past = Past(FolderLakehouse(spark, folder), provider=provider_of(seed))
        run(past, past.backfill(Window(BASE, BASE + 5 * 24 * HOUR), clock.now()))
    began = time.monotonic()
    processes = [
        context.Process(target=write, args=(number, folder, runs, clock, seed, turns, results))
        for number in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    told = [results.get() for process in processes if process.exitcode == 0]
    return {
        "writers": count,
        "they take turns": turns,
        "runs": sum(done for done, _, _ in told),
        "commit conflicts and computed again": sum(lost for _, lost, _ in told),
        "runs that gave up once and were run again": sum(failed for _, _, failed in told),
        "writers that failed": sum(process.exitcode != 0 for process in processes),
        "seconds": round(time.monotonic() - began),
        "versions": {t.name: DeltaTable(str(folder / t.layer / t.name)).version() for t in (ENERGY_DATA, GOLD)},
        "rows": len(stored_rows(folder, GOLD)),
        "wrong": judge(folder),
    }


def tick_slowly(folder: Path, now: datetime, seed: int, ready: Any) -> None:
    """A child that says when it begins, and is killed somewhere after that."""
    with embedded_session() as spark:
        past = Past(FolderLakehouse(spark, folder), provider=provider_of(seed))
        ready.send("begins")
        run(past, past.tick(now))
        ready.send("done")


def kills(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Kill -9 a tick at a random moment, run the partition again, judge; as often as asked."""
    context = multiprocessing.get_context("spawn")
    dice = random.Random(seed)
    died: Counter[str] = Counter()
    wrong: list[str] = []
    duration = 1.5
    with embedded_session() as spark:
        lakehouse = FolderLakehouse(spark, folder)
        past = Past(lakehouse, provider=provider_of(seed))
        run(past, past.backfill(Window(BASE, BASE + 5 * 24 * HOUR), BASE + 5 * 24 * HOUR))
        now = BASE + 5 * 24 * HOUR + timedelta(minutes=7)
        while died.total() - died["after the end"] < count:
            now += HOUR * dice.choice([0.25, 0.5, 1])
            before = {t.name: lakehouse.version(t) for t in (POWER_DATA, CARBON_DATA, ENERGY_DATA, GOLD)}
            ours, theirs = context.Pipe()
            child = context.Process(target=tick_slowly, args=(folder, now, seed, theirs))
            child.start()
            ours.recv()
            begun = time.monotonic()
            finished = ours.poll(dice.uniform(0, 1.1 * duration))
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            if finished:
                duration = 0.7 * duration + 0.3 * (time.monotonic() - begun)
                died["after the end"] += 1
            else:
                changed = [name for name, version in before.items() if _version(lakehouse, name) != version]
                died["after committing " + (", ".join(changed) or "nothing")] += 1
            run(past, past.tick(now))
            wrong += judge(folder)
    return {"killed": dict(died), "wrong": wrong}


def _version(lakehouse: FolderLakehouse, name: str) -> int | None:
    return next(lakehouse.version(t) for t in (POWER_DATA, CARBON_DATA, ENERGY_DATA, GOLD) if t.name == name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m emaps_dagster_tests.support.endurance", description=__doc__)
    parser.add_argument("proof", choices=("writers", "kills"))
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--runs", type=int, default=200, help="of each writer")
    parser.add_argument("--no-turns", action="store_true", help="the file lock is not there")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Path(folder) / "warehouse"
        if options.proof == "writers":
            report = writers(warehouse, options.writers, options.runs, options.seed, turns=not options.no_turns)
        else:
            report = kills(warehouse, options.kills, options.seed)
    print(json.dumps(report, indent=2, default=str))
    return 1 if report["wrong"] or report.get("writers that failed") else 0


if __name__ == "__main__":
    sys.exit(main())
