"""Does a process that read or wrote the tables end well? Return codes of many runs: the proof behind a short test.

python -m emaps_dagster_tests.support.endings --runs 200                       # each block of the README, each command
python -m emaps_dagster_tests.support.endings --runs 200 --only default  # deltalake's own way, which aborts at times
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from emaps_dagster.contracts.windows import HOUR, floor_hour, utc_now
from emaps_dagster.simulator.server import Simulator

CHECKOUT = Path(__file__).resolve().parents[2]
GOLD = "demo/warehouse/gold/ml_features"
_BLOCKS = ("features", "deltalake", "polars", "duckdb", "spark")
_LOAD = "from emaps_dagster import features\ndf = features.load('GR', warehouse='demo/warehouse')\n"
_DAY = "import pandas as pd\nday, last = df.index[-24], df.index[-1]\nwhen = {'warehouse': 'demo/warehouse'}\n"
_REFUSED = (
    "try:\n    features.load('GR', day, last, known_at='15min', **when)\nexcept features.FeaturesError:\n    pass\n"
)


def scripts() -> dict[str, str]:
    """What a person types to read, by name."""
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    (reading,) = re.findall(r"^## Read the table\n(.*?)^## ", readme, flags=re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"```python\n(.*?)```", reading, flags=re.DOTALL)
    found = {f"README: {name}": block for name, block in zip(_BLOCKS, blocks, strict=True)}
    found["load"] = _LOAD
    found["load as_of"] = _LOAD + _DAY + "features.load('GR', day, last, as_of=last + pd.Timedelta('30min'), **when)\n"
    found["load known_at"] = _LOAD + _DAY + "features.load('GR', day, last, known_at='1d', **when)\n"
    found["load refused"] = _LOAD + _DAY + _REFUSED
    for method in ("to_pyarrow_table()", "to_pandas()", "to_pyarrow_dataset().to_table()"):
        found[f"default {method}"] = f"from deltalake import DeltaTable\nDeltaTable('{GOLD}').{method}\n"
    return found


def commands(last: datetime) -> dict[str, list[str]]:
    """Our own commands that end by themselves and need no cluster, by name."""
    job = ["-m", "dagster", "job", "execute", "-m", "emaps_dagster.definitions", "-j"]
    return {
        "tables": ["-m", "emaps_dagster.cli.tables_doc"],
        "check": ["-m", "emaps_dagster.cli.preflight"],
        "orphans": ["-m", "emaps_dagster.cli.orphaned_runs"],
        "job hourly": [*job, "hourly", "--tags", f'{{"dagster/partition": "{last:%Y-%m-%d-%H:%M}"}}'],
        "job health_report": [*job, "health_report"],
        "demo": ["-m", "emaps_dagster.cli.demo", "--days", "1", "--folder", "another"],
    }


def count(run: Callable[[], int], runs: int, at_once: int) -> Counter[int]:
    with ThreadPoolExecutor(at_once) as pool:
        return Counter(pool.map(lambda _: run(), range(runs)))


def ending(command: list[str], origin: Path, url: str) -> int:
    """The return code of a command in a folder with a demo of its own."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(origin / "demo" / "warehouse", Path(name, "demo", "warehouse"))
        home = Path(name, "home")
        home.mkdir()
        others = {name: value for name, value in os.environ.items() if not name.startswith(("EMAPS_", "DAGSTER_"))}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=name,
            env={
                **others,
                "PYTHONPATH": str(CHECKOUT),
                "DAGSTER_HOME": str(home),
                "EMAPS_API_URL": url,
                "EMAPS_API_TOKEN": "a-token-for-the-simulator",
                "EMAPS_WAREHOUSE": str(Path(name, "demo", "warehouse")),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"  {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}", flush=True)
        return done.returncode


def endings(runs: int, at_once: int, only: Iterable[str] = ()) -> dict[str, Counter[int]]:
    """How often each script and command ended with which return code."""
    found = {}
    with tempfile.TemporaryDirectory() as name, Simulator() as simulator:
        demo = [sys.executable, "-m", "emaps_dagster.cli.demo", "--days", "2"]
        subprocess.run(demo, cwd=name, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, check=True, capture_output=True)
        hour = floor_hour(utc_now()) - HOUR
        asked = {name: ["-c", script] for name, script in scripts().items()} | commands(hour)
        for what, command in asked.items():
            if not any(word in what for word in only) if only else what.startswith("default"):
                continue
            found[what] = count(lambda: ending(command, Path(name), simulator.url), runs, at_once)  # noqa: B023
            print(f"{what}: {dict(found[what])}", flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--only", action="append", default=[], help="whose name holds it; may be repeated")
    options = parser.parse_args()
    endings(options.runs, options.at_once, options.only)
