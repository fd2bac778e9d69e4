"""The emulated workspace, by Databricks' own client: what it answers, what it runs and where, what fails on demand."""

from __future__ import annotations

import io
import os
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config, DatabricksError
from databricks.sdk.errors import InternalError, NotFound, PermissionDenied, ResourceConflict

from harness.databricks_emulator.cluster import isolation
from harness.databricks_emulator.faults import CallFault, RunFault
from harness.databricks_emulator.image import ROOT
from harness.databricks_emulator.workspace import LACKING, Workspace

needs_cluster = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))
SECRETS = {("emaps", "token"): "a secret of the workspace"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Without Spark: a task starts in a tenth of a second."""
    with Workspace(tmp_path_factory.mktemp("emulated") / "workspace", secrets=SECRETS, spark=False) as made:
        yield made


@pytest.fixture
def client(workspace: Workspace) -> Iterator[WorkspaceClient]:
    yield WorkspaceClient(host=workspace.host, token=workspace.token)
    workspace.clear_faults()
    workspace.dbfs_enabled, workspace.delivery_seconds, workspace.terminating_seconds = True, 0.0, 0.0


def task(client: WorkspaceClient, workspace: Workspace, code: str, **fields: Any) -> dict[str, Any]:
    """A task that runs this code on the existing cluster."""
    key = fields.pop("task_key", "only")
    with client.dbfs.open(f"/code/{key}.py", write=True, overwrite=True) as file:
        file.write(code.encode())
    main = {"python_file": f"dbfs:/code/{key}.py", "parameters": fields.pop("parameters", [])}
    return {"task_key": key, "existing_cluster_id": workspace.cluster_id, "spark_python_task": main, **fields}


def submit(client: WorkspaceClient, *tasks: dict[str, Any], **fields: Any) -> int:
    told = client.api_client.do("POST", "/api/2.2/jobs/runs/submit", body={"tasks": list(tasks), **fields})
    assert isinstance(told, dict)
    return int(told["run_id"])


def finished(client: WorkspaceClient, run_id: int, seconds: float = 240.0) -> dict[str, Any]:
    """The run as the API reports it when it has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        told = client.api_client.do("GET", "/api/2.2/jobs/runs/get", query={"run_id": run_id})
        assert isinstance(told, dict)
        if told["state"]["life_cycle_state"] in ("TERMINATED", "INTERNAL_ERROR"):
            return told
        time.sleep(0.02)
    raise TimeoutError(f"run {run_id} has not ended: {told['state']}")


def reach(client: WorkspaceClient, run_id: int, life: str) -> None:
    end = time.monotonic() + 60
    while client.jobs.get_run(run_id).as_dict()["state"]["life_cycle_state"] != life:
        assert time.monotonic() < end, f"run {run_id} never was {life}"
        time.sleep(0.02)


# What the API answers


def test_a_file_of_many_blocks_comes_back_from_dbfs_as_it_was(client: WorkspaceClient) -> None:
    content = os.urandom(2 * 1024**2 + 7)
    client.dbfs.upload("/some/folder/file", io.BytesIO(content))
    assert client.dbfs.download("/some/folder/file").read() == content
    whole = client.dbfs.read("/some/folder/file", offset=2 * 1024**2 + 7, length=10)
    assert (whole.bytes_read, whole.data) == (0, "")
    client.dbfs.delete("/some", recursive=True)
    with pytest.raises(NotFound, match="No file or directory exists on path /some/folder/file"):
        client.dbfs.read("/some/folder/file")


def test_a_file_comes_back_from_the_volume_as_it_was(workspace: Workspace, client: WorkspaceClient) -> None:
    folder = f"{workspace.volume}/a folder/b"
    client.files.create_directory(folder)
    client.files.upload(f"{folder}/file", io.BytesIO(b"content"), overwrite=False)
    with pytest.raises(ResourceConflict, match="already exists"):
        client.files.upload(f"{folder}/file", io.BytesIO(b"other"), overwrite=False)
    contents = client.files.download(f"{folder}/file").contents
    assert contents is not None
    assert contents.read() == b"content"
    assert client.files.get_metadata(f"{folder}/file").content_length == 7
    assert [entry.name for entry in client.files.list_directory_contents(folder)] == ["file"]
    with pytest.raises(DatabricksError, match="not empty"):
        client.files.delete_directory(folder)
    client.files.delete(f"{folder}/file")
    client.files.delete_directory(folder)
    with pytest.raises(NotFound):
        client.files.get_directory_metadata(folder)


@pytest.mark.parametrize(
    ("framing", "body"), [("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")]
)
def test_what_a_client_sends_is_counted_to_the_byte(workspace: Workspace, framing: str, body: bytes) -> None:
    first = f"PUT /api/2.0/fs/files{workspace.volume}/counted HTTP/1.1"
    lines = [first, "Host: here", f"Authorization: Bearer {workspace.token}", framing, "Connection: close", "", ""]
    sent = "\r\n".join(lines).encode() + body
    host, port = workspace.host.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        assert connection.recv(100).startswith(b"HTTP/1.1 204 ")
    assert (workspace.requests[-1].body, workspace.requests[-1].sent) == (b"hello", len(sent))


def test_a_volume_that_was_not_made_and_a_folder_that_was_not_are_not_found(
    workspace: Workspace, client: WorkspaceClient
) -> None:
    with pytest.raises(NotFound, match=r"Volume 'main\.other\.staging' does not exist"):
        client.files.create_directory("/Volumes/main/other/staging/x")
    with pytest.raises(NotFound, match="parent directory"):
        client.files.upload(f"{workspace.volume}/nowhere/file", io.BytesIO(b"content"))


def test_no_client_is_let_in_without_the_token(workspace: Workspace) -> None:
    with pytest.raises(PermissionDenied, match="Invalid access token"):
        WorkspaceClient(host=workspace.host, token="dapi-of-somebody").dbfs.mkdirs("/x")
    answer = requests.get(f"{workspace.host}/api/2.0/dbfs/list?path=/", timeout=10)
    assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")


def test_a_service_principal_is_let_in_by_its_secret(workspace: Workspace) -> None:
    def principal(secret: str) -> WorkspaceClient:
        names = {"client_id": workspace.client_id, "client_secret": secret, "auth_type": "oauth-m2m"}
        return WorkspaceClient(config=Config(host=workspace.host, **names))

    principal(workspace.client_secret).dbfs.mkdirs("/x")
    with pytest.raises(ValueError, match="invalid_client"):
        principal("another secret").dbfs.mkdirs("/x")


def test_dbfs_that_is_disabled_says_so(workspace: Workspace, client: WorkspaceClient) -> None:
    workspace.dbfs_enabled = False
    with pytest.raises(PermissionDenied, match="Public DBFS root is disabled"):
        client.dbfs.create("/x", overwrite=True)
    client.files.create_directory(f"{workspace.volume}/still-there")


def test_a_call_fails_as_often_as_ordered_and_then_works(workspace: Workspace, client: WorkspaceClient) -> None:
    workspace.inject(CallFault("/api/2.0/dbfs/mkdirs", 500, times=2, skip=1))
    client.dbfs.mkdirs("/x")
    for _ in range(2):
        with pytest.raises(InternalError, match="An internal error occurred"):
            client.dbfs.mkdirs("/x")
    client.dbfs.mkdirs("/x")
    workspace.inject(CallFault("/api/2.0/dbfs/mkdirs", 429, retry_after=0))
    before = len(workspace.requests)
    client.dbfs.mkdirs("/x")  # the client itself tries again
    assert [request.status for request in workspace.requests[before:]] == [429, 200]


def test_a_lost_answer_is_a_call_that_was_done(workspace: Workspace, client: WorkspaceClient) -> None:
    workspace.inject(CallFault("/api/2.0/dbfs/mkdirs", 500, lost=True))
    with pytest.raises(DatabricksError, match="internal error"):
        client.dbfs.mkdirs("/done/anyway")
    assert client.dbfs.get_status("/done/anyway").is_dir


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": [{"task_key": "a", "spark_python_task": {"python_file": "x"}}]}, "existing_cluster_id"),
        (
            {"tasks": [{"task_key": "a", "existing_cluster_id": "gone", "spark_python_task": {"python_file": "x"}}]},
            "Cluster gone does not exist",
        ),
        (
            {
                "tasks": [
                    {
                        "task_key": "a",
                        "new_cluster": {"spark_version": "latest", "node_type_id": "n"},
                        "spark_python_task": {"python_file": "x"},
                    }
                ]
            },
            "Invalid spark version",
        ),
    ],
)
def test_a_submission_that_databricks_would_refuse_is_refused(
    client: WorkspaceClient, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatabricksError, match=message):
        client.api_client.do("POST", "/api/2.2/jobs/runs/submit", body=body)


