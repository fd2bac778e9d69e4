"""720 hours of all assets in one run, against the least that Dagster takes: `python -m benchmarks.dagster_overhead`.

The floor is the same graph with empty bodies: assets that do nothing, checks that say of every hour that it passed.
Zone GR, embedded engine, the simulator over HTTP; each run in a process of its own, on an instance of its own, from the
start of the run to its end. Dagster stores an event for each hour of each asset and check: more than 19,000.
"""

# No postponed annotations: Dagster reads the type of `context` when it decorates.

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg
import yaml

from benchmarks.bodies import PRESENT
from benchmarks.measurements import Figures, progress
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.definitions import build_definitions
from emaps_dagster.defs.asset_checks.evaluations import hourly_evaluations, table_evaluation
from emaps_dagster.defs.asset_checks.factory import check_definitions
from emaps_dagster.defs.partitions import hourly_partitions, hours_of, run_window
from emaps_dagster.simulator.server import Simulator
from emaps_dagster.transforms.quality.outcome import Outcome
from harness import postgres_server as postgres

HOURS = 720
ZONES = ("GR",)
_HERE = "SQLite, as Dagster comes"
_OPEN = "SQLite, our event log"
_SERVER = "PostgreSQL, as Dagster comes"
_OPEN_SERVER = "PostgreSQL, our storage"
STORAGES = (_HERE, _OPEN, _SERVER, _OPEN_SERVER)
_TELEMETRY = "telemetry: {enabled: false}\n"


def dagster_yaml(storage: str, home: Path) -> str:
    if storage.startswith("PostgreSQL"):
        deployed = yaml.safe_load((Path(__file__).resolve().parents[1] / "deploy" / "dagster.yaml").read_text())
        if storage == _SERVER:
            deployed["storage"] = {"postgres": deployed["storage"]["custom"]["config"]}
        return yaml.safe_dump(deployed)
    ours = f"""event_log_storage:
  module: emaps_dagster.defs.instance.storage.sqlite
  class: OpenSqliteEventLog
  config: {{base_dir: {home}/history/runs}}
"""
    return _TELEMETRY + (ours if storage == _OPEN else "")


def hours(count: int) -> Window:
    end = floor_hour(PRESENT)
    return Window(end - count * HOUR, end)


def ours(window: Window, api_url: str, warehouse: Path) -> dg.Definitions:
    return build_definitions(
        Settings(
            _env_file=None, api_url=api_url, zones=ZONES, warehouse=warehouse, start=window.start, fixed_now=PRESENT
        )
    )


def floor(window: Window) -> dg.Definitions:
    """The graph with nothing in it."""
    real = ours(window, "http://127.0.0.1:1/v3", Path("nowhere"))
    partitions = hourly_partitions(window.start)
    # The report of health is no part of the hourly job.
    tables = [a for a in real.assets or () if isinstance(a, dg.AssetsDefinition) and a.partitions_def is not None]
    assets = [_empty(asset) for asset in tables]
    checks = [_passing(definition) for definition in check_definitions(ZONES, partitions, "power-breakdown")]
    hourly = dg.define_asset_job("hourly", selection=dg.AssetSelection.all())
    return dg.Definitions(assets=assets, asset_checks=checks, jobs=[hourly], executor=dg.in_process_executor)


def _empty(asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    (spec,) = asset.specs

    @dg.asset(
        key=spec.key,
        deps=[dep.asset_key for dep in spec.deps],
        partitions_def=spec.partitions_def,
        backfill_policy=asset.backfill_policy,
        pool=asset.op.pool,
    )
    def empty() -> None: ...

    return empty


def _passing(definition: dg.AssetChecksDefinition) -> dg.AssetChecksDefinition:
    specs = list(definition.check_specs)

    @dg.multi_asset_check(name=definition.node_def.name, specs=specs, can_subset=True)
    def passing(context: dg.AssetCheckExecutionContext) -> Iterator[object]:
        for spec in specs:
            if spec.partitions_def is None:
                yield table_evaluation(spec, Outcome(0))
            else:
                yield from hourly_evaluations(spec, run_window(context), Outcome(0), {})
                yield dg.Output(None, output_name=spec.get_python_identifier())

    return passing


def once(definitions: dg.Definitions, window: Window, home: Path) -> float:
    """Seconds of one run of all hours."""
    keys = list(hours_of(window).values())
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    job = definitions.resolve_job_def("hourly")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        began = time.perf_counter()
        result = job.execute_in_process(instance=instance, tags=tags)
        seconds = time.perf_counter() - began
    assert result.success
    statuses = sum(event.event_type_value == "ASSET_CHECK_EVALUATION" for event in result.all_events)
    specs = [
        spec
        for checks in check_definitions(ZONES, hourly_partitions(window.start), "power-breakdown")
        for spec in checks.check_specs
    ]
    of_the_table = sum(spec.partitions_def is None for spec in specs)
    assert statuses == (len(specs) - of_the_table) * len(keys) + of_the_table, statuses
    return seconds


def measure(count: int, repeats: dict[str, int]) -> Figures:
    taken = Figures()
    ratios: dict[str, float] = {}
    for storage, times in repeats.items():
        if storage.startswith("PostgreSQL") and postgres.programs() is None:
            progress("floor: there is no PostgreSQL here, so nothing is said of it")
            continue
        for number in range(times):
            progress(f"floor: {storage}, {number + 1} of {times}")
            for what in ("floor", "ours"):
                taken.add(f"{what}, {storage}", _apart(what, storage, count))
    for storage in repeats:
        if taken.values[f"ours, {storage}"]:
            typical = {what: median(taken.values[f"{what}, {storage}"]) for what in ("floor", "ours")}
            ratios[storage] = typical["ours"] / typical["floor"]
    for storage, ratio in ratios.items():
        taken.add(f"ours / floor, {storage}", ratio, "ratio")
    return taken


def _apart(what: str, storage: str, count: int) -> float:
    with ExitStack() as stack:
        database: Any = stack.enter_context(
            postgres.server(durable=True) if storage.startswith("PostgreSQL") else nullcontext({})
        )
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (root / "home").mkdir()
        (root / "home" / "dagster.yaml").write_text(dagster_yaml(storage, root / "home"))
        sim = stack.enter_context(Simulator(zones=ZONES, now=PRESENT))
        command = [
            sys.executable,
            "-m",
            "benchmarks.dagster_overhead",
            "--once",
            what,
            sim.url,
            str(root),
            "--hours",
            str(count),
        ]
        done = subprocess.run(command, env={**os.environ, **database}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=HOURS)
    parser.add_argument("--repeats", type=int, default=3, help="of ours; Dagster's own are slow and measured once")
    parser.add_argument("--storage", choices=STORAGES, action="append", help="all by default")
    parser.add_argument("--once", nargs=3, metavar=("WHAT", "API", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        what, api_url, root = options.once
        window = hours(options.hours)
        definitions = floor(window) if what == "floor" else ours(window, api_url, Path(root) / "warehouse")
        print(once(definitions, window, Path(root) / "home"))
        return
    chosen = options.storage or STORAGES
    print(measure(options.hours, {s: 1 if s in (_HERE, _SERVER) else options.repeats for s in chosen}).table())


if __name__ == "__main__":
    main()
