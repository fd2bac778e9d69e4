"""Serverless compute on this machine: one Spark Connect server with Delta, and tasks in an environment without pyspark.

A task gets Databricks Connect on Python 3.12 and what its environment's dependencies name. It has volumes and no DBFS,
a session without a JVM, and refusals as Databricks words them (on_cluster/serverless_session.py). Not emulated: Unity
Catalog's rights, the rules for outbound connections, and what only Databricks' own server refuses.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import IO, Any

from harness.databricks_emulator import image
from harness.databricks_emulator.cluster import Cluster, Machine
from harness.databricks_emulator.errors import invalid

LOCK = Path(__file__).with_name("serverless.lock")
# The one of environment version 4.
_CONNECT = "databricks-connect"
_PYTHON = "3.12"
_RUNTIME_VERSION = "client.4.9"
_VERSIONS = ("1", "2", "3", "4", "5")
_TARGETS = ("PERFORMANCE_OPTIMIZED", "STANDARD")
SERVER = {
    "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.connect.grpc.binding.port": "0",
    # Databricks' own server has these; its client asks for them.
    "spark.sql.session.localRelationChunkSizeRows": "10000",
    "spark.sql.session.localRelationChunkSizeBytes": str(16 * 2**20),
    "spark.sql.session.localRelationBatchOfChunksSizeBytes": str(2**30),
    "spark.sql.session.localRelationSizeLimit": str(3 * 2**30),
    # Tables of some files: 10,000 tasks for a listing of them take a VACUUM 40 s.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    # As on Databricks: the history has what a VACUUM has removed.
    "spark.databricks.delta.vacuum.logging.enabled": "true",
}


class ServerlessCompute(Cluster):
    """Started by its first task; every task has a session of its own in the one server."""

    def __init__(self, machine: Machine) -> None:
        super().__init__("serverless", machine, {"spark_conf": SERVER})

    @property
    def address(self) -> str:
        """Where the server listens, once it is started."""
        assert self._gateway is not None
        return f"sc://127.0.0.1:{self._gateway['connect']}"

    def launch(
        self, order: dict[str, Any], python: Path, variables: dict[str, str], output: IO[bytes], errors: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        told = {**order, "serverless": True, "remote": self.address if self.machine.spark else None}
        return self._start_task(told, python, {**self._environment(), **variables}, output, errors, dbfs=False)

    def _environment(self) -> dict[str, str]:
        remote = {"SPARK_REMOTE": self.address} if self.machine.spark else {}
        return {**self.machine.environment(_RUNTIME_VERSION), **remote, "IS_SERVERLESS": "TRUE"}


def check(task: dict[str, Any], body: dict[str, Any]) -> None:
    """Refuses a task of an environment as the Jobs API does.

    Raises:
        ApiError: 400.
    """
    key = task["environment_key"]
    name = task.get("task_key")
    environments = {one.get("environment_key"): one.get("spec") or {} for one in body.get("environments") or []}
    if key not in environments:
        raise invalid(f"Task {name}: the environment key {key!r} is not among the environments of the job.")
    for field in ("new_cluster", "existing_cluster_id", "job_cluster_key", "libraries"):
        if task.get(field):
            raise invalid(f"Task {name}: {field} is not supported for serverless compute.")
    version = environments[key].get("environment_version")
    if version not in _VERSIONS:
        raise invalid(f"Environment {key}: {version!r} is no environment version.")
    if body.get("performance_target") not in (None, *_TARGETS):
        raise invalid(f"{body['performance_target']!r} is no performance target.")
    file = (task.get("spark_python_task") or {}).get("python_file", "/Volumes/")
    if not file.startswith(("/Volumes/", "/Workspace/")):
        raise invalid(f"Task {name}: serverless compute cannot access {file}: DBFS is not supported.")


def install(task: dict[str, Any], body: dict[str, Any], machine: Machine, folder: Path) -> tuple[Path, Path | None]:
    """The interpreter of the task's environment, and a folder of its wheels.

    Raises:
        LibraryError: a dependency that cannot be had.
    """
    (spec,) = (one["spec"] for one in body["environments"] if one["environment_key"] == task["environment_key"])
    if spec["environment_version"] != "4":
        raise image.LibraryError("environment version 4 is emulated")
    requirements: list[str] = []
    overlay = None
    for line in spec.get("dependencies", []):
        if not line.endswith(".whl"):
            requirements.append(line)
            continue
        wheel = machine.here(line)
        if not line.startswith(("/Volumes/", "/Workspace/")) or not wheel.is_file():
            raise image.LibraryError(f"{line} does not exist")
        requirements += image.requirements_of(wheel)
        overlay = folder / "wheels"
        image.unpack(wheel, overlay)
    return python(tuple(sorted(requirements))), overlay


@cache
def interpreter() -> Path | None:
    """Python 3.12 of this machine: of the PATH, of pyenv or of uv; None without one."""
    found = shutil.which(f"python{_PYTHON}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    versions = [
        *pyenv.glob(f"versions/{_PYTHON}.*/bin/python"),
        *Path.home().glob(f".local/share/uv/python/cpython-{_PYTHON}.*/bin/python"),
    ]
    for place in ([Path(found)] if found else []) + sorted(versions):
        # One of pyenv's shims may be there without the version.
        done = subprocess.run(
            [place, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if done.stdout.strip() == "(3, 12)":
            return place
    return None


def lacking() -> str | None:
    """Why serverless compute cannot be had on this machine, if so."""
    return None if interpreter() else f"no Python {_PYTHON} on this machine, which Databricks Connect needs"


@cache
def python(requirements: tuple[str, ...] = ()) -> Path:
    """The interpreter of the environment with these requirements; made when there is none.

    Raises:
        LibraryError: a requirement that the lock cannot fulfil.
    """
    base = interpreter()
    if base is None:
        raise image.LibraryError(str(lacking()))
    wanted = [_CONNECT, *requirements]
    key = hashlib.sha256("\n".join([str(base), *wanted, LOCK.read_text()]).encode()).hexdigest()[:16]

    def make(home: Path) -> None:
        image.run(["venv", "--quiet", "--python", str(base), str(home)])
        # What is not in the lock has no version here, so nothing else is installed.
        options = ["--quiet", "--python", str(home / "bin/python"), "--constraint", str(LOCK)]
        image.run(["pip", "install", *options, *wanted])
        told = image.run(["pip", "freeze", "--python", str(home / "bin/python")])
        unlocked = sorted(set(told.split()) - _locked())
        if unlocked:
            raise image.LibraryError(f"serverless.lock lacks {', '.join(unlocked)}: make lock")

    return image.kept(f"serverless-{key}", make)


def _locked() -> set[str]:
    return {line.split()[0] for line in LOCK.read_text().splitlines() if line[:1].isalnum()}
