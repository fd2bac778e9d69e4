"""Ten zones and a year from bodies to gold on disk: `python -m benchmarks.backfill`.

Embedded engine, no HTTP and no Dagster. Each repeat is a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bodies import StoredApi, days_before
from benchmarks.measurements import Figures, all_processes, progress
from benchmarks.tick import judge, run
from emaps_dagster.contracts.tables import POWER_DATA, all_tables
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session

_ROOT = Path(__file__).parents[1]
# Greece and what lies around it, then Germany: six that zones.py knows, with 25 neighbours, and four that it does not.
ZONES = ("GR", "AL", "BG", "IT-SO", "MK", "DE", "RO", "RS", "TR", "HU")


def measure(repeats: int, zones: tuple[str, ...], days: int, *, checks: bool) -> Figures:
    taken = Figures()
    what = f"{len(zones)} zones x {days} days"
    progress(f"backfill: making the bodies of {what}, which is not measured")
    bodies = StoredApi().prepare(zones, days_before(days))
    taken.add("bodies", bodies, "responses")
    for number in range(repeats):
        progress(f"backfill: {number + 1} of {repeats}")
        once = ["--once", "--zones", ",".join(zones), "--days", str(days), *(["--checks"] if checks else [])]
        command = [sys.executable, "-m", "benchmarks.backfill", *once]
        done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
        for name, (value, unit) in json.loads(done.stdout).items():
            taken.add(name, value, unit)
    return taken


def once(zones: tuple[str, ...], days: int, *, checks: bool) -> dict[str, tuple[float, str]]:
    """One backfill in this process."""
    taken = Figures()
    window = days_before(days)
    sizes: dict[str, tuple[float, str]] = {}
    with embedded_session() as spark, tempfile.TemporaryDirectory() as folder:
        lakehouse, api = FolderLakehouse(spark, Path(folder)), StoredApi()
        run(lakehouse, api, zones, window, taken, "backfill")
        taken.total("all without checks, backfill", [f"{layer}, backfill" for layer in ("bronze", "silver", "gold")])
        sizes["peak of memory without checks"] = (all_processes().peak_gigabytes, "GB")
        if checks:
            with taken.clock("checks, backfill"):
                judge(lakehouse, api, zones, window)
            sizes["peak of memory with checks"] = (all_processes().peak_gigabytes, "GB")
        for table in all_tables(zones):
            if table.layer in ("silver", "gold") or table == POWER_DATA:
                sizes[f"rows of {table.qualified_name}"] = (lakehouse.scan(table).count(), "rows")
                size = sum(path.stat().st_size for path in Path(lakehouse.location(table)).rglob("*.parquet"))
                sizes[f"files of {table.qualified_name}"] = (size / 1e6, "MB")
    return {**{name: (values[-1], "s") for name, values in taken.values.items()}, **sizes}


def zones_of(text: str) -> tuple[str, ...]:
    """Zones by their keys, or so many: the ten, then made-up ones."""
    if not text.isdigit():
        return tuple(text.split(","))
    return (*ZONES, *(f"X{number:02d}" for number in range(len(ZONES), int(text))))[: int(text)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--zones", type=zones_of, default=ZONES, help="keys with commas, or how many")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--checks", action="store_true", help="all checks of the whole range, too")
    parser.add_argument("--once", action="store_true", help="one repeat in this process, as JSON")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.zones, options.days, checks=options.checks)))
    else:
        print(measure(options.repeats, options.zones, options.days, checks=options.checks).table())
