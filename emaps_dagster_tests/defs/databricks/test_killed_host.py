"""The process of a Dagster run is killed while its Databricks run goes on: what a person sees, and what ends the rest.

A real code server starts the run, as `dagster dev` has it; the pipeline has empty bodies (support/tiny_tick.py). With
real tables: system/test_databricks_faults.py.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
import yaml
from databricks.sdk import WorkspaceClient

from emaps_dagster.cli import orphaned_runs
from emaps_dagster_tests.support.command_line import ROOT
from emaps_dagster_tests.support.tiny_tick import tiny_job, tiny_settings, write
from harness.databricks_emulator.faults import CallFault
from harness.databricks_emulator.workspace import LACKING, Workspace
from harness.loaded_jobs import settings_alone

pytestmark = [
    pytest.mark.skipif(LACKING is not None, reason=str(LACKING)),
    pytest.mark.filterwarnings("ignore::dagster.SupersessionWarning"),
]

HOUR = '{"dagster/partition": "2024-05-04-01:00", "tiny": "silver.energy hangs"}'
INSTANCE = """
telemetry: {enabled: false}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""


def _wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 180
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


@contextmanager
def _code_server(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    socket = folder / "s"
    location = {"grpc_server": {"socket": str(socket), "location_name": "tiny"}}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [location]}))
    command = ["api", "grpc", "--socket", str(socket), "--module-name", "tiny_tick", "--attribute", "in_process"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "dagster", *command], env=environment, cwd=folder, stdout=log, stderr=log
        )
    try:
        _wait_for(lambda: socket.exists() or server.poll() is not None)
        assert server.poll() is None, (folder / "server.log").read_text()
        yield server
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            # It may wait for the threads of the killed run for ever.
            server.kill()
            server.wait(20)


def _run_workers(server: subprocess.Popen[bytes]) -> list[int]:
    """The processes in which the code server executes runs."""
    children = [
        int(pid) for task in Path(f"/proc/{server.pid}/task").glob("*/children") for pid in task.read_text().split()
    ]
    return [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_run_whose_process_was_killed_is_failed_and_its_databricks_run_is_ended_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="tt_") as short:
        project, home = write(Path(short) / "project"), Path(short) / "home"
        home.mkdir()
        (home / "dagster.yaml").write_text(INSTANCE)
        secrets = {("emaps", "api-token"): "the-api-s3cret"}
        with (
            Workspace(tmp_path / "workspace", secrets=secrets, spark=False, hidden=[project]) as workspace,
            dg.DagsterInstance.from_config(str(home)) as instance,
        ):
            settings = tiny_settings(project, workspace)
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("EMAPS_")},
                **settings,
                "DAGSTER_HOME": str(home),
                "PYTHONPATH": f"{ROOT}:{project}",
            }
            with _code_server(Path(short), environment) as server:
                launch = ["job", "launch", "-w", f"{short}/workspace.yaml", "-j", "tick", "--tags", HOUR]
                done = subprocess.run(
                    [sys.executable, "-m", "dagster", *launch],
                    env=environment,
                    cwd=short,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, done.stdout + done.stderr
                (run,) = instance.get_runs()
                # Both bronze steps are replayed, silver hangs on the cluster.
                _wait_for(lambda: "silver__energy" in _steps_started(instance, run.run_id))
                (worker,) = _run_workers(server)
                os.kill(worker, signal.SIGKILL)
                _wait_for(lambda: _status(instance, run.run_id) == "FAILURE")
            told = [event.message or "" for entry in instance.all_logs(run.run_id) if (event := entry.dagster_event)]
            killed = f"Run execution process for {run.run_id} was terminated by signal 9 (SIGKILL)."
            assert any(killed in text for text in told), "\n".join(told[-6:])
            (left,) = workspace.runs
            assert any(f"Databricks run {left.run_id} was submitted" in text and left.page in text for text in told)
            assert left.over is None
            assert workspace.staged() != []

            # Of another instance that launches in this workspace.
            files = WorkspaceClient(host=workspace.host, token=workspace.token).dbfs
            files.upload("/dagster_staging/another-run/gold_0/steps.pkl", io.BytesIO(b"another"))
            monkeypatch.setenv("DAGSTER_HOME", str(home))
            folder = f"/dagster_staging/{run.run_id}"
            with settings_alone(settings):
                workspace.inject(CallFault("/api/2.0/dbfs/list", 403))
                assert orphaned_runs.main(["--only-databricks"]) == 0
                assert capsys.readouterr().out.startswith(
                    "Databricks runs that were left could not be ended, repeat this command later: An internal error"
                )
                assert orphaned_runs.main(["--only-databricks"]) == 0
                assert capsys.readouterr().out == (
                    f"Run {run.run_id} had left files in {folder}: they are removed. Databricks run {left.run_id} is "
                    f"cancelled: {left.page}.\n"
                )
                assert orphaned_runs.main(["--only-databricks"]) == 0
                assert capsys.readouterr().out == ""
            assert left.state()["result_state"] == "CANCELED"
            assert workspace.staged() == ["dbfs/dagster_staging/another-run/gold_0/steps.pkl"]

            # As a person or Dagster's run retries do it; what has succeeded is not executed again.
            with (
                tiny_job(project, workspace) as job,
                dg.execute_job(
                    job,
                    instance,
                    reexecution_options=dg.ReexecutionOptions.from_failure(run.run_id, instance),
                    tags={"dagster/partition": "2024-05-04-01:00"},
                ) as again,
            ):
                assert again.success
                assert [event.step_key for event in again.all_events if event.event_type_value == "STEP_START"] == [
                    "silver__energy",
                    "check_silver_energy",
                    "gold__features",
                    "check_gold_features",
                ]


def _steps_started(instance: dg.DagsterInstance, run_id: str) -> set[str | None]:
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START)
    return {entry.step_key for entry in events}


def _status(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status.value
