"""An hourly tick launched as one Databricks run, and the same code run directly: `python -m benchmarks.databricks`.

Zone GR, all checks, the simulator over HTTP. Launched: deployment `databricks` on the emulated workspace of the tests,
by one cluster that is kept, with staging on DBFS, and by serverless compute whose server is kept, with staging on a
volume; a poll every 0.2 s, and every 5 s as by default. Directly: deployment
`spark` in one process, whose JVM is kept, too, with the cluster's settings. Seconds are those of the whole tick, ratios
those of medians. MB are what the workspace received: requests with their headers, the package included. Two ticks were
run before on each side. Real workspaces add time of their own: the start of a new cluster (minutes), slower calls, and
half of the poll interval.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import dagster as dg

from benchmarks.bodies import PRESENT
from benchmarks.measurements import Figures, progress
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.windows import HOUR, floor_hour
from emaps_dagster.lakehouse.spark_sessions import JVM_CONFIG, jvm_session
from emaps_dagster.simulator.server import Simulator
from harness.databricks_emulator import serverless
from harness.databricks_emulator.cluster import CLUSTERS_JVM
from harness.databricks_emulator.server import Request
from harness.databricks_emulator.workspace import LACKING, Workspace
from harness.loaded_jobs import loaded_job

COMPUTE = ("cluster", "serverless")
_TOKEN = "a-token-of-the-simulator"
_POLL_SECONDS = (0.2, 5.0)
_WARM_UP = 2
_DIRECTLY = "the same tick directly"
# What a tick asks of the workspace, by name.
_CALLS = {
    "runs submitted": (("POST", "/api/2.2/jobs/runs/submit"),),
    "polls of a run's state": (("GET", "/api/2.2/jobs/runs/get"),),
    "files and blocks uploaded": (
        ("POST", "/api/2.0/dbfs/create"),
        ("POST", "/api/2.0/dbfs/add-block"),
        ("POST", "/api/2.0/dbfs/close"),
        ("PUT", "/api/2.0/fs/"),
    ),
    "reads of events and output": (("GET", "/api/2.0/dbfs/read"), ("GET", "/api/2.0/fs/files")),
    "deletions": (
        ("POST", "/api/2.0/dbfs/delete"),
        ("DELETE", "/api/2.0/fs/"),
        ("GET", "/api/2.0/fs/directories"),
    ),
}


@dataclass(frozen=True)
class Tick:
    """What a tick took: steps, seconds, and the calls that the workspace received."""

    steps: int
    seconds: float
    requests: Sequence[Request] = ()


def measure(repeats: int, compute: Sequence[str]) -> Figures:
    taken = Figures()
    with tempfile.TemporaryDirectory(prefix="emaps_bench_") as name, Simulator(token=_TOKEN, now=PRESENT) as sim:
        folder = Path(name)
        for kind in compute:
            # Each kind has a workspace, so tables, of its own.
            with Workspace(folder / kind, secrets={("emaps", "api-token"): _TOKEN}) as workspace:
                _launched(taken, sim, workspace, kind, repeats)
        directly = {
            "EMAPS_DEPLOYMENT": "spark",
            "EMAPS_API_TOKEN": _TOKEN,
            "EMAPS_WAREHOUSE": str(folder / "warehouse"),
        }
        # The first session decides for the JVM that lives as long as this process.
        jvm_session({**JVM_CONFIG, **CLUSTERS_JVM})
        for number in range(_WARM_UP + repeats):
            progress(f"databricks: directly, {number + 1} of {_WARM_UP + repeats}")
            tick = _tick(directly, sim, PRESENT + number * timedelta(hours=1))
            if number >= _WARM_UP:
                taken.add(_DIRECTLY, tick.seconds)
    return taken


def summary(taken: Figures, compute: Sequence[str]) -> str:
    """The medians that count, one line for each kind of compute and poll."""
    lines = [
        "| compute | poll | a tick | : directly | Databricks runs | calls of the API | sent |",
        "|---|---|---|---|---|---|---|",
    ]
    directly = median(taken.values[_DIRECTLY])
    for kind in compute:
        for poll in _POLL_SECONDS:
            of = _of(kind, poll)
            seconds, runs, calls, sent = (
                median(taken.values[f"{name}, {of}"])
                for name in ("a launched tick", "runs submitted", "all calls", "sent")
            )
            kept = "a kept cluster" if kind == "cluster" else kind
            ratio = f"{seconds / directly:.2f} x"
            lines.append(f"| {kept} | {poll:g} s | {seconds:.1f} s | {ratio} | {runs:g} | {calls:g} | {sent:.2f} MB |")
    return "\n".join(lines)


def _launched(taken: Figures, sim: Simulator, workspace: Workspace, kind: str, repeats: int) -> None:
    """Ticks launched on one kind of compute."""
    settings = {
        "EMAPS_DEPLOYMENT": "databricks",
        "EMAPS_DATABRICKS_HOST": workspace.host,
        "EMAPS_DATABRICKS_TOKEN": workspace.token,
        **(
            {"EMAPS_DATABRICKS_CLUSTER_ID": workspace.cluster_id}
            if kind == "cluster"
            else {"EMAPS_DATABRICKS_COMPUTE": kind, "EMAPS_DATABRICKS_STAGING": workspace.volume}
        ),
    }
    ticks = [_POLL_SECONDS[0]] * _WARM_UP + [poll for poll in _POLL_SECONDS for _ in range(repeats)]
    for number, poll in enumerate(ticks):
        progress(f"databricks: launched on {kind}, {number + 1} of {len(ticks)}")
        polled = {**settings, "EMAPS_DATABRICKS_POLL_SECONDS": str(poll)}
        tick = _tick(polled, sim, PRESENT + number * timedelta(hours=1), workspace)
        if number >= _WARM_UP:
            _add(taken, tick, _of(kind, poll))


def _of(kind: str, poll: float) -> str:
    return f"{kind}, poll {poll:g} s"


def _add(taken: Figures, tick: Tick, of: str) -> None:
    taken.add(f"a launched tick, {of}", tick.seconds)
    taken.add(f"steps, {of}", tick.steps, "steps")
    for call, paths in _CALLS.items():
        count = sum(
            one.method == method and one.path.startswith(path) for one in tick.requests for method, path in paths
        )
        taken.add(f"{call}, {of}", count, "calls")
    taken.add(f"all calls, {of}", len(tick.requests), "calls")
    taken.add(f"sent, {of}", sum(one.sent for one in tick.requests) / 1e6, "MB")


def _tick(settings: Mapping[str, str], sim: Simulator, now: datetime, workspace: Workspace | None = None) -> Tick:
    """One tick in this process."""
    sim.set_now(now)
    there = {
        "EMAPS_API_URL": sim.url,
        "EMAPS_FIXED_NOW": now.isoformat(),
        "EMAPS_START": f"{PRESENT - timedelta(days=2):%Y-%m-%d}",
    }
    tags = {"dagster/partition": partition_key(floor_hour(now) - HOUR)}
    before = len(workspace.requests) if workspace else 0
    with loaded_job({**settings, **there}, "hourly") as job, dg.DagsterInstance.ephemeral() as instance:
        began = time.perf_counter()
        with dg.execute_job(job, instance=instance, tags=tags) as result:
            seconds = time.perf_counter() - began
            assert result.success, "the tick failed; its log is above"
            steps = len(instance.get_run_step_stats(result.run_id))
    return Tick(steps, seconds, workspace.requests[before:] if workspace else ())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compute", nargs="+", choices=COMPUTE, default=COMPUTE)
    options = parser.parse_args()
    unavailable = serverless.lacking()
    chosen = [kind for kind in options.compute if kind == "cluster" or not unavailable]
    # The launcher hands on what a step printed; this page is for the tables alone.
    with contextlib.redirect_stdout(sys.stderr):
        if LACKING or not chosen:
            text = f"Not measured: {LACKING or unavailable}."
        else:
            figures = measure(options.repeats, chosen)
            text = f"{summary(figures, chosen)}\n\n{figures.table()}"
            if len(chosen) < len(options.compute):
                text = f"Serverless compute was not measured: {unavailable}.\n\n{text}"
    print(text)