def test_what_was_received_is_kept_even_when_it_was_deleted(workspace: Workspace, client: WorkspaceClient) -> None:
    client.dbfs.upload("/gone", io.BytesIO(b"a planted secret"))
    client.dbfs.delete("/gone")
    assert ("/gone", b"a planted secret") in list(workspace.received())
    assert "dbfs/gone" not in workspace.staged()


# What runs, and where


@needs_cluster
def test_a_task_runs_apart_from_the_host_with_its_parameters_and_secrets(
    workspace: Workspace, client: WorkspaceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EMAPS_API_TOKEN", "DAGSTER_HOME", "DATABRICKS_TOKEN", "PYTHONPATH"):
        monkeypatch.setenv(name, "of the host")
    code = f"""
import importlib.util, os, sys
print(sys.argv)
print(dbutils.secrets.get(scope="emaps", key="token"))
print(sorted(name for name in os.environ if name.startswith(("EMAPS", "DAGSTER", "DATABRICKS", "PYTHONPATH"))))
print(os.environ["DATABRICKS_RUNTIME_VERSION"])
print(importlib.util.find_spec("emaps_dagster"), importlib.util.find_spec("dagster"))
print(os.path.exists({str(ROOT / "pyproject.toml")!r}))
print(open("/dbfs/code/only.py").read()[:7] if {isolation() == "mount namespace"} else "")
print(sys.version_info[:2] == {os.sys.version_info[:2]})
open(sys.argv[1], "w").write("written on the cluster")
try:
    dbutils.secrets.get("emaps", "other")
except Exception as error:
    print(error)
"""
    run_id = submit(client, task(client, workspace, code, parameters=["/dbfs/code/written", "--flag"]))
    told = finished(client, run_id)
    assert told["state"] == {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""}
    assert told["tasks"][0]["cluster_instance"]["cluster_id"] == workspace.cluster_id
    assert told["run_page_url"].endswith(f"/run/{run_id}")
    lines = workspace.runs[-1].log("stdout").splitlines()
    assert lines[1:6] == ["a secret of the workspace", "['DATABRICKS_RUNTIME_VERSION']", "17.3", "None None", lines[5]]
    if isolation() == "mount namespace":
        assert lines[0] == "['/dbfs/code/only.py', '/dbfs/code/written', '--flag']"
        assert lines[5:7] == ["False", "\nimport"[1:]] or lines[5] == "False"
    assert "Secret does not exist with scope: emaps and key: other" in lines[-1]
    assert client.dbfs.download("/code/written").read() == b"written on the cluster"
    # Neither the secret nor anything else of the order is on the disk.
    assert not any(b"a secret of" in p.read_bytes() for p in (workspace.folder / "programs").rglob("*") if p.is_file())


@needs_cluster
def test_a_cluster_that_does_not_start_is_reported_with_its_page(workspace: Workspace, client: WorkspaceClient) -> None:
    run_id = submit(client, task(client, workspace, "raise KeyError('nothing here')"))
    told = finished(client, run_id)
    assert told["state"]["result_state"] == "FAILED"
    assert told["state"]["state_message"].startswith("Task only failed with message: Workload failed, see run output")
    output = client.jobs.get_run_output(told["tasks"][0]["run_id"])
    assert output.error == "KeyError: 'nothing here'"
    assert output.error_trace is not None
    assert "Traceback" in output.error_trace


@needs_cluster
def test_a_cancelled_run_is_killed_with_all_that_it_started(workspace: Workspace, client: WorkspaceClient) -> None:
    code = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "300"])
