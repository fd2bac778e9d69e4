"""Runs the demo: a backfill, revisions by the provider, a tick, and the verification. terminal.py shows the result."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import dagster as dg

from emaps_dagster.cli.demo.expectations import Changes, Expectation, changes, judge, rows_of
from emaps_dagster.cli.demo.folder import DemoFolder
from emaps_dagster.cli.demo.timeline import Times
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.signals import PowerSignal
from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.simulator.provider import Version
from emaps_dagster.simulator.server import Simulator

ZONE = "GR"
# API version and power signal of each value of `--road`.
ROADS: dict[str, tuple[Version, PowerSignal]] = {
    "v3": ("v3", "power-breakdown"),
    "v4": ("v4", "power-breakdown"),
    "v4-mix": ("v4", "electricity-mix"),
}
# The token that the simulator requires; tests check that it appears nowhere else.
TOKEN = "token-of-the-demo-only"  # noqa: S105  # opens nothing but the simulator


@dataclass(frozen=True)
class RunReport:
    """One run of the hourly job: evaluations of its checks, and the errors of failed steps.

    Attributes:
        ok: whether the run succeeded.
        expected: the number of evaluations that the checks must produce.
        passed: passed evaluations.
        failed: failed evaluations of blocking checks, by check.
        warned: failed evaluations of other checks, by check.
        errors: of failed steps.
        seconds: duration.
    """

    ok: bool
    expected: int
    passed: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    warned: dict[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class DemoResult:
    """The results of all stages; after a failed backfill there is no tick."""

    times: Times
    backfill: RunReport
    tick: RunReport | None
    silver_changes: Changes
    gold_changes: Changes
    expectations: list[Expectation]

    @property
    def ok(self) -> bool:
        return all(truth.holds for truth in self.expectations)


def run_scenario(
    folder: DemoFolder,
    instance: dg.DagsterInstance,
    simulator: Simulator,
    times: Times,
    watch: Callable[[str], Callable[[int, dg.EventLogEntry], None]],
) -> DemoResult:
    """Backfill, revise, tick, verify the tables, and materialize the page `health`.

    Args:
        folder: prepared and empty.
        instance: Dagster's, in the folder.
        simulator: running; its clock is set here.
        times: of backfill, revisions and tick.
        watch: called with a run's title; returns the callback for its events.
    """
    gold = ml_features((ZONE,))

    def run(title: str, now: datetime, window: Window) -> RunReport:
        return run_job(folder, instance, simulator, times, now, window, watch(title))

    hours = len(list(times.backfill.hours()))
    backfill = run(f"Backfill of {hours} hours in one run", times.backfilled_at, times.backfill)
    if not backfill.ok:
        return DemoResult(times, backfill, None, {}, {}, [*_green("the backfill", backfill)])
    silver_before, gold_before = rows_of(folder.warehouse, ENERGY_DATA), rows_of(folder.warehouse, gold)
    revise(simulator, times)
    tick = run("Hourly tick after the revisions", times.present, times.tick)
    silver, gold_rows = rows_of(folder.warehouse, ENERGY_DATA), rows_of(folder.warehouse, gold)
    silver_changes, gold_changes = changes(silver_before, silver), changes(gold_before, gold_rows)
    expectations = [
        *_green("the backfill", backfill),
        *_green("the tick", tick),
        *judge(simulator.provider, ZONE, times, silver, gold_rows, silver_changes, gold_changes),
        make_health(folder, instance, simulator, times),
    ]
    return DemoResult(times, backfill, tick, silver_changes, gold_changes, expectations)


def run_job(
    folder: DemoFolder,
    instance: dg.DagsterInstance,
    simulator: Simulator,
    times: Times,
    now: datetime,
    window: Window,
    on_event: Callable[[int, dg.EventLogEntry], None],
) -> RunReport:
    """Run the hourly job over a window in one run, as Dagster's backfill does.

    Args:
        folder: of the tables.
        instance: stores the run.
        simulator: the API; its clock is set to `now`.
        times: the demo's.
        now: the present of the run.
        window: the hours.
        on_event: called for every event, with the number of materializations and evaluations to expect.
    """
    from emaps_dagster.defs.names import HOURLY

    simulator.set_now(now)
    job, hours = _job(HOURLY, folder, simulator, times, now), len(list(window.hours()))
    graph = job.asset_layer.asset_graph
    # Some checks evaluate each hour, some the whole table.
    evaluations = sum(hours if graph.get(key).partitions_def else 1 for key in graph.asset_check_keys)
    events = len(graph.materializable_asset_keys) * hours + evaluations
    first, last = partition_key(window.start), partition_key(window.end - HOUR)
    run_id = str(uuid.uuid4())
    instance.add_event_listener(run_id, lambda entry: on_event(events, entry))
    result = job.execute_in_process(
        instance=instance,
        run_id=run_id,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "INFO"}}}},
        partition_key=first if first == last else None,
        tags=None
        if first == last
        else {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
    )
    return _report(result, instance, evaluations)


def make_health(folder: DemoFolder, instance: dg.DagsterInstance, simulator: Simulator, times: Times) -> Expectation:
    """Materialize the page `health` at the present, so that the UI shows it."""
    from emaps_dagster.defs.names import HEALTH

    job = _job(HEALTH, folder, simulator, times, times.present)
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    checks = result.get_asset_check_evaluations()
    wrong = "; ".join(str(check.description) for check in checks if not check.passed)
    return Expectation("the page health says that all is well", result.success and bool(checks) and not wrong, wrong)


def revise(simulator: Simulator, times: Times) -> None:
    """Make the provider revise hours between backfill and tick."""
    for hour in times.revised:
        simulator.provider.revise(ZONE, hour, at=times.revised_at)


@contextmanager
def environment(variables: dict[str, str], where: Path) -> Iterator[None]:
    """Replace this process's environment and working folder, which Dagster and our settings read, within the block."""
    before, previous = dict(os.environ), Path.cwd()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(where)
    try:
        yield
    finally:
        os.chdir(previous)
        os.environ.clear()
        os.environ.update(before)


