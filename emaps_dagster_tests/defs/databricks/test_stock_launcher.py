"""dagster-databricks' own step launcher against the emulator: what it needs from a workspace is really there.

Tiny assets without Spark; ours, and our launcher, are in test_databricks.py.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableRepository
from databricks.sdk.core import DatabricksError

from emaps_dagster.defs.resources.databricks.submission import libraries
from harness.databricks_emulator.faults import CallFault, RunFault
from harness.databricks_emulator.workspace import LACKING, Workspace

pytestmark = [
    pytest.mark.long("the emulator is used by our own launcher in test_one_run.py"),
    pytest.mark.skipif(LACKING is not None, reason=str(LACKING)),
    pytest.mark.filterwarnings("ignore::dagster.SupersessionWarning"),
]

DEFINITIONS = """
    import json
    import os
    import dagster as dg
    from dagster._core.definitions.no_step_launcher import no_step_launcher
    from dagster_databricks import databricks_pyspark_step_launcher
    from tiny.where import where

    hours = dg.HourlyPartitionsDefinition("2024-05-01-00:00")

    @dg.asset(partitions_def=hours, backfill_policy=dg.BackfillPolicy.single_run())
    def number(context: dg.AssetExecutionContext, step_launcher: dg.ResourceParam[object]) -> None:
        for key in context.partition_keys:
            context.add_asset_metadata({"pid": os.getpid(), "where": where()}, partition_key=key)
        print("printed on the cluster", os.environ["OF_THE_SECRET"][:3], os.environ["PLAIN"])

    @dg.asset
    def failing(step_launcher: dg.ResourceParam[object]) -> None:
        raise ValueError("what went wrong on the cluster")

    @dg.asset
    def slow(step_launcher: dg.ResourceParam[object]) -> None:
        import time
        time.sleep(300)

    def launcher():
        if "DATABRICKS_RUNTIME_VERSION" in os.environ:
            return no_step_launcher
        return databricks_pyspark_step_launcher.configured({
            "run_config": {
                "run_name": "tiny",
                "cluster": {"existing": os.environ["TINY_CLUSTER"]},
                "libraries": json.loads(os.environ["TINY_LIBRARIES"]),
                "install_default_libraries": False,
            },
            "databricks_host": os.environ["TINY_HOST"],
            "databricks_token": os.environ["TINY_TOKEN"],
            "local_dagster_job_package_path": os.environ["TINY_PACKAGE"],
            "secrets_to_env_variables": [{"name": "OF_THE_SECRET", "scope": "tiny", "key": "key"}],
            "env_variables": {"PLAIN": "as it is"},
            "permissions": {"job_permissions": {"CAN_VIEW": [{"group_name": "analysts"}]}},
            "poll_interval_sec": 0.2,
            "verbose_logs": False,
        })

    defs = dg.Definitions(
        assets=[number, failing, slow],
        jobs=[dg.define_asset_job(name, [name]) for name in ("number", "failing", "slow")],
        executor=dg.in_process_executor,
        resources={"step_launcher": launcher()},
    )
