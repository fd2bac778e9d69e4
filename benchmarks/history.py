"""A month of two zones by the README's command, and what Dagster's history of it takes: `python -m benchmarks.history`.

Zones GR and HU, embedded engine, the simulator over HTTP: `emaps hours` over 720 hours with all checks, in a process of
its own with Dagster's home that `emaps` makes; then a few ticks with their health reports in the same home. With
`--as-dagster-comes` the same on a home of Dagster's defaults first: ten minutes. Megabytes are of bytes in files;
what the console shows is counted in lines; CPU is that of all cores.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from benchmarks.measurements import Figures, progress
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.defs.names import HEALTH
from emaps_dagster.simulator.server import Simulator

ZONES = ("GR", "HU")
# Over by the machine's clock: Dagster has no partitions of hours to come.
END = datetime(2026, 11, 1, tzinfo=timezone.utc)
OURS, DAGSTERS = "the home that `emaps` makes", "as Dagster comes"


class TableLocations:
    """A Dagster home and a warehouse of their own."""

    def __init__(self, root: Path, sim: Simulator, first: datetime) -> None:
        self.root, self.sim, self.first = root, sim, first
        self.home = root / ".dagster"

    def as_dagster_comes(self) -> None:
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")

    def emaps(self, *words: str) -> tuple[float, float, int]:
        """Seconds of the clock and of all cores, and lines on the console."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("EMAPS_", "DAGSTER_"))},
            "EMAPS_API_URL": self.sim.url,
            "EMAPS_FIXED_NOW": self.sim.now().isoformat(),
            "EMAPS_START": f"{self.first:%Y-%m-%d}",
            "EMAPS_ZONES": ",".join(ZONES),
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        }
        # Where the dagster.yaml is not ours, `emaps` gets it by its option, as a user would pass it.
        if (self.home / "dagster.yaml").exists():
            environment["DAGSTER_HOME"] = str(self.home)
        command = [sys.executable, "-m", "emaps_dagster.cli.command", *words]
        before, began = _children(), time.perf_counter()
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        assert done.returncode == 0, done.stderr[-3000:]
        return seconds, _children() - before, len((done.stdout + done.stderr).splitlines())

    def megabytes(self, folder: str) -> float:
        return sum(file.stat().st_size for file in (self.root / folder).rglob("*") if file.is_file()) / 1e6


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(days: int, ticks: int, whose: tuple[str, ...]) -> Figures:
    taken = Figures()
    first = END - timedelta(days=days)
    for name in whose:
        with tempfile.TemporaryDirectory() as root, Simulator(zones=ZONES, now=END + timedelta(minutes=7)) as sim:
            place = TableLocations(Path(root), sim, first)
            if name == DAGSTERS:
                place.as_dagster_comes()
            progress(f"history: {days} days, {name}")
            seconds, work, lines = place.emaps("hours", f"{first:%Y-%m-%d}", f"{END:%Y-%m-%d}")
            taken.add(f"`emaps hours` of {days} days, {name}", seconds)
            taken.add(f"its CPU, {name}", work)
            taken.add(f"lines on the console, {name}", lines, "lines")
            history = place.megabytes(".dagster")
            taken.add(f"Dagster's history, {name}", history, "MB")
            taken.add(f"the tables, {name}", place.megabytes("warehouse"), "MB")
            for number in range(ticks):
                progress(f"history: tick {number + 1} of {ticks}, {name}")
                sim.set_now(END + (1 + number) * HOUR + timedelta(minutes=7))
                place.emaps("hours", f"{END + number * HOUR:%Y-%m-%dT%H:%MZ}")
                place.emaps("job", "execute", "-m", "emaps_dagster.definitions", "-j", HEALTH)
                grown = place.megabytes(".dagster")
                taken.add(f"more of it by a tick and a health report, {name}", grown - history, "MB")
                history = grown
    return taken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--ticks", type=int, default=3)
    parser.add_argument("--as-dagster-comes", action="store_true")
    options = parser.parse_args()
    print(measure(options.days, options.ticks, (DAGSTERS, OURS) if options.as_dagster_comes else (OURS,)).table())
