"""Serverless compute of the emulated workspace, by Databricks' own client: what the API refuses, where a task runs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import DatabricksError

from emaps_dagster_tests.support.serverless import WHY_NOT
from emaps_dagster_tests.system.test_databricks_emulator import finished, submit
from harness.databricks_emulator.workspace import Workspace

pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
SECRETS = {("emaps", "token"): "a secret of the workspace"}
ENVIRONMENT = {"environment_key": "e", "spec": {"environment_version": "4"}}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Without Spark: a task starts in a tenth of a second."""
    with Workspace(tmp_path_factory.mktemp("serverless") / "workspace", secrets=SECRETS, spark=False) as made:
        yield made


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> WorkspaceClient:
    return WorkspaceClient(host=workspace.host, token=workspace.token)


def _task(client: WorkspaceClient, code: str, **fields: Any) -> dict[str, Any]:
    path = f"{Workspace.volume}/main.py"
    client.files.upload(path, io.BytesIO(code.encode()), overwrite=True)
    return {"task_key": "only", "environment_key": "e", "spark_python_task": {"python_file": path}, **fields}


@pytest.mark.parametrize(
    ("task", "fields", "told"),
    [
        ({"environment_key": "other"}, {}, "the environment key 'other' is not among the environments"),
        ({"existing_cluster_id": Workspace.cluster_id}, {}, "existing_cluster_id is not supported for serverless"),
        ({"libraries": [{"pypi": {"package": "x"}}]}, {}, "libraries is not supported for serverless compute"),
        ({"spark_python_task": {"python_file": "dbfs:/main.py"}}, {}, "DBFS is not supported"),
        ({}, {"performance_target": "FAST"}, "'FAST' is no performance target"),
        ({}, {"environments": [{"environment_key": "e", "spec": {"client": "4"}}]}, "None is no environment version"),
    ],
)
def test_what_serverless_compute_has_not_is_refused_at_the_submit(
    client: WorkspaceClient, task: dict[str, Any], fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(DatabricksError, match=told):
        submit(client, _task(client, "", **task), **{"environments": [ENVIRONMENT], **fields})


def test_a_task_has_python_and_variables_of_serverless_compute_and_volumes_alone(
    client: WorkspaceClient, workspace: Workspace
) -> None:
    code = f"""
import importlib.util, json, os, sys
from importlib.metadata import distributions
told = {{
    "python": sys.version_info[:2],
    "variables": [os.environ.get(name) for name in ("IS_SERVERLESS", "SPARK_HOME", "EMAPS_ZONES")],
    "places": [os.path.isdir(name) for name in ("/Volumes/main/emaps/staging", "/dbfs")],
    "packages": [one.name for one in distributions() if one.name in
        ("pyspark", "databricks-connect", "dagster", "deltalake", "emaps_dagster", "dagster-pyspark")],
    "globals": [name in globals() for name in ("spark", "dbutils", "sc")],
    "secret": dbutils.secrets.get(scope="emaps", key="token") == {SECRETS["emaps", "token"]!r},
}}
open("{Workspace.volume}/told.json", "w").write(json.dumps(told))
"""
    spec = {"environment_version": "4", "dependencies": ["deltalake"]}
    run = submit(client, _task(client, code), environments=[{"environment_key": "e", "spec": spec}])
    assert finished(client, run)["state"]["result_state"] == "SUCCESS", workspace.runs[-1].log()
    contents = client.files.download(f"{Workspace.volume}/told.json").contents
    assert contents is not None
    told = json.loads(contents.read())
    assert sorted(told.pop("packages")) == ["databricks-connect", "deltalake"]
    assert told == {
        "python": [3, 12],
        "variables": ["TRUE", None, None],
        "places": [True, False],
        "globals": [True, True, False],
        "secret": True,
    }


@pytest.mark.parametrize(("fields", "tries"), [({}, 2), ({"disable_auto_optimization": True}, 1)])
def test_a_failed_task_is_tried_again_unless_it_says_otherwise(
    client: WorkspaceClient, workspace: Workspace, fields: dict[str, Any], tries: int
) -> None:
    code = f"""
import glob
number = len(glob.glob("{Workspace.volume}/try-{tries}-*"))
open(f"{Workspace.volume}/try-{tries}-{{number}}", "w").close()
raise SystemExit("it fails")
"""
    run = submit(client, _task(client, code, **fields), environments=[ENVIRONMENT])
    assert finished(client, run)["state"]["result_state"] == "FAILED"
    entries = [entry.name for entry in client.files.list_directory_contents(Workspace.volume)]
    assert len([name for name in entries if str(name).startswith(f"try-{tries}-")]) == tries


def test_a_dependency_that_cannot_be_had_fails_the_run_before_it_begins(client: WorkspaceClient) -> None:
    spec = {"environment_version": "4", "dependencies": ["deltalake==0.1"]}
    run = submit(client, _task(client, ""), environments=[{"environment_key": "e", "spec": spec}])
    state = finished(client, run)["state"]
    assert state["life_cycle_state"] == "INTERNAL_ERROR"
    assert "Library installation failed" in state["state_message"]
