"""The `dagster` command from its start to its end, with all checks: `python -m benchmarks.command`.

Zone GR, embedded engine, the simulator over HTTP: two weeks in one run, then ticks on that table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from benchmarks.bodies import PRESENT, days_before
from benchmarks.figures import Figures, progress
from emaps_dagster.partitions import partition_key
from emaps_dagster.simulator.server import Simulator
from emaps_dagster.windows import HOUR, floor_hour

_MODULE = ("-m", "emaps_dagster.definitions")


def measure(repeats: int) -> Figures:
    taken = Figures()
    weeks = days_before(14)
    with Simulator(zones=("GR",), now=PRESENT) as sim, tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        home.mkdir()
        (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

        def dagster(*arguments: str) -> None:
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("EMAPS_")},
                "DAGSTER_HOME": str(home),
                "EMAPS_DEPLOYMENT": "embedded",
                "EMAPS_API_URL": sim.url,
                "EMAPS_NOW": sim.now().isoformat(),
                "EMAPS_START": f"{weeks.start:%Y-%m-%d}",
                "EMAPS_WAREHOUSE": str(Path(name) / "warehouse"),
                "EMAPS_ZONES": "GR",
            }
            command = [sys.executable, *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

        for number in range(repeats):
            progress(f"command: {number + 1} of {repeats}")
            with taken.clock("`import emaps_dagster.definitions`"):
                dagster("-c", "import emaps_dagster.definitions")
        first, last = partition_key(weeks.start), partition_key(weeks.end - HOUR)
        with taken.clock("two weeks in one run, an empty warehouse"):
            select = ("--select", "*", "--partition-range", f"{first}...{last}")
            dagster("-m", "dagster", "asset", "materialize", *select, *_MODULE)
        for number in range(repeats):
            sim.set_now(PRESENT + timedelta(hours=1 + number))
            tags = json.dumps({"dagster/partition": partition_key(floor_hour(sim.now()) - HOUR)})
            with taken.clock("an hourly tick on two weeks"):
                dagster("-m", "dagster", "job", "execute", *_MODULE, "-j", "hourly", "--tags", tags)
    return taken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    print(measure(parser.parse_args().repeats).table())
