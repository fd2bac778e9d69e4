"""Deployment `databricks` when things go wrong: the cause and the page are reported, nothing is lost or doubled.

One hour through the real assets, launched on the emulator in runs of one or two assets, each time with another fault;
the tests are one story in their order, and what it leaves is compared with deployment embedded. What goes right is in
test_databricks_end_to_end.py.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import SparkPythonTask, SubmitTask
from deltalake import DeltaTable

from emaps_dagster.contracts.settings import Settings, read_settings
from emaps_dagster.definitions import build_definitions
from emaps_dagster.defs.resources.databricks import retries as patience
from emaps_dagster.defs.resources.databricks.left_runs import end_left_runs
from emaps_dagster.defs.resources.databricks.staging import Staging
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.support.command_line import ROOT
from emaps_dagster_tests.support.secret_scanner import forms_in, opened, traces
from harness.dagster_runs import quick_instance
from harness.databricks_emulator.faults import CallFault, RunFault
from harness.databricks_emulator.runs import Run
from harness.databricks_emulator.workspace import LACKING, Workspace
from harness.loaded_jobs import loaded_job, settings_alone

pytestmark = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))

NOW = datetime(2024, 5, 4, 10, 7, tzinfo=timezone.utc)
HOUR = "2024-05-04-09:00"
TOKEN = "a-token+that/must=stay.secret"
POWER, CARBON = dg.AssetKey(["bronze", "power_data"]), dg.AssetKey(["bronze", "carbon_data"])
SILVER, GOLD = dg.AssetKey(["silver", "energy_data"]), dg.AssetKey(["gold", "ml_features"])


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(token=TOKEN, zones=("GR",), now=NOW) as made:
        yield made


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("databricks") / "workspace"
    with Workspace(folder, secrets={("emaps", "api-token"): TOKEN}) as made:
        yield made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME on disk, to be searched afterwards."""
    folder = tmp_path_factory.mktemp("host") / "home"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\npython_logs: {python_log_level: DEBUG}\n")
    return folder


class Host:
    """The machine that Dagster runs on: its settings, and what a launched run left there."""

    def __init__(self, workspace: Workspace, simulator: Simulator, home: Path) -> None:
        self.workspace, self.home = workspace, home
        self.settings = {
            "DEPLOYMENT": "databricks",
            "DATABRICKS_HOST": workspace.host,
            "DATABRICKS_TOKEN": workspace.token,
            "DATABRICKS_CLUSTER_ID": workspace.cluster_id,
            "DATABRICKS_POLL_SECONDS": "0.2",
            "API_URL": simulator.url,
            "FIXED_NOW": NOW.isoformat(),
            "START": "2024-05-04",
        }

    def environment(self, **changed: str) -> dict[str, str]:
        return {f"EMAPS_{name}": value for name, value in {**self.settings, **changed}.items()}

    def launch(self, *keys: dg.AssetKey, **changed: str) -> Launched:
        """Materialize assets of the hour, with these settings changed."""
        return self._launch("hourly", keys, {}, changed)

    def launch_job(self, name: str, config: dict[str, Any]) -> Launched:
        """Execute a job of ops."""
        return self._launch(name, (), config, {})

    def _launch(
        self, job_name: str, keys: Sequence[dg.AssetKey], config: dict[str, Any], changed: dict[str, str]
    ) -> Launched:
        with loaded_job(self.environment(**changed), job_name) as whole:
            job = whole
            if keys:
                job = job.get_subset(asset_selection=set(keys), asset_check_selection=set())
            before = len(self.workspace.runs)
            with dg.DagsterInstance.from_config(str(self.home)) as instance:
                tags = {"dagster/partition": HOUR} if keys else {}
                with dg.execute_job(job, instance, config, tags=tags, raise_on_error=False) as result:
                    return Launched(result.success, result.all_events, self.workspace.runs[before:])

    def materializations(self, key: dg.AssetKey) -> int:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return len(instance.fetch_materializations(key, limit=100).records)


