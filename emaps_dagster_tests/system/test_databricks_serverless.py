"""Dagster's runs on serverless compute of an emulated workspace, beside the embedded deployment on the same provider.

Tasks run on Python 3.12 with Databricks Connect and without pyspark, against a Spark Connect server that has Delta.
EMAPS_TEST_SERVERLESS=1 adds a third tick, a rebuild, maintenance and the master invariant's story, and to
test_databricks_bundle.py the native job.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from databricks.sdk import WorkspaceClient
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.launched_jobs import checks_shown, hours_shown, run_job
from emaps_dagster_tests.support.pipeline_harness import World
from emaps_dagster_tests.support.secret_scanner import forms_in, opened, traces
from emaps_dagster_tests.support.serverless import TOKEN, WHY_NOT, ConnectFolders, connect_to, drop_tables
from emaps_dagster_tests.system.test_master_invariant import story
from harness.dagster_runs import quick_instance
from harness.databricks_emulator.workspace import Workspace

LONG = bool(os.environ.get("EMAPS_TEST_SERVERLESS"))
pytestmark = [pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)), pytest.mark.timeout(1800)]

NOW = datetime(2026, 11, 24, 21, 7, tzinfo=timezone.utc)
TABLES = (POWER_DATA, CARBON_DATA, ENERGY_DATA, ml_features(("GR",)))
RANGE = {
    "dagster/asset_partition_range_start": "2026-11-22-00:00",
    "dagster/asset_partition_range_end": "2026-11-23-23:00",
}
OF_48_HOURS = "the range"


@dataclass
class Deployment:
    """A deployment's instance, settings and results, by the name of what was done."""

    settings: dict[str, str]
    instance: dg.DagsterInstance
    results: dict[str, dg.ExecuteJobResult] = field(default_factory=dict)

    def run(self, name: str, job: str, now: datetime, fetch: str = "cluster", **options: Any) -> None:
        settings = {**self.settings, "EMAPS_FIXED_NOW": now.isoformat(), "EMAPS_DATABRICKS_FETCH": fetch}
        settings |= {"EMAPS_API_TOKEN": TOKEN} if fetch == "host" else {}
        self.results[name] = run_job(settings, job, self.instance, **options)


@dataclass(frozen=True)
class Done:
    workspace: Workspace
    serverless: Deployment
    embedded: Deployment
    warehouse: Path


