"""The bundle's job on an emulated workspace, by the signals of v4: what a person then does with its tables.

The job without Dagster makes them; a launched Dagster run goes on an hour later; a notebook reads them. All is
compared with the embedded engine on the same provider, bit for bit.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from databricks.sdk import WorkspaceClient
from deltalake import DeltaTable

from emaps_dagster import features
from emaps_dagster.cli.task import LAYERS, Task, run
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, utc_now
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.launched_jobs import checks_shown, run_job
from emaps_dagster_tests.support.serverless import WHY_NOT, connect_to, drop_tables
from harness.databricks_emulator import image
from harness.databricks_emulator.runs import Run
from harness.databricks_emulator.workspace import LACKING, Workspace
from harness.long_runs import LONG

pytestmark = [pytest.mark.skipif(LACKING is not None, reason=str(LACKING)), pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
BUNDLE: dict[str, Any] = yaml.safe_load((ROOT / "databricks.yml").read_text())
TARGETS: dict[str, Any] = BUNDLE["targets"]
JOB: dict[str, Any] = TARGETS["prod"]["resources"]["jobs"]["emaps_hourly"]
SERVERLESS: dict[str, Any] = TARGETS["serverless"]["resources"]["jobs"]["emaps_hourly"]
GOLD = ml_features(("GR",))
TOKEN = "token-of-electricity-maps"
NOW = datetime(2024, 5, 4, 10, 7, tzinfo=timezone.utc)
LAST = datetime(2024, 5, 4, 9, tzinfo=timezone.utc)
DAY = (LAST - 12 * HOUR, LAST + HOUR)
# What a notebook asks, by name; hours of a first run are known through a backfill only.
QUESTIONS: dict[str, dict[str, Any]] = {
    "stored": {},
    "as_of": {"as_of": (NOW + HOUR).isoformat(), "allow": ["missing"]},
    "known_at": {"known_at": "1d", "allow": ["missing", "backfilled"], "columns": ["carbon_intensity"]},
}


@dataclass(frozen=True)
class Deployed:
    """A workspace after the bundle's job, and the embedded tables of the same hours."""

    workspace: Workspace
    sim: Simulator
    client: WorkspaceClient
    job: dict[str, Any]
    wheel: str
    embedded: FolderLakehouse


def _stored(workspace: Workspace, table: Table) -> pa.Table:
    path = workspace.warehouse / f"{table.layer}.db" / table.name
    return conform(DeltaTable(str(path)).to_pyarrow_table(), table)


