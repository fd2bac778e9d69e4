"""An hourly tick launched as one Databricks run, and the same code run directly: `python -m benchmarks.databricks`.

Zone GR, all checks, the simulator over HTTP. Launched: deployment `databricks` on the emulated workspace of the tests,
by one cluster that is kept, with staging on DBFS, and by serverless compute whose server is kept, with staging on a
volume; a poll every 0.2 s, and every 5 s as by default. Directly: deployment
`spark` in one process, whose JVM is kept, too, with the cluster's settings. Seconds are those of the whole tick, ratios
those of medians. Two ticks were run before. Real workspaces add time of their own: the start of a new cluster
(minutes), slower calls, and half of the poll interval.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository

from benchmarks.bodies import PRESENT
from benchmarks.measurements import Figures, progress
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.windows import HOUR, floor_hour
from emaps_dagster.lakehouse.spark_sessions import JVM_CONFIG, jvm_session
from emaps_dagster.simulator.server import Simulator
from harness.databricks_emulator import serverless
from harness.databricks_emulator.cluster import CLUSTERS_JVM
from harness.databricks_emulator.workspace import LACKING, Workspace

_TOKEN = "a-token-of-the-simulator"
_POLL_SECONDS = (0.2, 5.0)
_WARM_UP = 2
# What a tick asks of the workspace, by name.
_CALLS = {
    "runs submitted": (("POST", "/api/2.2/jobs/runs/submit"),),
    "polls of a run's state": (("GET", "/api/2.2/jobs/runs/get"),),
    "files and blocks uploaded": (
        ("POST", "/api/2.0/dbfs/create"),
        ("POST", "/api/2.0/dbfs/add-block"),
        ("PUT", "/api/2.0/fs/files"),
    ),
    "reads of events and output": (("GET", "/api/2.0/dbfs/read"), ("GET", "/api/2.0/fs/files")),
    "deletions": (
        ("POST", "/api/2.0/dbfs/delete"),
        ("DELETE", "/api/2.0/fs/"),
        ("GET", "/api/2.0/fs/directories"),
    ),
}


def measure(repeats: int) -> Figures:
    taken = Figures()
    with tempfile.TemporaryDirectory(prefix="emaps_bench_") as name, Simulator(token=_TOKEN, now=PRESENT) as sim:
        folder = Path(name)
        with Workspace(folder / "workspace", secrets={("emaps", "api-token"): _TOKEN}) as workspace:
            launched = {
                "EMAPS_DEPLOYMENT": "databricks",
                "EMAPS_DATABRICKS_HOST": workspace.host,
                "EMAPS_DATABRICKS_TOKEN": workspace.token,
            }
            _launched(
                taken,
                sim,
                workspace,
                "cluster",
                repeats,
                {
                    **launched,
                    "EMAPS_DATABRICKS_CLUSTER_ID": workspace.cluster_id,
                },
            )
        if not serverless.lacking():
            with Workspace(folder / "serverless", secrets={("emaps", "api-token"): _TOKEN}) as workspace:
                _launched(
                    taken,
                    sim,
                    workspace,
                    "serverless",
                    repeats,
                    {
                        "EMAPS_DEPLOYMENT": "databricks",
                        "EMAPS_DATABRICKS_HOST": workspace.host,
                        "EMAPS_DATABRICKS_TOKEN": workspace.token,
                        "EMAPS_DATABRICKS_COMPUTE": "serverless",
                        "EMAPS_DATABRICKS_STAGING": workspace.volume,
                    },
                )
        directly = {
            "EMAPS_DEPLOYMENT": "spark",
            "EMAPS_API_TOKEN": _TOKEN,
            "EMAPS_WAREHOUSE": str(folder / "warehouse"),
        }
        # The first session decides for the JVM that lives as long as this process.
        jvm_session({**JVM_CONFIG, **CLUSTERS_JVM})
        for number in range(_WARM_UP + repeats):
            progress(f"databricks: directly, {number + 1} of {_WARM_UP + repeats}")
            _, seconds = _tick(directly, sim, PRESENT + number * timedelta(hours=1))
            if number >= _WARM_UP:
                taken.add("the same tick directly", seconds)
    directly_median = median(taken.values["the same tick directly"])
    for name in [name for name in taken.values if name.startswith("a launched tick, ")]:
        ratio = median(taken.values[name]) / directly_median
        taken.add(f"launched : directly, {name.removeprefix('a launched tick, ')}", ratio, "ratio")
    return taken


def _launched(
    taken: Figures, sim: Simulator, workspace: Workspace, compute: str, repeats: int, settings: dict[str, str]
) -> None:
    """Ticks launched on one kind of compute; tables of another workspace than the other kind's."""
    ticks = [_POLL_SECONDS[0]] * _WARM_UP + [poll for poll in _POLL_SECONDS for _ in range(repeats)]
    for number, poll in enumerate(ticks):
        progress(f"databricks: launched on {compute}, {number + 1} of {len(ticks)}")
        before = len(workspace.requests)
        polled = {**settings, "EMAPS_DATABRICKS_POLL_SECONDS": str(poll)}
        steps, seconds = _tick(polled, sim, PRESENT + number * timedelta(hours=1))
        if number < _WARM_UP:
            continue
        of = f"{compute}, poll {poll} s"
        taken.add(f"a launched tick, {of}", seconds)
        taken.add(f"steps of a tick, {compute}", steps, "steps")
        requests = workspace.requests[before:]
        for call, paths in _CALLS.items():
            count = sum(
                one.method == method and one.path.startswith(path) for one in requests for method, path in paths
            )
            taken.add(f"{call}, {of}", count, "calls")
        taken.add(f"all calls, {of}", len(requests), "calls")
        taken.add(f"sent a tick, {compute}", sum(len(one.body) for one in requests) / 1e6, "MB")


def _tick(settings: dict[str, str], sim: Simulator, now: datetime) -> tuple[int, float]:
    """One tick in this process; returns how many steps it had, and its seconds."""
    sim.set_now(now)
    for variable in [variable for variable in os.environ if variable.startswith("EMAPS_")]:
        del os.environ[variable]
    os.environ |= {
        **settings,
        "EMAPS_API_URL": sim.url,
        "EMAPS_FIXED_NOW": now.isoformat(),
        "EMAPS_START": f"{PRESENT - timedelta(days=2):%Y-%m-%d}",
    }
    # Built anew from the environment, as in a process of its own.
    sys.modules.pop("emaps_dagster.definitions", None)
    ReconstructableJob.get_definition.cache_clear()  # type: ignore[attr-defined]
    ReconstructableJob.get_repository_definition.cache_clear()  # type: ignore[attr-defined]
    pointer = ModuleCodePointer("emaps_dagster.definitions", "defs", working_directory=str(Path.cwd()))
    job = ReconstructableRepository(pointer).get_reconstructable_job("hourly")
    tags = {"dagster/partition": partition_key(floor_hour(now) - HOUR)}
    began = time.perf_counter()
    with dg.DagsterInstance.ephemeral() as instance, dg.execute_job(job, instance=instance, tags=tags) as result:
        seconds = time.perf_counter() - began
        assert result.success, "the tick failed; its log is above"
        return len(instance.get_run_step_stats(result.run_id)), seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    # The launcher hands on what a step printed; this page is for the table alone.
    with contextlib.redirect_stdout(sys.stderr):
        text = f"Not measured: {LACKING}." if LACKING else measure(options.repeats).table()
    print(text)
