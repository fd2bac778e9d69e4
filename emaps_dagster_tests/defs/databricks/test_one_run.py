"""One Databricks run has all steps of a Dagster run, and Dagster shows what it shows of steps that run here.

Our launcher and main script on the emulated workspace, with a pipeline of empty bodies (support/tiny_tick.py). The real
assets are in system/test_databricks_end_to_end.py and test_databricks_faults.py.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from databricks.sdk import WorkspaceClient

from emaps_dagster_tests.support.tiny_tick import key, tiny_job, write
from harness.dagster_runs import quick_instance
from harness.databricks_emulator.faults import RunFault
from harness.databricks_emulator.runs import Run
from harness.databricks_emulator.workspace import LACKING, Workspace

pytestmark = [
    pytest.mark.skipif(LACKING is not None, reason=str(LACKING)),
    pytest.mark.filterwarnings("ignore::dagster.SupersessionWarning"),
]

HOUR = {"dagster/partition": "2024-05-04-01:00"}
RANGE = {
    "dagster/asset_partition_range_start": "2024-05-04-00:00",
    "dagster/asset_partition_range_end": "2024-05-04-02:00",
}
SUBMITS = ("POST", "/api/2.2/jobs/runs/submit")
# As Dagster orders them.
BRONZE = ["bronze__carbon", "bronze__power", "check_bronze_carbon", "check_bronze_power"]
STEPS = [*BRONZE, "silver__energy", "check_silver_energy", "gold__features", "check_gold_features"]


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tiny_tick_") as folder:
        yield write(Path(folder))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Iterator[Workspace]:
    secrets = {("emaps", "api-token"): "the-api-s3cret"}
    folder = tmp_path_factory.mktemp("one_run") / "workspace"
    with Workspace(folder, secrets=secrets, spark=False, hidden=[project]) as made:
        yield made


@dataclass
class Scenario:
    """A run to compare: what is asked for, what goes wrong, and how many Databricks runs it takes."""

    tags: dict[str, str]
    assets: set[str] | None = None
    checks: set[tuple[str, str]] | None = None
    wrong: str = ""
    success: bool = True
    again: bool = False
    executed: list[str] = field(default_factory=lambda: STEPS)


SCENARIOS = {
    "hour": Scenario(HOUR),
    "range": Scenario(RANGE),
    "gold only": Scenario(HOUR, {"gold.features"}, set(), executed=["gold__features"]),
    "silver and gold with four checks": Scenario(
        HOUR,
        {"silver.energy", "gold.features"},
        {(table, name) for table in ("silver.energy", "gold.features") for name in ("of_each_hour", "of_the_table")},
        executed=STEPS[4:],
    ),
    "checks only": Scenario(
        RANGE,
        set(),
        {("silver.energy", "of_each_hour"), ("silver.energy", "of_the_table")},
        executed=["check_silver_energy"],
    ),
    "a blocking failure": Scenario(HOUR, wrong="silver.energy blocks", success=False, executed=STEPS[:6]),
    "a warning": Scenario(RANGE, wrong="silver.energy warns"),
    "silver raises": Scenario(HOUR, wrong="silver.energy raises", success=False, executed=STEPS[:5]),
    "a retry from the failure": Scenario(HOUR, wrong="silver.energy raises", again=True, executed=STEPS[4:]),
}
# What differs by the place where a step runs, and by which events came before it.
_PLACE = ("pid",)
RETRIED, HANGS = "silver.energy is retried", "silver.energy hangs"
_POINTERS = "dagster/input_event_pointer"


def _execute(
    instance: dg.DagsterInstance,
    project: Path,
    workspace: Workspace | None,
    scenario: Scenario,
    executor: str,
    **changed: str,
) -> dg.DagsterRun:
    with tiny_job(project, workspace, executor, **changed) as tick:
        job = tick
        if scenario.assets is not None:
            job = tick.get_subset(
                asset_selection={key(name) for name in scenario.assets},
                asset_check_selection={dg.AssetCheckKey(key(asset), name) for asset, name in scenario.checks or ()},
            )
        tags = {**scenario.tags, **({"tiny": scenario.wrong} if scenario.wrong else {})}
        with dg.execute_job(job, instance, tags=tags, raise_on_error=False) as result:
            run_id = result.run_id
        if scenario.again:
            options = dg.ReexecutionOptions.from_failure(run_id, instance)
            with dg.execute_job(job, instance, tags=tags, reexecution_options=options, raise_on_error=False) as result:
                run_id = result.run_id
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run


@dataclass
class Told:
    """What Dagster has stored of a run."""

    success: bool
    events: list[tuple[Any, ...]]
    printed: list[str]

    @property
    def executed(self) -> list[str]:
        return [event[1] for event in self.events if event[0] == "STEP_START"]


def _told(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Told:
    of = {}
    for name in ("bronze.power", "bronze.carbon", "silver.energy", "gold.features"):
        for record in instance.fetch_materializations(key(name), limit=100).records:
            of[record.storage_id] = (name, record.partition_key, record.run_id == run.run_id)
    events, printed = [], []
    for entry in instance.all_logs(run.run_id):
        event = entry.dagster_event
        if event is None:
            printed.append(f"{entry.step_key}: {entry.user_message}")
        elif event.step_key and not (event.is_engine_event and "Databricks run" in (event.message or "")):
            events.append(_plain(event, of))
    return Told(run.is_success, events, printed)


def _plain(event: dg.DagsterEvent, of: dict[int, Any]) -> tuple[Any, ...]:
    """The event without what is of the place; references to materializations by what they are of."""
    data, more = event.event_specific_data, ()
    if isinstance(data, dg.AssetCheckEvaluation):
        target = data.target_materialization_data
        more = (
            data.asset_key.to_user_string(),
            data.check_name,
            data.partition,
            data.passed,
            data.severity.value,
            data.blocking,
            _metadata(data.metadata),
            target and (of[target.storage_id], target.timestamp > 0),
        )
    elif event.is_step_materialization:
        made = event.step_materialization_data.materialization
        tags = {
            name: of.get(int(value)) if name.startswith(_POINTERS) and value != "NULL" else value
            for name, value in (made.tags or {}).items()
        }
        more = (made.asset_key.to_user_string(), made.partition, _metadata(made.metadata), sorted(tags.items()))
    elif event.is_step_failure:
        failed = event.step_failure_data
        more = (failed.user_failure_data and failed.user_failure_data.description, failed.error_source)
    elif event.event_type_value == "ASSET_CHECK_EVALUATION_PLANNED":
        more = (str(data),)
    return (event.event_type_value, event.step_key, *more)


def _metadata(metadata: Any) -> dict[str, Any]:
    return {name: value.value for name, value in metadata.items() if name not in _PLACE}


# Each starts a task's process and loads Dagster there; what ends or holds a run in between has tests of its own.
_ALWAYS = ("range", "silver and gold with four checks", "a blocking failure", "a retry from the failure")
_ANOTHER = pytest.mark.long("another selection of the same events")


@pytest.mark.parametrize(
    "name", [name if name in _ALWAYS else pytest.param(name, marks=_ANOTHER) for name in SCENARIOS]
)
def test_each_event_is_that_of_local_execution(workspace: Workspace, project: Path, name: str) -> None:
    scenario = SCENARIOS[name]
    told = []
    for place in (workspace, None):
        with quick_instance() as instance:
            if scenario.tags == RANGE or scenario.assets is not None:
                # What the run refers to beside what it makes itself.
                _execute(instance, project, None, Scenario(RANGE), "in_process")
            before = len(workspace.runs)
            told.append(_told(instance, _execute(instance, project, place, scenario, "in_process")))
            runs = workspace.runs[before:]
            assert len(runs) == ((2 if scenario.again else 1) if place else 0), [run.log() for run in runs]
    launched, here = told
    assert launched.success == here.success == scenario.success
    assert launched.executed == here.executed == scenario.executed
    assert launched.events == here.events
    assert [text for text in launched.printed if "computing" in text] == [
        text for text in here.printed if "computing" in text
    ]
    assert workspace.staged() == []


def _steps_of(runs: Sequence[Run]) -> list[list[str]]:
    """The steps that each Databricks run has executed, by what they printed and logged."""
    return [re.findall(r" - (\w+) - STEP_START - ", run.log()) for run in runs]


@contextmanager
def _meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something beside a run that waits for it."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()


def _wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_step_whose_pool_another_run_holds_is_launched_when_it_is_free(workspace: Workspace, project: Path) -> None:
    before = len(workspace.runs)
    with quick_instance() as instance:
        log = instance.event_log_storage
        log.set_concurrency_slots("gold.features", 1)
        log.set_concurrency_slots("silver.energy", 1)
        other = instance.create_run_for_job(dg.GraphDefinition("other").to_job())
        assert log.claim_concurrency_slot("gold.features", other.run_id, "its_step").is_claimed

        def free() -> None:
            # Silver and its checks are there, and gold waits.
            _wait_for(lambda: instance.fetch_materializations(key("silver.energy"), limit=1).records)
            _wait_for(lambda: workspace.runs[before:] and workspace.runs[before].over)
            log.free_concurrency_slot_for_step(other.run_id, "its_step")

        with _meanwhile(free):
            run = _execute(instance, project, workspace, Scenario(HOUR), "in_process")
        told = _told(instance, run)
        assert told.success
        assert told.executed == STEPS
        assert _steps_of(workspace.runs[before:]) == [STEPS[:6], STEPS[6:]]
        assert log.get_concurrency_info("gold.features").claimed_slots == []
    assert workspace.staged() == []


def test_a_step_that_is_tried_again_is_launched_with_what_follows_it(workspace: Workspace, project: Path) -> None:
    before = len(workspace.runs)
    with quick_instance() as instance:
        told = _told(instance, _execute(instance, project, workspace, Scenario(HOUR, wrong=RETRIED), "in_process"))
    with quick_instance() as instance:
        here = _told(instance, _execute(instance, project, None, Scenario(HOUR, wrong=RETRIED), "in_process"))
    assert told.success
    assert told.events == here.events
    assert _steps_of(workspace.runs[before:]) == [[*BRONZE, "silver__energy"], STEPS[5:]]
    assert workspace.staged() == []


@pytest.mark.long("not the executor that the definitions name")
def test_the_multiprocess_executor_launches_one_run_a_step(workspace: Workspace, project: Path) -> None:
    before = len(workspace.runs)
    scenario = Scenario(HOUR, {"silver.energy", "gold.features"}, set())
    with tempfile.TemporaryDirectory() as home, dg.DagsterInstance.local_temp(home) as instance:
        told = _told(instance, _execute(instance, project, workspace, scenario, "multiprocess"))
    assert told.success
    assert told.executed == ["silver__energy", "gold__features"]
    assert len(workspace.runs) - before == 2
    assert workspace.staged() == []


# In an event of the step itself; events before it name the steps to come.
OF_SILVER = '"step_key": "silver__energy"'


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param(
            "driver killed",
            "The spark driver has stopped unexpectedly",
            marks=pytest.mark.long("test_databricks_faults.py kills a driver after its commit"),
        ),
        ("run cancelled", "was cancelled in Databricks: Run cancelled."),
    ],
)
def test_what_ends_a_run_fails_the_step_that_runs_and_keeps_those_before(
    workspace: Workspace, project: Path, fault: str, told: str
) -> None:
    before = len(workspace.runs)

    def cancel() -> None:
        if fault == "run cancelled":
            _wait_for(lambda: len(workspace.runs) > before)
            run = workspace.runs[before]
            _wait_for(lambda: any(OF_SILVER.encode() in content for content in _event_files(workspace)))
            WorkspaceClient(host=workspace.host, token=workspace.token).jobs.cancel_run(run.run_id)

    if fault == "driver killed":
        workspace.inject(RunFault("driver_killed", written=OF_SILVER))
    with quick_instance() as instance:
        with _meanwhile(cancel):
            run = _execute(instance, project, workspace, Scenario(HOUR, wrong=HANGS, again=True), "in_process")
        (first,) = (one for one in instance.get_runs() if one.run_id != run.run_id)
        ended, again = _told(instance, first), _told(instance, run)
    ((_, failed, cause, _),) = (event for event in ended.events if event[0] == "STEP_FAILURE")
    assert failed == "silver__energy"
    assert told in cause
    assert workspace.runs[before].page in cause
    assert [event[1] for event in ended.events if event[0] == "STEP_SUCCESS"] == BRONZE
    assert again.success
    assert again.executed == STEPS[4:]
    assert len(workspace.runs) - before == 2
    assert workspace.staged() == []


def _event_files(workspace: Workspace) -> list[bytes]:
    return [path.read_bytes() for path in (workspace.folder / "dbfs").rglob("events-*.json")]


def test_dagster_gives_a_run_up_after_a_time_for_all_its_steps(workspace: Workspace, project: Path) -> None:
    before = len(workspace.runs)
    scenario = Scenario(HOUR, {"silver.energy", "gold.features"}, set(), wrong=HANGS)
    with quick_instance() as instance:
        run = _execute(instance, project, workspace, scenario, "in_process", DATABRICKS_WAIT_SECONDS="1")
        told = _told(instance, run)
    ((_, failed, cause, _),) = (event for event in told.events if event[0] == "STEP_FAILURE")
    assert failed == "silver__energy"
    assert "after 1 s for all its steps together (EMAPS_DATABRICKS_WAIT_SECONDS); it is cancelled." in cause
    (only,) = workspace.runs[before:]
    _wait_for(lambda: only.over)
    assert only.state()["result_state"] == "CANCELED"
    assert workspace.staged() == []