def _wheel(folder: Path, artifact: dict[str, Any]) -> Path:
    """What the build command of a bundle's artifact makes, of a copy of the sources."""
    source = folder / "source"
    shutil.copytree(ROOT / "emaps_dagster", source / "emaps_dagster", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "task", source / "task", ignore=shutil.ignore_patterns("build", "dist", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    uv = image.uv()
    assert uv is not None
    _, *build = artifact["build"].split()
    # The build backend is among our own packages: nothing has to be fetched.
    command = [uv, *build, "--no-build-isolation", "--out-dir", str(folder), "--quiet"]
    subprocess.run(
        command,
        cwd=source / artifact["path"],
        check=True,
        env={"PATH": f"{Path(uv).parent}:/usr/bin:/bin", "HOME": str(folder)},
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _resolved(text: str, values: dict[str, str]) -> Any:
    """The job as the CLI deploys it and as Databricks starts it: every variable and reference has its value."""
    for name, value in values.items():
        text = text.replace("${var." + name + "}", value).replace("{{" + name + "}}", value)
    return json.loads(text)


def _values(sim: Simulator, now: datetime) -> dict[str, str]:
    """The value of each variable and reference of a job that starts at this moment."""
    values = {name: str(variable.get("default", "")) for name, variable in BUNDLE["variables"].items()}
    values |= {"catalog": "spark_catalog", "api_url": sim.url, "node_type": "m5d.large"}
    values |= {"power_signal": "electricity-mix"}
    values |= {f"job.parameters.{one['name']}": one["default"] for one in JOB["parameters"]}
    return {**values, "job.start_time.iso_datetime": now.isoformat()}


def _run(client: WorkspaceClient, workspace: Workspace, job: dict[str, Any]) -> Run:
    """The finished run of a job that is made for it."""
    created = client.api_client.do("POST", "/api/2.2/jobs/create", body=job)
    assert isinstance(created, dict)
    client.api_client.do("POST", "/api/2.2/jobs/run-now", body={"job_id": created["job_id"]})
    finished = workspace.runs[-1]
    while finished.over is None:
        time.sleep(0.2)
    return finished


def _logs(done: Run) -> dict[str, str]:
    return {task.key: task.log() + task.log("stdout") + task.log("exit_code") for task in done.tasks}


def _deployed(workspace: Workspace, wheel: Path) -> WorkspaceClient:
    """A client of a workspace that has the wheel."""
    client = WorkspaceClient(host=workspace.host, token=workspace.token)
    client.files.create_directory(f"{workspace.volume}/dist")
    client.files.upload(f"{workspace.volume}/dist/{wheel.name}", io.BytesIO(wheel.read_bytes()))
    return client


def _embedded(lakehouse: FolderLakehouse, sim: Simulator, hour: datetime, now: datetime) -> None:
    settings = Settings(api_url=sim.url, api_token=TOKEN, power_signal="electricity-mix", fixed_now=now, _env_file=None)  # type: ignore[arg-type]
    for layer in LAYERS:
        run(layer, Task(lakehouse, settings, Window(hour, hour + HOUR), lambda: now))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("bundle")
    built = _wheel(folder, BUNDLE["artifacts"]["wheel"])
    with (
        Simulator(token=TOKEN, zones=("GR",), now=NOW, version="v4") as sim,
        Workspace(folder / "workspace", secrets={("emaps", "api-token"): TOKEN}) as workspace,
        embedded_session() as session,
    ):
        client = _deployed(workspace, built)
        wheel = f"{workspace.volume}/dist/{built.name}"
        job = _resolved(json.dumps(JOB).replace("./dist/*.whl", wheel), _values(sim, NOW))
        # The simulated provider lives at that moment.
        job["job_clusters"][0]["new_cluster"]["spark_env_vars"] = {"EMAPS_FIXED_NOW": NOW.isoformat()}
        lakehouse = FolderLakehouse(session, folder / "embedded")
        _embedded(lakehouse, sim, LAST, NOW)
        yield Deployed(workspace, sim, client, job, wheel, lakehouse)


def _assert_equal(workspace: Workspace, embedded: FolderLakehouse, *, but: Sequence[str] = ()) -> None:
    """All columns are equal, but for these."""
    sources = {row["source_power"] for row in embedded.scan(ENERGY_DATA).select("source_power").collect()}
    assert sources == {"electricitymaps/v4/electricity-mix"}
    for table in (ENERGY_DATA, GOLD):
        order = [(name, "ascending") for name in table.key]
        here = conform(embedded.scan(table).toArrow(), table).sort_by(order)
        there = _stored(workspace, table).sort_by(order)
        assert there.num_rows == here.num_rows
        assert there.column_names == here.column_names
        differ = [name for name in here.column_names if not there[name].equals(here[name])]
        assert differ == [name for name in here.column_names if name in but]


def test_the_bundle_makes_the_tables_of_the_embedded_engine(deployed: Deployed) -> None:
    done = _run(deployed.client, deployed.workspace, deployed.job)
    logs = _logs(done)
    assert {task.key: task.result for task in done.tasks} == dict.fromkeys(LAYERS, "SUCCESS"), "\n".join(logs.values())
    assert "check gold.ml_features gold_equals_silver: passed" in logs["gold"]
    _assert_equal(deployed.workspace, deployed.embedded)


@pytest.mark.long("a launched run is compared in test_databricks_end_to_end.py")
def test_a_launched_run_goes_on_where_the_job_ended(deployed: Deployed) -> None:
    now = NOW + HOUR
    deployed.sim.set_now(now)
    settings = {
        "EMAPS_DEPLOYMENT": "databricks",
        "EMAPS_DATABRICKS_HOST": deployed.workspace.host,
        "EMAPS_DATABRICKS_TOKEN": deployed.workspace.token,
        "EMAPS_DATABRICKS_CLUSTER_ID": deployed.workspace.cluster_id,
        "EMAPS_DATABRICKS_POLL_SECONDS": "0.2",
        "EMAPS_CATALOG": "spark_catalog",
        "EMAPS_API_URL": deployed.sim.url,
        "EMAPS_POWER_SIGNAL": "electricity-mix",
        "EMAPS_FIXED_NOW": now.isoformat(),
        "EMAPS_START": "2024-05-03",
    }
    before = len(deployed.workspace.runs)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_job(settings, "hourly", instance, tags={"dagster/partition": "2024-05-04-10:00"})
        evaluations = checks_shown(result)
    assert evaluations
    assert [check for check, (passed, *_) in evaluations.items() if not passed] == []
    assert len(deployed.workspace.runs) - before == 1
    _embedded(deployed.embedded, deployed.sim, LAST + HOUR, now)
    _assert_equal(deployed.workspace, deployed.embedded)


@pytest.mark.long("a notebook's frames are compared on the JVM in test_session_frames.py")
def test_a_notebook_of_the_workspace_reads_what_load_reads(deployed: Deployed) -> None:
    start, end = (moment.isoformat() for moment in DAY)
    lines = ["import sys", "import pyarrow.parquet", "from emaps_dagster import features"]
    lines.append('spark.conf.set("spark.sql.session.timeZone", "UTC")')
    for name, question in QUESTIONS.items():
        lines.append(
            f'frame = features.frame(spark, "spark_catalog", "GR", {start!r}, {end!r}, **{question!r})\n'
            f'pyarrow.parquet.write_table(frame.toArrow(), f"{{sys.argv[1]}}/{name}.parquet")'
        )
    volume = deployed.workspace.volume
    deployed.client.files.upload(f"{volume}/read.py", io.BytesIO("\n".join(lines).encode()))
    task = {
        "task_key": "read",
        "existing_cluster_id": deployed.workspace.cluster_id,
        "spark_python_task": {"python_file": f"{volume}/read.py", "parameters": [volume]},
        "libraries": [{"whl": deployed.wheel}],
    }
    done = _run(deployed.client, deployed.workspace, {"name": "notebook", "tasks": [task]})
    assert [one.result for one in done.tasks] == ["SUCCESS"], _logs(done)["read"]
    for name, question in QUESTIONS.items():
        content = deployed.client.files.download(f"{volume}/{name}.parquet").contents
        assert content is not None
        there = pq.read_table(io.BytesIO(content.read())).sort_by([("zone", "ascending"), ("datetime", "ascending")])
        here = features.load_arrow("GR", *DAY, warehouse=deployed.embedded.warehouse, **question)
        assert there.num_rows == here.num_rows == 13
        assert there.select(here.column_names).cast(here.schema).equals(here)


def test_the_token_is_in_nothing_that_the_workspace_received(deployed: Deployed) -> None:
    assert len(deployed.workspace.runs) == (3 if LONG else 1)
    assert [place for place, content in deployed.workspace.received() if TOKEN.encode() in content] == []


def test_a_secret_that_is_not_there_is_named_before_spark_is_asked_for(deployed: Deployed, tmp_path: Path) -> None:
    job = json.loads(json.dumps(deployed.job))
    bronze = job["tasks"][0]["python_wheel_task"]["parameters"]
    bronze[bronze.index("--secret-key=api-token")] = "--secret-key=another"
    secrets = {("emaps", "api-token"): TOKEN}
    with Workspace(tmp_path / "another", secrets=secrets, spark=False) as workspace:
        (wheel,) = deployed.workspace.folder.parent.glob("*.whl")
        failed = _run(_deployed(workspace, wheel), workspace, job)
        assert [task.result for task in failed.tasks] == ["FAILED", "UPSTREAM_FAILED", "UPSTREAM_FAILED"]
        told = failed.tasks[0].log()
        assert "emaps-task bronze: the secret 'another' of scope 'emaps' cannot be read: " in told
        assert "Traceback" not in told
        assert [place for place, content in workspace.received() if TOKEN.encode() in content] == []


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_the_wheel_of_serverless_tasks_runs_where_neither_dagster_nor_pyspark_is(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, TARGETS["serverless"]["artifacts"]["task"])
    text = json.dumps(SERVERLESS).replace("./task/dist/*.whl", f"{Workspace.volume}/dist/{wheel.name}")
    # A zone that is none: the wheel is installed, its command is found, and the settings are read.
    values = {**dict.fromkeys(BUNDLE["variables"], "x"), "zones": "gr", "catalog": "main"}
    values |= {"api_url": "https://api.electricitymaps.com/v4", "power_signal": "electricity-mix"}
    values |= {"secret_scope": "emaps", "secret_key": "api-token"}
    with Workspace(tmp_path / "workspace", secrets={("emaps", "api-token"): TOKEN}, spark=False) as workspace:
        failed = _run(_deployed(workspace, wheel), workspace, _resolved(text, values))
        assert [task.result for task in failed.tasks] == ["FAILED", "UPSTREAM_FAILED", "UPSTREAM_FAILED"]
        told = failed.tasks[0].log()
        assert "emaps-task bronze: EMAPS_ZONES is 'gr': 'gr' is no zone key;" in told
        assert "Traceback" not in told
        assert TOKEN not in told


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
@pytest.mark.long("serverless compute is off by default")
def test_the_target_of_databricks_serverless_makes_the_tables_of_the_embedded_engine(
    workspace_with_serverless: Workspace, tmp_path: Path
) -> None:
    workspace = workspace_with_serverless
    built = _wheel(tmp_path, TARGETS["serverless"]["artifacts"]["task"])
    # No variable of a cluster's reaches a task of serverless compute, so its present is the machine's.
    now = utc_now()
    hour = floor_hour(now) - HOUR
    with connect_to(workspace.start_serverless()) as session:
        drop_tables(session)
    with Simulator(token=TOKEN, zones=("GR",), now=now, version="v4") as sim, embedded_session() as session:
        client = _deployed(workspace, built)
        text = json.dumps(SERVERLESS).replace("./task/dist/*.whl", f"{workspace.volume}/dist/{built.name}")
        done = _run(client, workspace, _resolved(text, _values(sim, now)))
        logs = _logs(done)
        results = {task.key: task.result for task in done.tasks}
        assert results == dict.fromkeys(LAYERS, "SUCCESS"), "\n".join(logs.values())
        assert done.body["performance_target"] == "STANDARD"
        assert "check gold.ml_features gold_equals_silver: passed" in logs["gold"]
        embedded = FolderLakehouse(session, tmp_path / "embedded")
        _embedded(embedded, sim, hour, now)
        # The moments of the two fetches.
        _assert_equal(workspace, embedded, but=("ingested_at_power", "ingested_at_carbon"))
    assert [place for place, content in workspace.received() if TOKEN.encode() in content] == []
    client.files.delete(f"{workspace.volume}/dist/{built.name}")
    with connect_to(workspace.start_serverless()) as session:
        drop_tables(session)