def _job(name: str, folder: DemoFolder, simulator: Simulator, times: Times, now: datetime) -> dg.JobDefinition:
    # Imported here, since the import reads the environment, which is now the demo's.
    from emaps_dagster.definitions import build_definitions

    definitions = build_definitions(
        Settings(
            api_url=simulator.url,
            power_signal=folder.power_signal,
            zones=(ZONE,),
            warehouse=folder.warehouse,
            start=times.start,
            fixed_now=now,
        )
    )
    return definitions.resolve_job_def(name)


def _report(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance, expected: int) -> RunReport:
    passed = 0
    failed: dict[str, int] = {}
    warned: dict[str, int] = {}
    for evaluation in result.get_asset_check_evaluations():
        name = f"{'.'.join(evaluation.asset_key.path)}: {evaluation.check_name}"
        if evaluation.passed:
            passed += 1
        else:
            kind = failed if evaluation.severity == dg.AssetCheckSeverity.ERROR else warned
            kind[name] = kind.get(name, 0) + 1
    errors = []
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error is not None:
            error = event.step_failure_data.error
            # Dagster wraps the errors of our code; the innermost has the message.
            while error.cause is not None:
                error = error.cause
            if error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
                # Dagster reports a Ctrl-C as a failure of the current step.
                raise KeyboardInterrupt
            errors.append(f"{event.step_key}: {error.message.strip()}")
    stats = instance.get_run_stats(result.run_id)
    seconds = (getattr(stats, "end_time", None) or 0.0) - (getattr(stats, "start_time", None) or 0.0)
    return RunReport(result.success, expected, passed, failed, warned, tuple(errors), seconds)


def _green(what: str, report: RunReport) -> Iterator[Expectation]:
    wrong = [*report.errors, *(f"{name} failed for {count} hours" for name, count in report.failed.items())]
    yield Expectation(f"{what} ran green, all blocking checks passed", report.ok and not wrong, "; ".join(wrong))
    evaluated = report.passed + sum(report.failed.values()) + sum(report.warned.values())
    yield Expectation(
        f"each check of {what} covered each of its hours, or its table",
        evaluated == report.expected,
        f"{evaluated} evaluations, not {report.expected}",
    )
