"""The `dagster` command from its start to its end, with all checks: `python -m benchmarks.command`.

Zone GR, embedded engine, the simulator over HTTP: two weeks in one run, then ticks on that table, each beside the same
command with empty assets and checks (empty.py), which imports nothing but Dagster.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks.bodies import PRESENT, days_before
from benchmarks.measurements import Figures, progress
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.defs.instance.runs import tags_of
from emaps_dagster.defs.names import HOURLY
from emaps_dagster.simulator.server import Simulator

OURS = "emaps_dagster.definitions"
EMPTY = "benchmarks.empty_graph"


@dataclass(frozen=True)
class Site:
    """A Dagster instance, a warehouse and a provider, all of its own."""

    folder: Path
    sim: Simulator
    weeks: Window

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        home = self.folder / "home"
        # Bytecode is kept, as where a person installs it, whatever this shell says.
        without = ("EMAPS_", "PYTHONDONTWRITEBYTECODE")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(without)},
            "DAGSTER_HOME": str(home),
            "EMAPS_DEPLOYMENT": "embedded",
            "EMAPS_API_URL": self.sim.url,
            "EMAPS_FIXED_NOW": self.sim.now().isoformat(),
            "EMAPS_START": f"{self.weeks.start:%Y-%m-%d}",
            "EMAPS_WAREHOUSE": str(self.folder / "warehouse"),
            "EMAPS_ZONES": "GR",
        }
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done

    def two_weeks(self) -> None:
        self.run(*job(OURS, self.weeks))


@contextmanager
def site() -> Iterator[Site]:
    with Simulator(zones=("GR",), now=PRESENT) as sim, tempfile.TemporaryDirectory() as name:
        (Path(name) / "home").mkdir()
        (Path(name) / "home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        yield Site(Path(name), sim, days_before(14))


@contextmanager
def prepared_site() -> Iterator[Site]:
    """With two weeks in its tables."""
    with site() as made:
        progress("two weeks in one run, which is not measured")
        made.two_weeks()
        yield made


def job(module: str, window: Window) -> tuple[str, ...]:
    """The command that runs the hourly job of these hours."""
    return ("-m", "dagster", "job", "execute", "-m", module, "-j", HOURLY, "--tags", json.dumps(tags_of(window)))


def tick_of(made: Site, module: str = OURS) -> tuple[str, ...]:
    """The command of the hour that has just ended."""
    end = floor_hour(made.sim.now())
    return job(module, Window(end - HOUR, end))


def measure(repeats: int) -> Figures:
    taken = Figures()
    with site() as made:
        for number in range(repeats):
            progress(f"command: {number + 1} of {repeats}")
            for module in ("dagster", OURS):
                with taken.clock(f"`import {module}`"):
                    made.run("-c", f"import {module}")
        with taken.clock("two weeks in one run, an empty warehouse"):
            made.two_weeks()
        tick, floor = "an hourly tick on two weeks", "the same command with empty assets"
        for number in range(repeats):
            progress(f"command: tick {number + 1} of {repeats}")
            made.sim.set_now(PRESENT + timedelta(hours=1 + number))
            with taken.clock(tick):
                made.run(*tick_of(made))
            with taken.clock(floor):
                made.run(*tick_of(made, EMPTY))
            taken.add("tick : empty assets", taken.values[tick][-1] / taken.values[floor][-1], "ratio")
    return taken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    print(measure(parser.parse_args().repeats).table())