class Launched:
    def __init__(self, success: bool, events: Sequence[dg.DagsterEvent], runs: list[Run]) -> None:
        self.success, self.events, self.runs = success, events, runs

    @property
    def failure(self) -> str:
        """What a person reads of the failed step."""
        (event,) = (event for event in self.events if event.event_type_value == "STEP_FAILURE")
        data = event.step_failure_data
        told = data.user_failure_data.description if data.user_failure_data else None
        return f"{told or ''}\n{data.error.to_string() if data.error else ''}"

    @property
    def materialized(self) -> list[str | None]:
        made = [
            event.step_materialization_data.materialization for event in self.events if event.is_step_materialization
        ]
        return [one.partition for one in made]


@pytest.fixture
def host(workspace: Workspace, simulator: Simulator, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    # Patience is tested, not waited for.
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_SECONDS", 0.05)
    yield Host(workspace, simulator, home)
    workspace.clear_faults()
    simulator.clear_faults()
    workspace.dbfs_enabled, workspace.delivery_seconds, workspace.terminating_seconds = True, 0.0, 0.0


def rows(warehouse: Path, table: str, suffix: str = ".db") -> list[dict[str, Any]]:
    layer, name = table.split(".")
    return sorted(
        DeltaTable(str(warehouse / f"{layer}{suffix}" / name)).to_pyarrow_table().to_pylist(),
        key=lambda row: (row["zone"], row["datetime"]),
    )


def version(workspace: Workspace, table: str) -> int:
    layer, name = table.split(".")
    return DeltaTable(str(workspace.warehouse / f"{layer}.db" / name)).version()


@contextmanager
def _dagster(host: Host, folder: Path, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own, which is ended in any case."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster", *arguments],
        cwd=folder,
        env={**os.environ, **host.environment(), "DAGSTER_HOME": str(host.home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _wait_until(process: subprocess.Popen[bytes], what: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < end
        time.sleep(0.1)


def _settings(host: Host) -> Settings:
    with settings_alone(host.environment()):
        return read_settings()


# Before anything runs


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"DATABRICKS_TOKEN": "dapi-that-was-revoked"}, ["Invalid access token", "EMAPS_DATABRICKS_TOKEN"]),
        ({"DATABRICKS_CLUSTER_ID": "1125-gone"}, ["Cluster 1125-gone does not exist"]),
        ({"DATABRICKS_STAGING": "/Volumes/main/other/staging"}, ["does not exist", "EMAPS_DATABRICKS_STAGING"]),
    ],
)
def test_a_wrong_setting_fails_the_step_and_is_named(host: Host, changed: dict[str, str], says: list[str]) -> None:
    launched = host.launch(POWER, **changed)
    assert not launched.success
    assert [part for part in says if part not in launched.failure] == []
    assert "bronze__power_data" in launched.failure
    assert launched.runs == []


def test_a_disabled_dbfs_is_named_with_the_way_out(host: Host) -> None:
    host.workspace.dbfs_enabled = False
    launched = host.launch(POWER)
    assert not launched.success
    assert "Public DBFS root is disabled" in launched.failure
    assert "EMAPS_DATABRICKS_STAGING" in launched.failure


@pytest.mark.parametrize("path", ["/api/2.0/dbfs/create", "/api/2.2/jobs/runs/submit"])
def test_an_api_that_stays_broken_fails_the_step_after_some_tries(host: Host, path: str) -> None:
    host.workspace.inject(CallFault(path, 500, times=None))
    before = host.workspace.count("POST", path)
    launched = host.launch(POWER)
    assert not launched.success
    assert "An internal error occurred" in launched.failure
    assert host.workspace.count("POST", path) - before > 1
    assert launched.runs == []
    assert host.workspace.staged() == []


