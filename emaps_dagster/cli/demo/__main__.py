"""`python -m emaps_dagster.cli.demo`: runs two weeks of Greece through the whole pipeline. See `make demo`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from emaps_dagster.cli.demo import terminal
from emaps_dagster.cli.demo.folder import DemoFolder
from emaps_dagster.cli.demo.plot import draw, read_gold
from emaps_dagster.cli.demo.scenario import ROADS, TOKEN, ZONE, DemoResult, environment, run_scenario
from emaps_dagster.cli.demo.timeline import Times
from emaps_dagster.contracts.errors import EmapsError
from emaps_dagster.contracts.windows import Window, utc_now
from emaps_dagster.simulator.server import Simulator

_PICTURED = timedelta(days=4)
_INTERRUPTED = 130


def main() -> int:
    """Run the demo; returns 0 when every expectation holds, 1 when not, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m emaps_dagster.cli.demo", description=__doc__)
    parser.add_argument("--days", type=int, default=14, help="how much to backfill (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where everything goes (default: demo)")
    parser.add_argument(
        "--road", choices=ROADS, default="v3", help="API version and power signal, v4-mix for electricity-mix"
    )
    options = parser.parse_args()
    if options.days < 1:
        parser.error(f"--days is {options.days}: at least 1 is needed")
    folder = DemoFolder(options.folder.resolve())
    # A pipe has no width: 120 columns fit the tables.
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        with folder.claimed():
            return _demo(console, folder, options.days, options.road)
    except EmapsError as error:
        console.print(f"[red]{error}")
        return 1
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        console.print("[yellow]Interrupted; nothing is left running.")
        return _INTERRUPTED


def _demo(console: Console, folder: DemoFolder, days: int, road: str) -> int:
    began = time.monotonic()
    folder.start_afresh()
    times = Times.until(utc_now().replace(microsecond=0), days)
    version, signal = ROADS[road]
    folder.prepare(ZONE, times.start, times.present, signal)
    with Simulator(token=TOKEN, zones=(ZONE,), version=version) as simulator:
        terminal.opening(console, simulator.url, folder, times)
        with (
            environment(folder.environment(simulator.url, TOKEN, times.present), folder.root),
            _stderr_to(folder.log),
            dg.DagsterInstance.get() as instance,
            _progress(console) as progress,
        ):
            result = run_scenario(folder, instance, simulator, times, _watch(progress))
    _draw(folder, result)
    terminal.summary(console, folder, result, time.monotonic() - began)
    return 0 if result.ok else 1


def _draw(folder: DemoFolder, result: DemoResult) -> None:
    if result.ok:
        times = result.times
        window = Window(max(times.start, times.tick.end - _PICTURED), times.tick.end)
        draw(read_gold(folder.warehouse, ZONE, window), ZONE, "simulated data", folder.picture)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[step]}"),
        console=console,
    )


def _watch(progress: Progress) -> Callable[[str], Callable[[int, dg.EventLogEntry], None]]:
    """Returns a function that adds a progress bar for a run: one unit for each materialization or check evaluation."""

    def watch(title: str) -> Callable[[int, dg.EventLogEntry], None]:
        task = progress.add_task(title, total=None, step="starting")

        def on_event(events: int, entry: dg.EventLogEntry) -> None:
            event = entry.dagster_event
            if event is None:
                return
            progress.update(task, total=events)
            if event.is_step_start:
                progress.update(task, step=event.step_key)
            elif event.is_step_materialization or event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                progress.advance(task)
            elif event.event_type == dg.DagsterEventType.RUN_SUCCESS:
                progress.update(task, step="green")
            elif event.is_run_failure:
                progress.update(task, step="[red]failed")

        return on_event

    return watch


@contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Redirect stderr to a file, at the level of the file descriptor: the engine writes to it from Rust."""
    sys.stderr.flush()
    original = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)


if __name__ == "__main__":
    sys.exit(main())
