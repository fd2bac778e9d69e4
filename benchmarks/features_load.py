"""How long a person waits for `features.load`, all columns unless said: `python -m benchmarks.features_load`.

Zone GR, embedded engine: a year fetched afterwards in 10-day ranges, its last 30 days by hourly runs as well. What was
known when is computed each time, without the cache, unless said.

Then GR and DE, a year by hourly runs: seconds, CPU seconds and peak memory of one call in a process of its own, without
imports. The engine starts in the call. Where the cache is named, an earlier process made the same call.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from benchmarks.measurements import Figures, all_processes, progress
from emaps_dagster import features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from harness.history_builder import Past

YEAR = Window(datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2025, 1, 1, tzinfo=timezone.utc))
TICKED = timedelta(days=30)
_CACHED = "a year, as_of, from the cache"
# Hours before the first of them are not known, so the second day is the first with a whole window.
TWO_ZONES = (("GR", "DE"), YEAR.start + timedelta(days=1), YEAR.end)
_FEW = ["carbon_intensity", "lag_carbon_intensity_1h", "rolling_avg_carbon_intensity_24h"]
_FIVE = [*_FEW, "production_solar", "production_total"]
CALLS: dict[str, dict[str, object]] = {
    "known_at 15min, all columns": {"known_at": "15min"},
    "known_at 15min, five columns": {"known_at": "15min", "columns": _FIVE},
    "as_of, all columns": {"as_of": YEAR.end + timedelta(days=60)},
    "as_of, five columns": {"as_of": YEAR.end + timedelta(days=60), "columns": _FIVE},
}
_COLD = """
import time
begin = time.perf_counter()
from emaps_dagster import features
features.load("GR", {!r}, {!r}, warehouse={!r})
print(time.perf_counter() - begin)
"""


def _ticked(past: Past, hour: datetime, end: datetime) -> None:
    """Stores what hourly runs of the days from `hour` on would have fetched."""
    while hour < end:
        past.tick(*(hour + number * HOUR + timedelta(minutes=67) for number in range(24)))
        hour += timedelta(days=1)


def build(folder: Path) -> None:
    with embedded_session() as spark:
        past = Past(FolderLakehouse(spark, folder))
        _ticked(past, YEAR.end - TICKED, YEAR.end)
        past.backfill(YEAR, YEAR.end + timedelta(days=40))
        past.merge(YEAR)


def build_two_zones(folder: Path) -> None:
    with embedded_session() as spark:
        past = Past(FolderLakehouse(spark, folder), TWO_ZONES[0])
        _ticked(past, YEAR.start, YEAR.end)
        past.merge(YEAR)


def call(folder: Path, name: str) -> None:
    """Makes one call of `CALLS` and prints what it took."""
    before, began = all_processes(), time.perf_counter()
    features.load(*TWO_ZONES, warehouse=folder, **CALLS[name])  # type: ignore[arg-type]
    seconds, after = time.perf_counter() - began, all_processes()
    print(json.dumps([seconds, after.seconds - before.seconds, after.peak_gigabytes]))


def measure_two_zones(folder: Path, repeats: int, taken: Figures) -> None:
    for number in range(repeats):
        for name in CALLS:
            progress(f"features_load: two zones, {name}, {number + 1} of {repeats}")
            for megabytes, way in ((0, ""), (512, ", from the cache")):
                command = [sys.executable, "-m", "benchmarks.features_load", "--call", name, "--folder", str(folder)]
                environment = {**os.environ, "EMAPS_FEATURES_CACHE_MB": str(megabytes)}
                # The first call with the cache fills it.
                for _ in range(2 if megabytes and number == 0 else 1):
                    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
                for unit, value in zip(("s", "CPU s", "GB"), json.loads(ran.stdout), strict=True):
                    taken.add(f"two zones, a year, {name}{way}: {unit}", value, unit)


def measure(folder: Path, repeats: int) -> Figures:
    taken = Figures()
    code = _COLD.format(YEAR.start.isoformat(), YEAR.end.isoformat(), str(folder))
    year, month = (YEAR.start, YEAR.end), (YEAR.end - TICKED, YEAR.end)
    now = YEAR.end + timedelta(days=60)
    questions: dict[str, Callable[[], object]] = {
        "a year as stored, warm": lambda: features.load("GR", *year, warehouse=folder),
        "a year as stored, three columns, warm": lambda: features.load("GR", *year, warehouse=folder, columns=_FEW),
        "30 days of hourly runs, as_of": lambda: features.load("GR", *month, as_of=now, warehouse=folder),
        "30 days of hourly runs, known_at 15min": lambda: features.load(
            "GR", *month, known_at="15min", warehouse=folder
        ),
        "a year, as_of": lambda: features.load("GR", *year, as_of=now, warehouse=folder),
        "a year, known_at 420d": lambda: features.load(
            "GR", *year, known_at="420d", warehouse=folder, allow="backfilled"
        ),
        "a year, as_of, three columns": lambda: features.load("GR", *year, as_of=now, warehouse=folder, columns=_FEW),
        _CACHED: lambda: features.load("GR", *year, as_of=now, warehouse=folder),
    }
    for number in range(repeats):
        progress(f"features_load: {number + 1} of {repeats}")
        cold = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        taken.add("a year as stored, a new process, imports included", float(cold.stdout))
        for name, ask in questions.items():
            os.environ["EMAPS_FEATURES_CACHE_MB"] = "512" if name == _CACHED else "0"
            if number == 0:
                # Imports, for what was known when the start of the engine, and the cache's first answer.
                ask()
            with taken.clock(name):
                ask()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--call", choices=CALLS, help="one call on --folder, in this process")
    parser.add_argument("--folder", type=Path, help="the tables of two zones; made in a temp folder by default")
    options = parser.parse_args()
    if options.call:
        call(options.folder, options.call)
        return
    with tempfile.TemporaryDirectory() as name:
        progress("features_load: making a year and 30 days of hourly runs")
        build(Path(name) / "warehouse")
        taken = measure(Path(name) / "warehouse", options.repeats)
        two_zones = options.folder or Path(name) / "two_zones"
        if not two_zones.exists():
            progress("features_load: making a year of hourly runs of two zones")
            build_two_zones(two_zones)
        measure_two_zones(two_zones, options.repeats, taken)
    print(taken.table())


if __name__ == "__main__":
    main()
