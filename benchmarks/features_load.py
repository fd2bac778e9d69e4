"""How long `features.load` takes: `.venv/bin/python -m benchmarks.features_load`.

Input: one zone, a year fetched afterwards in 10-day ranges, its last 30 days by hourly runs as well.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from benchmarks.past import Past
from emaps_dagster import features
from emaps_dagster.engine import embedded_session
from emaps_dagster.lakehouse import FolderLakehouse
from emaps_dagster.windows import HOUR, Window

YEAR = Window(datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2025, 1, 1, tzinfo=timezone.utc))
TICKED = timedelta(days=30)
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


def seconds(call: Callable[[], object], times: int) -> float:
    """The median of some calls, after one that warms up."""
    call()
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "warehouse"
        begin = time.perf_counter()
        build(folder)
        print(f"made the input in {time.perf_counter() - begin:.0f} s\n")
        cold = subprocess.run(
            [sys.executable, "-c", _COLD.format(str(folder))], check=True, capture_output=True, text=True
        )
        last_month = (YEAR.end - TICKED, YEAR.end)
        now = YEAR.end + timedelta(days=60)
        few = ["carbon_intensity", "lag_carbon_intensity_1h", "rolling_avg_carbon_intensity_24h"]
        table = [
            ("a year as stored, new process, imports included", float(cold.stdout)),
            ("a year as stored, warm", seconds(lambda: features.load("GR", *_year(), warehouse=folder), 5)),
            ("... three columns", seconds(lambda: features.load("GR", *_year(), warehouse=folder, columns=few), 5)),
            ("30 days of hourly runs, as_of", _median("GR", *last_month, as_of=now, warehouse=folder)),
            ("... known_at 15min", _median("GR", *last_month, known_at="15min", warehouse=folder)),
            ("a year, as_of", _median("GR", *_year(), as_of=now, warehouse=folder)),
            ("a year, known_at 400d", _median("GR", *_year(), known_at="400d", warehouse=folder)),
        ]
        print("| zone GR, all 250 columns unless said | s |\n|---|---|".replace("250", str(_columns(folder))))
        for what, took in table:
            print(f"| {what} | {took:.2f} |")


def _year() -> tuple[datetime, datetime]:
    return YEAR.start, YEAR.end


def _median(*question: object, **more: object) -> float:
    return seconds(lambda: features.load(*question, **more), 1)  # type: ignore[arg-type]  # as the caller gave it


def _columns(folder: Path) -> int:
    return features.load("GR", YEAR.start, YEAR.start + HOUR, warehouse=folder).shape[1]


if __name__ == "__main__":
    main()