def test_a_cluster_that_does_not_start_is_reported_with_its_reason_and_page(host: Host) -> None:
    host.workspace.inject(RunFault("cluster_start_failure"))
    host.workspace.terminating_seconds = 0.3
    launched = host.launch(POWER)
    assert not launched.success
    assert "AWS_INSUFFICIENT_INSTANCE_CAPACITY_FAILURE" in launched.failure
    assert launched.runs[0].page in launched.failure
    assert launched.materialized == []
    assert host.workspace.staged() == []


def test_a_time_limit_is_reported_with_the_setting_and_page(host: Host) -> None:
    launched = host.launch(POWER, DATABRICKS_TIMEOUT_SECONDS="1")
    assert not launched.success
    assert "EMAPS_DATABRICKS_TIMEOUT_SECONDS" in launched.failure
    assert launched.runs[0].page in launched.failure
    assert launched.runs[0].state()["result_state"] == "TIMEDOUT"
    assert launched.materialized == []


# While it runs


def test_calls_that_fail_for_a_moment_are_tried_again_and_one_run_is_made(host: Host) -> None:
    for fault in (
        CallFault("/api/2.0/dbfs/create", 429, retry_after=0),
        CallFault("/api/2.0/dbfs/add-block", 500, skip=1, lost=True),
        CallFault("/api/2.0/dbfs/close", 503, retry_after=0),
        # The run is made, its number is not told: asked again, it must not be made twice.
        CallFault("/api/2.2/jobs/runs/submit", 500, lost=True),
        CallFault("/api/2.2/jobs/runs/get", 500, skip=1, times=2),
        CallFault("/api/2.2/jobs/runs/get", 429, skip=3, retry_after=0),
        CallFault("/api/2.0/dbfs/read", torn=True, holds="events"),
        CallFault("/api/2.0/dbfs/read", 500, skip=1, holds="events"),
        CallFault("/api/2.0/dbfs/delete", 500),
    ):
        host.workspace.inject(fault)
    host.workspace.delivery_seconds = 0.3
    launched = host.launch(POWER, CARBON)
    assert launched.success, launched.runs[-1].log()
    assert len(launched.runs) == 1
    assert launched.materialized == [HOUR, HOUR]
    assert (host.materializations(POWER), host.materializations(CARBON)) == (1, 1)
    assert version(host.workspace, "bronze.power_data") == 1
    assert host.workspace.staged() == []


def test_with_dbfs_disabled_a_step_runs_through_a_volume(host: Host) -> None:
    host.workspace.dbfs_enabled = False
    host.workspace.inject(CallFault("/api/2.0/fs/files", 500, method="PUT"))
    launched = host.launch(CARBON, DATABRICKS_STAGING=f"{host.workspace.volume}/staging")
    assert launched.success, launched.runs[-1].log()
    assert launched.materialized == [HOUR]
    assert host.workspace.staged() == []


def test_a_killed_host_leaves_a_run_that_ends_and_files_that_are_removed(host: Host, tmp_path: Path) -> None:
    before = len(host.workspace.runs)
    command = ["asset", "materialize", "-m", "emaps_dagster.definitions", "--select", "key:silver/energy_data"]
    with _dagster(host, tmp_path, [*command, "--partition", HOUR]) as process:
        _wait_until(process, lambda: len(host.workspace.runs) > before)
        process.kill()
    (left,) = host.workspace.runs[before:]
    assert left.thread is not None
    left.thread.join(120)
    # The run has gone on by itself. Dagster knows of no hour, and holds the run for one that goes on.
    assert left.state()["result_state"] == "SUCCESS", left.log()
    assert (version(host.workspace, "silver.energy_data"), host.materializations(SILVER)) == (1, 0)
    with dg.DagsterInstance.from_config(str(host.home)) as instance:
        (run,) = instance.get_runs(limit=1)
        assert run.status is dg.DagsterRunStatus.STARTED
        assert list(end_left_runs(_settings(host), instance)) == []
        # A person ends it in the UI (Terminate, force), as orphaned_runs does for runs of a code server.
        instance.report_run_canceled(run)
        folder = f"/dagster_staging/{run.run_id}"
        assert list(end_left_runs(_settings(host), instance)) == [
            f"Run {run.run_id} had left files in {folder}: they are removed."
        ]
    assert host.workspace.staged() == []


