"""What a launched run is sent with: the package, the compute, variables and names of secrets."""

from __future__ import annotations

import io
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from emaps_dagster.contracts.errors import LauncherError
from emaps_dagster.defs.resources.databricks.launcher import ReplayingStepLauncher
from emaps_dagster.defs.resources.databricks.submission import (
    LIBRARIES,
    PACKAGE,
    libraries,
    package_archive,
    run_config,
    serverless_run,
    variables,
)
from emaps_dagster_tests.support.databricks_settings import databricks_settings

LOCK = Path(__file__).resolve().parents[3] / "requirements.lock"


def test_the_package_and_nothing_beside_it_is_sent(tmp_path: Path) -> None:
    # A path that the stock launcher would take for logs and for tests, and find empty.
    package = tmp_path / "logs" / "pytest" / "emaps_dagster"
    shutil.copytree(PACKAGE, package)
    for name in (".env", ".git/config", ".venv/lib/x.py.txt", "__pycache__/a.pyc", "data/secret.csv"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("s3cret")
    with tarfile.open(fileobj=io.BytesIO(package_archive(package))) as archive:
        sent = archive.getnames()
    assert "emaps_dagster/definitions.py" in sent
    assert "emaps_dagster/transforms/silver.py" in sent
    assert [name for name in sent if not name.endswith(".py")] == []
    assert {name.split("/")[1] for name in sent} & {"simulator", "demo", "cli", "features", "forecasting"} == set()


def test_a_package_without_its_sources_is_refused(tmp_path: Path) -> None:
    (tmp_path / "emaps_dagster").mkdir()
    with pytest.raises(LauncherError, match=r"^There is no definitions\.py in .*: the package cannot be sent"):
        package_archive(tmp_path / "emaps_dagster")


def test_an_existing_cluster_is_named() -> None:
    assert run_config(databricks_settings()) == {
        "run_name": "emaps_dagster",
        "cluster": {"existing": "0101-existing"},
        "libraries": libraries(),
        "install_default_libraries": False,
        "timeout_seconds": 28800,
    }


SINGLE_NODE = {
    "spark_version": "17.3.x-scala2.13",
    "nodes": {"node_types": {"node_type_id": "m5d.large"}},
    "size": {"num_workers": 0},
    "data_security_mode": "SINGLE_USER",
    "spark_conf": {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]"},
    "custom_tags": [{"key": "project", "value": "emaps_dagster"}, {"key": "ResourceClass", "value": "SingleNode"}],
}


@pytest.mark.parametrize(
    ("given", "differs"),
    [
        ({}, {}),
        (
            {"workers": 2, "runtime": "16.4.x-scala2.12"},
            {
                "spark_version": "16.4.x-scala2.12",
                "size": {"num_workers": 2},
                "spark_conf": {},
                "custom_tags": [{"key": "project", "value": "emaps_dagster"}],
            },
        ),
        ({"policy_id": "P", "single_user": "an-id"}, {"policy_id": "P", "single_user_name": "an-id"}),
    ],
)
def test_a_new_cluster_is_what_the_settings_say(given: dict[str, Any], differs: dict[str, Any]) -> None:
    settings = databricks_settings(cluster_id=None, node_type="m5d.large", **given)
    assert run_config(settings)["cluster"] == {"new": {**SINGLE_NODE, **differs}}


def test_serverless_compute_is_asked_for_by_an_environment_without_spark() -> None:
    settings = databricks_settings(cluster_id=None, compute="serverless", staging="/Volumes/main/emaps/staging")
    task = {"spark_python_task": {"python_file": "/Volumes/main/emaps/staging/run/step/cluster_main.py"}}
    body = serverless_run(settings, task, "a-token")
    (environment,) = body.pop("environments")
    assert body == {
        "run_name": "emaps_dagster",
        "idempotency_token": "a-token",
        "timeout_seconds": 28800,
        "queue": {"enabled": True},
        "tasks": [{"task_key": "dagster", "environment_key": "emaps", "disable_auto_optimization": True, **task}],
    }
    dependencies = environment["spec"].pop("dependencies")
    assert environment == {"environment_key": "emaps", "spec": {"environment_version": "4"}}
    assert [line.partition("==")[0] for line in dependencies] == [
        "dagster",
        "deltalake",
        "holidays",
        "pydantic",
        "pydantic-settings",
        "tenacity",
        "tzdata",
    ]
    assert [line for line in dependencies if f"\n{line} " not in f"\n{LOCK.read_text()}"] == []
    cheap = settings.model_copy(
        update={"databricks": settings.databricks.model_copy(update={"performance_target": "STANDARD"})}
    )
    assert serverless_run(cheap, task, "a-token")["performance_target"] == "STANDARD"


def test_libraries_have_the_versions_of_the_lock() -> None:
    locked = LOCK.read_text()
    named = [library["pypi"]["package"] for library in libraries()]
    assert [name.partition("==")[0] for name in named] == list(LIBRARIES)
    assert [name for name in named if f"\n{name} " not in f"\n{locked}"] == []


def test_the_step_gets_the_settings_that_are_no_secret() -> None:
    assert variables(databricks_settings()) == {
        "EMAPS_DEPLOYMENT": "databricks",
        "EMAPS_API_URL": "https://api.electricitymaps.com/v3",
        "EMAPS_POWER_SIGNAL": "power-breakdown",
        "EMAPS_ZONES": "GR,BG",
        "EMAPS_START": "2024-05-01T00:00:00+00:00",
        "EMAPS_CATALOG": "main",
    }


def test_what_is_pickled_holds_the_name_of_the_secret_and_no_secret() -> None:
    launcher = ReplayingStepLauncher(databricks_settings(secret_scope="a-scope", secret_key="a-key"))
    sent = pickle.dumps(launcher.exported())
    assert b"a-scope" in sent
    assert b"a-key" in sent
    assert b"s3cret" not in sent


def test_a_cluster_exports_the_variables_without_importing_the_launcher() -> None:
    launcher = ReplayingStepLauncher(databricks_settings(secret_scope="a-scope", secret_key="a-key"))
    there = f"""
import os, pickle, sys
class Secrets:
    def get(self, scope, key):
        return f"{{scope}}/{{key}}"
class DBUtils:
    secrets = Secrets()
pickle.loads({pickle.dumps(launcher.exported())!r}).setup(DBUtils(), None)
print(os.environ["EMAPS_API_TOKEN"], os.environ["EMAPS_ZONES"])
print([name for name in sys.modules if name.partition(".")[0] in ("databricks", "dagster_databricks", "dagster")])
"""
    done = subprocess.run([sys.executable, "-c", there], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "Exporting EMAPS_API_TOKEN from Databricks secret a-key, scope a-scope",
        "a-scope/a-key GR,BG",
        "[]",
    ]