print(os.getpid(), child.pid, flush=True)
time.sleep(300)
"""
    run_id = submit(client, task(client, workspace, code))
    reach(client, run_id, "RUNNING")
    active = list(client.jobs.list_runs(active_only=True, expand_tasks=True, limit=1))
    assert [(run.run_id, [one.task_key for one in run.tasks or []]) for run in active] == [(run_id, ["only"])]
    while not workspace.runs[-1].log("stdout"):
        time.sleep(0.02)
    client.jobs.cancel_run(run_id)
    state = finished(client, run_id)["state"]
    assert (state["life_cycle_state"], state["result_state"]) == ("TERMINATED", "CANCELED")
    assert state["user_cancelled_or_timedout"]
    assert list(client.jobs.list_runs(active_only=True)) == []
    # All pages, the newest first.
    assert [run.run_id for run in client.jobs.list_runs(limit=1)] == [run.run_id for run in reversed(workspace.runs)]
    for pid in map(int, workspace.runs[-1].log("stdout").split()):
        assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(") ")[1][:1]


@needs_cluster
def test_a_run_ends_at_its_time_limit(workspace: Workspace, client: WorkspaceClient) -> None:
    run_id = submit(client, task(client, workspace, "import time; time.sleep(300)"), timeout_seconds=1)
    state = finished(client, run_id)["state"]
    assert (state["life_cycle_state"], state["result_state"]) == ("TERMINATED", "TIMEDOUT")


@needs_cluster
def test_faults_of_the_cluster_end_the_run_by_an_internal_error_that_names_it(
    workspace: Workspace, client: WorkspaceClient
) -> None:
    workspace.inject(RunFault("cluster_start_failure"))
    workspace.inject(RunFault("driver_killed", seconds=0.2))
    never = task(client, workspace, "import time; time.sleep(300)")
    first, second = (finished(client, submit(client, never))["state"] for _ in range(2))
    assert (first["life_cycle_state"], first["result_state"]) == ("INTERNAL_ERROR", "FAILED")
    assert "AWS_INSUFFICIENT_INSTANCE_CAPACITY_FAILURE" in first["state_message"]
    assert (second["life_cycle_state"], second["result_state"]) == ("INTERNAL_ERROR", "FAILED")
    assert "The spark driver has stopped unexpectedly" in second["state_message"]


@needs_cluster
def test_a_library_that_cannot_be_had_is_named(workspace: Workspace, client: WorkspaceClient) -> None:
    libraries = [{"pypi": {"package": "dagster==0.0.1"}}]
    state = finished(client, submit(client, task(client, workspace, "", libraries=libraries)))["state"]
    assert state["life_cycle_state"] == "INTERNAL_ERROR"
    assert "Library installation failed" in state["state_message"]
    assert "dagster" in state["state_message"]


@needs_cluster
def test_what_the_cluster_writes_arrives_late_and_a_file_may_be_torn(
    workspace: Workspace, client: WorkspaceClient
) -> None:
    workspace.delivery_seconds = 0.4
    write = "open(__import__('sys').argv[1], 'w').write('0123456789')"
    finished(client, submit(client, task(client, workspace, write, parameters=["/dbfs/late"])))
    started = time.monotonic()
    with pytest.raises(NotFound):
        client.dbfs.read("/late")
    while True:
        try:
            client.dbfs.read("/late")
            break
        except NotFound:
            time.sleep(0.05)
    assert time.monotonic() - started > 0.3
    workspace.inject(CallFault("/api/2.0/dbfs/read", torn=True))
    assert [client.dbfs.read("/late").bytes_read for _ in range(2)] == [5, 10]


@needs_cluster
def test_a_run_may_say_terminating_before_it_says_how_it_ended(workspace: Workspace, client: WorkspaceClient) -> None:
    workspace.terminating_seconds = 0.5
    run_id = submit(client, task(client, workspace, ""))
    reach(client, run_id, "TERMINATING")
    assert client.jobs.get_run(run_id).as_dict()["state"].get("result_state") is None
    assert finished(client, run_id)["state"]["result_state"] == "SUCCESS"


@needs_cluster
def test_a_submission_with_the_same_token_is_the_same_run(workspace: Workspace, client: WorkspaceClient) -> None:
    before = len(workspace.runs)
    body = task(client, workspace, "")
    assert len({submit(client, body, idempotency_token="once") for _ in range(2)}) == 1
    assert len(workspace.runs) == before + 1


@needs_cluster
def test_tasks_follow_their_dependencies_and_none_runs_after_a_failure(
    workspace: Workspace, client: WorkspaceClient
) -> None:
    note = "open('/dbfs/notes' if {real} else {path!r}, 'a').write({text!r})"
    path = {"real": isolation() == "mount namespace", "path": str(workspace.folder / "dbfs" / "notes")}
    wants = {
        "gold": ["silver"],
        "silver": ["bronze"],
        "bronze": [],
        "more": ["gold"],
    }
    tasks = [
        task(
            client,
            workspace,
            note.format(text=f"{name} ", **path) + ("\nraise SystemExit(3)" if name == "gold" else ""),
            task_key=name,
            depends_on=[{"task_key": upstream} for upstream in upstreams],
        )
        for name, upstreams in wants.items()
    ]
    job_id = client.api_client.do("POST", "/api/2.2/jobs/create", body={"name": "native", "tasks": tasks})
    told = client.api_client.do("POST", "/api/2.2/jobs/run-now", body=job_id)
    assert isinstance(told, dict)
    run = finished(client, told["run_id"])
    assert client.dbfs.download("/notes").read() == b"bronze silver gold "
    results = {one["task_key"]: one["state"]["result_state"] for one in run["tasks"]}
    assert results == {"bronze": "SUCCESS", "silver": "SUCCESS", "gold": "FAILED", "more": "UPSTREAM_FAILED"}
    assert run["state"]["result_state"] == "FAILED"


@needs_cluster
def test_a_wheel_runs_by_its_entry_point(workspace: Workspace, client: WorkspaceClient) -> None:
    code = "import sys\ndef main():\n    from pyspark.dbutils import DBUtils\n"
    code += "    print(sys.argv[1:], DBUtils(None).secrets.get('emaps', 'token'))\n"
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/__init__.py", code)
        info = "tiny-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\nrun-tiny = tiny:main\n")
        archive.writestr(f"{info}/RECORD", "")
    path = f"{workspace.volume}/tiny-1.0-py3-none-any.whl"
    client.files.upload(path, io.BytesIO(wheel.getvalue()), overwrite=True)
    run_id = submit(
        client,
        {
            "task_key": "wheel",
            "existing_cluster_id": workspace.cluster_id,
            "libraries": [{"whl": path}],
            "python_wheel_task": {"package_name": "tiny", "entry_point": "run-tiny", "parameters": ["a", "b"]},
        },
    )
    assert finished(client, run_id)["state"]["result_state"] == "SUCCESS", workspace.runs[-1].log()
    assert workspace.runs[-1].log("stdout") == "['a', 'b'] a secret of the workspace\n"


@needs_cluster
def test_a_run_may_bring_a_cluster_of_its_own(client: WorkspaceClient, workspace: Workspace) -> None:
    new = {"spark_version": "17.3.x-scala2.13", "node_type_id": "m5.large", "num_workers": 0}
    body = {**task(client, workspace, "print(7)"), "existing_cluster_id": None, "new_cluster": new}
    told = finished(client, submit(client, body))
    assert told["state"]["result_state"] == "SUCCESS", workspace.runs[-1].log()
    assert told["tasks"][0]["cluster_instance"]["cluster_id"] != workspace.cluster_id
    assert workspace.runs[-1].log("stdout") == "7\n"