def test_a_driver_killed_after_its_commit_fails_the_step_and_the_next_run_writes_nothing_twice(host: Host) -> None:
    committed = "gold.db/ml_features/_delta_log/00000000000000000001.json"
    host.workspace.inject(RunFault("driver_killed", when=committed))
    killed = host.launch(SILVER, GOLD)
    assert not killed.success
    assert "The spark driver has stopped unexpectedly" in killed.failure
    assert killed.runs[0].page in killed.failure
    assert len(killed.runs) == 1
    # Silver was written before by the run of the killed host.
    assert (host.materializations(SILVER), host.materializations(GOLD)) == (1, 0)
    again = host.launch(SILVER, GOLD)
    assert again.success, again.runs[-1].log()
    assert len(again.runs) == 1
    assert again.materialized == [HOUR, HOUR]
    assert [version(host.workspace, table) for table in ("silver.energy_data", "gold.ml_features")] == [1, 1]
    assert host.workspace.staged() == []


def test_events_that_arrive_after_the_run_has_ended_are_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the cluster wrote is kept, to be searched for the token at the end.
    monkeypatch.setattr(Staging, "remove", lambda self, folder: None)
    host.workspace.delivery_seconds = 1.5
    host.workspace.terminating_seconds = 0.3
    launched = host.launch(GOLD)
    assert launched.success, launched.runs[-1].log()
    assert launched.materialized == [HOUR]


def test_terminating_the_run_in_dagster_cancels_it_on_databricks(
    host: Host, simulator: Simulator, tmp_path: Path
) -> None:
    # The step hangs in its request until it is ended.
    simulator.inject(Fault("slow", seconds=120, times=None))
    kept = host.workspace.staged()
    before = host.materializations(CARBON)
    runs = len(host.workspace.runs)
    command = ["job", "execute", "-m", "emaps_dagster.definitions", "-j", "hourly"]
    with _dagster(host, tmp_path, [*command, "--tags", f'{{"dagster/partition": "{HOUR}"}}']) as process:
        _wait_until(
            process,
            lambda: (
                len(host.workspace.runs) > runs and host.workspace.runs[-1].state()["life_cycle_state"] == "RUNNING"
            ),
        )
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    (run,) = host.workspace.runs[runs:]
    assert run.thread is not None
    run.thread.join(30)
    assert run.state()["result_state"] == "CANCELED", output.decode()
    assert (host.materializations(CARBON), host.materializations(POWER)) == (before, 1)
    assert host.workspace.staged() == kept
    with dg.DagsterInstance.from_config(str(host.home)) as instance:
        assert [run.status.value for run in instance.get_runs(limit=1)] in (["CANCELED"], ["FAILURE"])


# Afterwards


_ANOTHER_JOB = pytest.mark.long("the health report is launched by the same road")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "job",
    [
        "health_report",
        pytest.param("rebuild", marks=_ANOTHER_JOB),
        pytest.param("maintenance", marks=_ANOTHER_JOB),
    ],
)
def test_every_other_job_is_one_run(host: Host, job: str) -> None:
    expected = {
        "rebuild": {"rebuild_silver", "rebuild_gold"},
        "maintenance": {
            f"maintain_{table}"
            for table in (
                *(f"bronze_{name}" for name in ("power_data", "carbon_data", "mix_data")),
                *(f"bronze_{name}" for name in ("rejected_responses", "rejected_records", "withdrawn_responses")),
                "silver_energy_data",
                "gold_ml_features",
            )
        },
        "health_report": {"health"},
    }[job]
    done = host.launch_job(job, {})
    assert done.success, done.runs[-1].log()
    assert len(done.runs) == 1
    ended = [event.step_key for event in done.events if event.event_type_value == "STEP_SUCCESS"]
    assert len(ended) == len(expected)
    assert set(ended) == expected