"""


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """A project outside pytest's folders: the launcher's archive leaves out every file below a path with "pytest"."""
    with tempfile.TemporaryDirectory(prefix="tiny_project_") as folder:
        package = Path(folder) / "tiny"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "definitions.py").write_text(textwrap.dedent(DEFINITIONS))
        (package / "where.py").write_text("def where() -> str:\n    return __file__\n")
        yield Path(folder)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("stock") / "workspace"
    with Workspace(folder, secrets={("tiny", "key"): "s3cr3t"}, spark=False, hidden=[project]) as made:
        yield made


class Run:
    """A job of the tiny project in this process, and what it left."""

    def __init__(self, project: Path, job: str, tags: dict[str, str] | None = None) -> None:
        pointer = ModuleCodePointer("tiny.definitions", "defs", working_directory=str(project))
        with dg.DagsterInstance.ephemeral() as instance:
            job_def = ReconstructableRepository(pointer).get_reconstructable_job(job)
            with dg.execute_job(job_def, instance=instance, tags=tags, raise_on_error=False) as result:
                self.success, self.events = result.success, result.all_events
            self.records = instance.all_logs(result.run_id)

    @property
    def text(self) -> str:
        return "\n".join(record.user_message + str(record.error_info or "") for record in self.records)

    def failure(self) -> str:
        events = [event for event in self.events if event.event_type_value == "STEP_FAILURE"]
        return "\n".join(event.step_failure_data.error.to_string() for event in events if event.step_failure_data.error)


@pytest.fixture(autouse=True)
def _tiny(workspace: Workspace, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    told = {"CLUSTER": workspace.cluster_id, "HOST": workspace.host, "TOKEN": workspace.token, "PACKAGE": str(project)}
    # Those of our launcher: one environment for both serves the tests.
    told["LIBRARIES"] = json.dumps(libraries())
    for name, value in told.items():
        monkeypatch.setenv(f"TINY_{name}", value)
    monkeypatch.syspath_prepend(str(project))
    yield
    workspace.clear_faults()


def test_a_range_of_partitions_is_materialized_on_the_cluster(workspace: Workspace, project: Path) -> None:
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    run = Run(project, "number", dict(zip(names, ("2024-05-01-00:00", "2024-05-01-02:00"), strict=True)))
    assert run.success, workspace.runs[-1].log()
    made = [event.step_materialization_data.materialization for event in run.events if event.is_step_materialization]
    assert [one.partition for one in made] == [f"2024-05-01-0{hour}:00" for hour in range(3)]
    assert all(one.metadata["pid"].value != os.getpid() for one in made)
    # The code came by the archive, not from a folder of the host.
    assert all(str(one.metadata["where"].value).startswith(str(workspace.folder / "tmp")) for one in made)
    assert "printed on the cluster s3c as it is" in run.text
    calls = {
        call: workspace.count(*call)
        for call in [
            ("POST", "/api/2.0/dbfs/create"),
            ("POST", "/api/2.0/dbfs/close"),
            ("POST", "/api/2.2/jobs/runs/submit"),
            ("POST", "/api/2.2/jobs/runs/cancel"),
            ("PATCH", "/api/2.0/permissions/jobs/"),
        ]
    }
    assert list(calls.values()) == [4, 4, 1, 0, 1]
    assert "CAN_VIEW" in str(workspace.permissions)
    staged = {Path(path).name for path in workspace.staged()}
    assert {"code.zip", "config.pkl", "step_run_ref.pkl", "databricks_step_main.py", "0_events.pkl"} <= staged


def test_an_error_of_the_code_comes_back_with_its_words(project: Path) -> None:
    run = Run(project, "failing")
    assert not run.success
    assert "ValueError: what went wrong on the cluster" in run.failure()


def test_a_cluster_that_does_not_start_fails_the_step(workspace: Workspace, project: Path) -> None:
    workspace.inject(RunFault("cluster_start_failure"))
    run = Run(project, "number", {"dagster/partition": "2024-05-01-00:00"})
    assert not run.success
    assert "AWS_INSUFFICIENT_INSTANCE_CAPACITY_FAILURE" in run.text
    assert not [event for event in run.events if event.is_step_materialization]


def test_an_api_that_breaks_while_uploading_fails_the_step(workspace: Workspace, project: Path) -> None:
    submitted = workspace.count("POST", "/api/2.2/jobs/runs/submit")
    workspace.inject(CallFault("/api/2.0/dbfs/add-block", 500))
    run = Run(project, "number", {"dagster/partition": "2024-05-01-00:00"})
    assert not run.success
    assert DatabricksError.__name__ in run.failure() or "internal error" in run.failure()
    assert workspace.count("POST", "/api/2.2/jobs/runs/submit") == submitted


def test_an_interrupt_cancels_the_run_on_the_cluster(workspace: Workspace, project: Path) -> None:
    before = len(workspace.runs)

    def interrupt() -> None:
        while len(workspace.runs) == before or workspace.runs[-1].state()["life_cycle_state"] != "RUNNING":
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    run = Run(project, "slow")
    assert not run.success
    assert not [event for event in run.events if event.is_step_materialization]
    end = time.monotonic() + 30
    while workspace.runs[-1].over is None and time.monotonic() < end:
        time.sleep(0.05)
    assert workspace.runs[-1].state()["result_state"] == "CANCELED"
