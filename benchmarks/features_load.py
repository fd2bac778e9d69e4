"""How long a person waits for `features.load`, all columns unless said: `python -m benchmarks.features_load`.

Zone GR, embedded engine: a year fetched afterwards in 10-day ranges, its last 30 days by hourly runs as well. What was
known when is computed each time, without the cache, unless said.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from benchmarks.measurements import Figures, progress
from emaps_dagster import features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from harness.history_builder import Past

YEAR = Window(datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2025, 1, 1, tzinfo=timezone.utc))
TICKED = timedelta(days=30)
_CACHED = "a year, as_of, from the cache"
_COLD = """
import time
begin = time.perf_counter()
from emaps_dagster import features
features.load("GR", "2024-01-01", "2025-01-01", warehouse={!r})
print(time.perf_counter() - begin)
"""


def build(folder: Path) -> None:
    with embedded_session() as spark:
        past = Past(FolderLakehouse(spark, folder))
        hour = YEAR.end - TICKED
        while hour < YEAR.end:
            past.tick(*(hour + number * HOUR + timedelta(minutes=67) for number in range(24)))
            hour += timedelta(days=1)
        past.backfill(YEAR, YEAR.end + timedelta(days=40))
        past.merge(YEAR)


def measure(folder: Path, repeats: int) -> Figures:
    taken = Figures()
    code = _COLD.format(str(folder))
    year, month = (YEAR.start, YEAR.end), (YEAR.end - TICKED, YEAR.end)
    few = ["carbon_intensity", "lag_carbon_intensity_1h", "rolling_avg_carbon_intensity_24h"]
    now = YEAR.end + timedelta(days=60)
    questions: dict[str, Callable[[], object]] = {
        "a year as stored, warm": lambda: features.load("GR", *year, warehouse=folder),
        "a year as stored, three columns, warm": lambda: features.load("GR", *year, warehouse=folder, columns=few),
        "30 days of hourly runs, as_of": lambda: features.load("GR", *month, as_of=now, warehouse=folder),
        "30 days of hourly runs, known_at 15min": lambda: features.load(
            "GR", *month, known_at="15min", warehouse=folder
        ),
        "a year, as_of": lambda: features.load("GR", *year, as_of=now, warehouse=folder),
        "a year, known_at 400d": lambda: features.load(
            "GR", *year, known_at="400d", warehouse=folder, allow="backfilled"
        ),
        "a year, as_of, three columns": lambda: features.load("GR", *year, as_of=now, warehouse=folder, columns=few),
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    with tempfile.TemporaryDirectory() as name:
        progress("features_load: making a year and 30 days of hourly runs")
        build(Path(name) / "warehouse")
        print(measure(Path(name) / "warehouse", parser.parse_args().repeats).table())