def test_a_task_finds_spark_with_delta_wherever_it_looks(host: Host) -> None:
    """The emulator itself, tested where its cluster runs anyway."""
    code = b"""
from pyspark.sql import SparkSession
assert SparkSession.builder.getOrCreate() is spark
from databricks.sdk.runtime import spark as same
assert same is spark
spark.sql("CREATE SCHEMA numbers")
spark.sql("CREATE TABLE spark_catalog.numbers.some (n INT COMMENT 'a number') USING delta COMMENT 'some'")
spark.sql("INSERT INTO numbers.some VALUES (7)")
print(spark.sql("SELECT n FROM numbers.some").collect(), sc.master)
"""
    client = WorkspaceClient(host=host.workspace.host, token=host.workspace.token)
    client.dbfs.upload("/code/numbers.py", io.BytesIO(code))
    main = SparkPythonTask(python_file="dbfs:/code/numbers.py")
    task = SubmitTask(task_key="only", existing_cluster_id=host.workspace.cluster_id, spark_python_task=main)
    client.jobs.submit(tasks=[task]).result()
    assert host.workspace.runs[-1].log("stdout") == "[Row(n=7)] local[2]\n"
    table = DeltaTable(str(host.workspace.warehouse / "numbers.db" / "some"))
    assert table.to_pyarrow_table().to_pylist() == [{"n": 7}]


def test_the_tables_equal_those_of_deployment_embedded_bit_for_bit(
    host: Host, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    settings = Settings(
        api_url=simulator.url, fixed_now=NOW, start=datetime(2024, 5, 4, tzinfo=timezone.utc), warehouse=tmp_path / "w"
    )
    job = build_definitions(settings).resolve_job_def("hourly")
    with quick_instance() as instance:
        assert job.execute_in_process(instance=instance, partition_key=HOUR).success
    for table in ("silver.energy_data", "gold.ml_features"):
        launched, embedded = rows(host.workspace.warehouse, table), rows(tmp_path / "w", table, suffix="")
        assert len(launched) == 23
        assert repr(launched) == repr(embedded), table


def test_the_token_is_in_nothing_that_was_sent_or_stored(host: Host) -> None:
    found = [
        (place, form)
        for place, content in host.workspace.received()
        for part in opened(content)
        for form in forms_in(part, TOKEN)
    ]
    assert found == []
    assert traces(host.home, TOKEN) == []
    assert traces(host.workspace.folder, TOKEN) == []
    # What was searched is all there: archives, pickles and events that were sent, tables, databases and logs.
    uploads = {Path(place).name for place, _ in host.workspace.received()}
    assert uploads >= {"code.tar.xz", "config.pkl", "steps.pkl", "cluster_main.py"}
    written = {Path(path).name for path in host.workspace.staged()}
    assert written >= {"events-000000.json", "output.json"}
    # A task removes its own input once it has read it.
    assert written & {"code.tar.xz", "config.pkl", "steps.pkl", "cluster_main.py"} == set()
    kinds = {path.suffix for folder in (host.home, host.workspace.folder) for path in folder.rglob("*")}
    assert kinds >= {".parquet", ".json", ".db", ".log"}


def test_a_token_that_was_sent_in_a_packed_pickle_would_be_found(host: Host) -> None:
    client = WorkspaceClient(host=host.workspace.host, token=host.workspace.token)
    planted = gzip.compress(pickle.dumps({"env": ["x", {"EMAPS_API_TOKEN": TOKEN}]}))
    assert forms_in(planted, TOKEN) == []
    client.dbfs.upload("/planted.pkl", io.BytesIO(planted))
    received = [
        part for place, content in host.workspace.received() if place == "/planted.pkl" for part in opened(content)
    ]
    assert any(forms_in(part, TOKEN) for part in received)
    assert ("dbfs/planted.pkl", "plain") in traces(host.workspace.folder, TOKEN)
