"""What the demo does: a backfill, revisions by the provider, a tick, and a judgement of what came of it.

No terminal in here: __main__.py shows it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import dagster as dg

from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.demo.expectations import Changes, Expectation, changes, judge, rows_of
from emaps_dagster.demo.folder import Folder
from emaps_dagster.demo.timeline import Times
from emaps_dagster.simulator.server import Simulator

ZONE = "GR"
# What the simulator asks for, to show and to test that a token gets nowhere else.
TOKEN = "token-of-the-demo-only"  # noqa: S105  # opens nothing but the simulator


@dataclass(frozen=True)
class RunReport:
    """One run of the main job: what its checks said, hour by hour, and why it failed if it did."""

    ok: bool
    expected: int
    passed: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    warned: dict[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class DemoResult:
    """All that happened; there is no tick after a backfill that failed."""

    times: Times
    backfill: RunReport
    tick: RunReport | None
    silver_changes: Changes
    gold_changes: Changes
    truths: list[Expectation]

    @property
    def ok(self) -> bool:
        return all(truth.holds for truth in self.truths)


def run_job(
    folder: Folder,
    instance: dg.DagsterInstance,
    simulator: Simulator,
    times: Times,
    now: datetime,
    window: Window,
    heard: Callable[[int, dg.EventLogEntry], None],
) -> RunReport:
    """Run the main job over a window in one run, as Dagster's backfill does.

    Args:
        folder: where the tables are.
        instance: keeps the run.
        simulator: answers; its clock is set to `now`.
        times: the demo's.
        now: what the run takes for the present.
        window: the hours.
        heard: is told of every event, with how many materializations and evaluations there will be.
    """
    from emaps_dagster.defs.names import HOURLY

    simulator.set_now(now)
    job, hours = _job(HOURLY, folder, simulator, times, now), len(list(window.hours()))
    graph = job.asset_layer.asset_graph
    # Some checks judge each hour, some the whole table.
    evaluations = sum(hours if graph.get(key).partitions_def else 1 for key in graph.asset_check_keys)
    events = len(graph.materializable_asset_keys) * hours + evaluations
    first, last = partition_key(window.start), partition_key(window.end - HOUR)
    run_id = str(uuid.uuid4())
    instance.add_event_listener(run_id, lambda entry: heard(events, entry))
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


def make_health(folder: Folder, instance: dg.DagsterInstance, simulator: Simulator, times: Times) -> Expectation:
    """The page `health` as of the present, so that whoever opens the UI finds it made."""
    from emaps_dagster.defs.names import HEALTH

    job = _job(HEALTH, folder, simulator, times, times.present)
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    checks = result.get_asset_check_evaluations()
    wrong = "; ".join(str(check.description) for check in checks if not check.passed)
    return Expectation("the page health says that all is well", result.success and bool(checks) and not wrong, wrong)


def _job(name: str, folder: Folder, simulator: Simulator, times: Times, now: datetime) -> dg.JobDefinition:
    # Importing it reads the environment, which is the demo's by now.
    from emaps_dagster.definitions import build_definitions

    definitions = build_definitions(
        Settings(api_url=simulator.url, zones=(ZONE,), warehouse=folder.warehouse, start=times.start, fixed_now=now)
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
            # Dagster wraps what our code raised; the person needs the sentence inside.
            while error.cause is not None:
                error = error.cause
            if error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
                # Dagster reports a Ctrl-C as the failure of the step that it hit.
                raise KeyboardInterrupt
            errors.append(f"{event.step_key}: {error.message.strip()}")
    stats = instance.get_run_stats(result.run_id)
    seconds = (getattr(stats, "end_time", None) or 0.0) - (getattr(stats, "start_time", None) or 0.0)
    return RunReport(result.success, expected, passed, failed, warned, tuple(errors), seconds)


def run_scenario(
    folder: Folder,
    instance: dg.DagsterInstance,
    simulator: Simulator,
    times: Times,
    watch: Callable[[str], Callable[[int, dg.EventLogEntry], None]],
) -> DemoResult:
    """Backfill, let the provider revise, tick, judge what came of it, and make the page `health`.

    Args:
        folder: prepared and empty.
        instance: Dagster's, in the folder.
        simulator: running; its clock is set here.
        times: when.
        watch: is given a run's title; returns who is told of its events.
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
    truths = [
        *_green("the backfill", backfill),
        *_green("the tick", tick),
        *judge(simulator.provider, ZONE, times, silver, gold_rows, silver_changes, gold_changes),
        make_health(folder, instance, simulator, times),
    ]
    return DemoResult(times, backfill, tick, silver_changes, gold_changes, truths)


def revise(simulator: Simulator, times: Times) -> None:
    """Let the provider change its mind between backfill and tick."""
    for hour in times.revised:
        simulator.provider.revise(ZONE, hour, at=times.revised_at)


def _green(what: str, report: RunReport) -> Iterator[Expectation]:
    wrong = [*report.errors, *(f"{name} failed for {count} hours" for name, count in report.failed.items())]
    yield Expectation(f"{what} ran green, all blocking checks passed", report.ok and not wrong, "; ".join(wrong))
    evaluated = report.passed + sum(report.failed.values()) + sum(report.warned.values())
    yield Expectation(
        f"each check of {what} judged each of its hours, or its table",
        evaluated == report.expected,
        f"{evaluated} evaluations, not {report.expected}",
    )


@contextmanager
def environment(variables: dict[str, str], where: Path) -> Iterator[None]:
    """This process's environment and working folder, which Dagster and our settings read, replaced for a while."""
    before, came_from = dict(os.environ), Path.cwd()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(where)
    try:
        yield
    finally:
        os.chdir(came_from)
        os.environ.clear()
        os.environ.update(before)