@pytest.fixture(scope="module")
def done(workspace_with_serverless: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    workspace, folder = workspace_with_serverless, tmp_path_factory.mktemp("embedded")
    with Simulator(token=TOKEN, zones=("GR",), now=NOW) as sim, quick_instance() as one, quick_instance() as other:
        both = {"EMAPS_ZONES": "GR", "EMAPS_START": "2026-11-01", "EMAPS_API_URL": sim.url}
        serverless = Deployment(
            {
                **both,
                "EMAPS_DEPLOYMENT": "databricks",
                "EMAPS_DATABRICKS_HOST": workspace.host,
                "EMAPS_DATABRICKS_TOKEN": workspace.token,
                "EMAPS_DATABRICKS_COMPUTE": "serverless",
                "EMAPS_DATABRICKS_PERFORMANCE_TARGET": "STANDARD",
                "EMAPS_DATABRICKS_STAGING": workspace.volume,
                "EMAPS_DATABRICKS_POLL_SECONDS": "0.5",
            },
            one,
        )
        embedded = Deployment({**both, "EMAPS_API_TOKEN": TOKEN, "EMAPS_WAREHOUSE": str(folder / "warehouse")}, other)
        for deployment in (serverless, embedded):
            for number in range(3 if LONG else 2):
                now = NOW + number * HOUR
                sim.set_now(now)
                tags = {"dagster/partition": f"{now - HOUR:%Y-%m-%d-%H:00}"}
                # The second fetches on this machine: its runs get no token.
                deployment.run(f"tick {number}", "hourly", now, fetch="host" if number == 1 else "cluster", tags=tags)
            deployment.run(OF_48_HOURS, "hourly", now, tags=RANGE)
        yield Done(workspace, serverless, embedded, folder / "warehouse")
    with connect_to(workspace.start_serverless()) as session:
        drop_tables(session)


def _rows(path: Path, table: Table) -> pa.Table:
    stored = DeltaTable(str(path)).to_pyarrow_table()
    names = [*table.key, "window_start"] if table.layer == "bronze" else table.key
    order = [(name, "ascending") for name in dict.fromkeys(names) if name in stored.column_names]
    return conform(stored, table).sort_by(order)


def _assert_equal_tables(done: Done, tables: tuple[Table, ...] = TABLES) -> None:
    for table in tables:
        there = _rows(done.workspace.warehouse / f"{table.layer}.db" / table.name, table)
        here = _rows(done.warehouse / table.layer / table.name, table)
        assert there.num_rows >= 4
        assert there.equals(here), table.qualified_name


def test_ticks_and_a_range_leave_the_tables_of_the_embedded_deployment_bit_for_bit(done: Done) -> None:
    _assert_equal_tables(done)
    gold = done.workspace.warehouse / "gold.db" / "ml_features"
    # From the first hour of the range to that of the last tick.
    assert DeltaTable(str(gold)).to_pyarrow_table().num_rows == 70 + LONG


def test_dagster_shows_the_same_of_hours_and_checks(done: Done) -> None:
    for name, there in done.serverless.results.items():
        here = done.embedded.results[name]
        assert hours_shown(there) == hours_shown(here)
        assert checks_shown(there) == checks_shown(here)
    assert len(hours_shown(done.serverless.results[OF_48_HOURS])) == 4 * 48
    assert all(said[0] for said in checks_shown(done.serverless.results["tick 0"]).values())


def test_each_dagster_run_is_one_run_of_an_environment_without_pyspark(done: Done) -> None:
    runs = [run for run in done.workspace.runs if run.body["run_name"] == "emaps_dagster"]
    assert len(runs) >= len(done.serverless.results)
    for run in runs:
        (task,) = run.body["tasks"]
        assert task["disable_auto_optimization"] is True
        assert task["spark_python_task"]["python_file"].startswith("/Volumes/main/emaps/staging/")
        assert not {"existing_cluster_id", "new_cluster", "libraries"} & task.keys()
        (environment,) = run.body["environments"]
        assert environment["spec"]["environment_version"] == "4"
        names = {line.partition("==")[0] for line in environment["spec"]["dependencies"]}
        assert not names & {"pyspark", "delta-spark", "dagster-pyspark", "dagster-databricks", "databricks-sdk"}
        assert run.body["performance_target"] == "STANDARD"
    assert done.workspace.staged() == []
    assert done.workspace.count("POST", "/api/2.0/dbfs/") == 0


def test_a_run_whose_bronze_is_fetched_on_this_machine_gets_no_token(done: Done) -> None:
    asked = [run.log("stdout").count("Exporting EMAPS_API_TOKEN") for run in done.workspace.runs]
    # Two ticks at least; the simulator answers nobody without a token.
    assert asked[:2] == [1, 0]


def test_the_token_is_in_nothing_that_was_sent_or_kept(done: Done) -> None:
    received = [part for _, content in done.workspace.received() for part in opened(content)]
    assert [form for part in received for form in forms_in(part, TOKEN)] == []
    assert traces(done.workspace.folder / "runs", TOKEN) == []
    assert traces(done.workspace.warehouse, TOKEN) == []


# --- what is refused ------------------------------------------------------------------------------

REFUSED = {
    "setting": 'spark.conf.set("spark.databricks.delta.write.txnAppId", "emaps")',
    "unset": 'spark.conf.unset("spark.sql.adaptive.enabled")',
    "SET": 'spark.sql("SET spark.sql.adaptive.enabled = true")',
    "cache": "spark.range(3).cache()",
    "persist": "spark.range(3).persist()",
    "CACHE TABLE": 'spark.sql("CACHE TABLE nothing")',
    "global view": 'spark.range(3).createOrReplaceGlobalTempView("three")',
    "sparkContext": "spark.sparkContext",
    "newSession": "spark.newSession()",
    "rdd": "spark.range(3).rdd",
    "JVM": "spark._jvm",
    "sc": "sc",
    "DBFS": 'open("/dbfs/file", "w")',
    "a short vacuum": 'spark.sql("CREATE TABLE small USING delta AS SELECT 1 AS a"); '
    'spark.sql("VACUUM small RETAIN 24 HOURS").collect()',
    "many local rows": "import pyarrow as pa; spark.createDataFrame(pa.table({'a': pa.nulls(17_000_000, pa.int64())}))",
}
PERMITTED = {
    "spark.databricks.execution.timeout": "600",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.files.maxPartitionBytes": "134217728",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "4",
}
SCRIPT = f"""
import json, sys
from pyspark.sql import SparkSession
told = {{}}
for name, code in {REFUSED!r}.items():
    try:
        exec(code)
        told[name] = None
    except BaseException as error:
        told[name] = f"{{type(error).__name__}}: {{error}}"
for name, value in {PERMITTED!r}.items():
    spark.conf.set(name, value)
open(sys.argv[1], "w").write(json.dumps(told))
"""


def test_the_emulator_refuses_what_databricks_refuses(workspace_with_serverless: Workspace) -> None:
    workspace = workspace_with_serverless
    client = WorkspaceClient(host=workspace.host, token=workspace.token)
    folder = f"{workspace.volume}/refused"
    client.files.create_directory(folder)
    client.files.upload(f"{folder}/main.py", io.BytesIO(SCRIPT.encode()))
    task = {
        "task_key": "refused",
        "environment_key": "e",
        "disable_auto_optimization": True,
        "spark_python_task": {"python_file": f"{folder}/main.py", "parameters": [f"{folder}/told.json"]},
    }
    environments = [{"environment_key": "e", "spec": {"environment_version": "4"}}]
    client.api_client.do(
        "POST",
        "/api/2.2/jobs/runs/submit",
        body={"run_name": "refused", "tasks": [task], "environments": environments},
    )
    run = workspace.runs[-1]
    while run.over is None:
        time.sleep(0.2)
    assert run.state()["result_state"] == "SUCCESS", run.log()
    contents = client.files.download(f"{folder}/told.json").contents
    assert contents is not None
    told = json.loads(contents.read())
    for name in ("main.py", "told.json"):
        client.files.delete(f"{folder}/{name}")
    assert [name for name, error in told.items() if error is None] == []
    for name in ("setting", "unset", "SET"):
        assert "[CONFIG_NOT_AVAILABLE]" in told[name]
    for name in ("cache", "persist", "CACHE TABLE"):
        assert "PERSIST TABLE is not supported on serverless compute" in told[name]
    assert "GLOBAL TEMPORARY VIEW is not supported on serverless compute" in told["global view"]
    for name in ("sparkContext", "newSession", "JVM"):
        assert "JVM_ATTRIBUTE_NOT_SUPPORTED" in told[name]
    assert "rdd is not implemented" in told["rdd"]
    assert told["sc"].startswith("NameError")
    assert told["DBFS"].startswith("FileNotFoundError")
    assert "vacuum files with such a low retention period" in told["a short vacuum"]
    assert "LOCAL_RELATION_SIZE_LIMIT_EXCEEDED" in told["many local rows"]


# --- the long run ---------------------------------------------------------------------------------

AT_LENGTH = pytest.mark.skipif(not LONG, reason="the long run: EMAPS_TEST_SERVERLESS=1")


@AT_LENGTH
def test_a_rebuild_heals_both_alike_and_maintenance_changes_no_row(done: Done) -> None:
    gold = TABLES[-1]
    spoilt = "datetime = '2026-11-23T05:00:00Z'"
    with connect_to(done.workspace.start_serverless()) as session:
        session.sql(f"DELETE FROM gold.{gold.name} WHERE {spoilt}").collect()
    DeltaTable(str(done.warehouse / "gold" / gold.name)).delete("datetime = '2026-11-23T05:00:00+00:00'")
    now = NOW + 2 * HOUR
    hours = {"start": "2026-11-22", "end": "2026-11-24"}
    for deployment in (done.serverless, done.embedded):
        deployment.run("rebuild", "rebuild", now, run_config=hours)
        deployment.run("maintenance", "maintenance", now)
    _assert_equal_tables(done)


@AT_LENGTH
def test_the_story_of_the_master_invariant_holds(workspace_with_serverless: Workspace, tmp_path: Path) -> None:
    workspace = workspace_with_serverless
    with connect_to(workspace.start_serverless()) as session:
        drop_tables(session)

        def opened_by(spark: SparkSession, folder: Path) -> ConnectFolders:
            return ConnectFolders(spark, folder, workspace.warehouse)

        world = World(session, tmp_path / "warehouse", opened_by)
        for step in story(world):
            world.check()
            assert world.versions()["ml_features"], step
        drop_tables(session)
