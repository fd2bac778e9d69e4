"""Builds the submission of a launched run: compute, libraries, variables, names of secrets, and the package.

The submission holds no secret values: all readers of the staging folder can read it.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import emaps_dagster
from emaps_dagster.contracts.errors import LauncherError
from emaps_dagster.contracts.setting_types import ON_CLUSTER
from emaps_dagster.contracts.settings import Settings

PACKAGE = Path(emaps_dagster.__file__).parent
# Packages that no asset, check or job imports.
_NOT_ON_CLUSTERS = ("cli", "features", "forecasting", "simulator")
# Libraries that the package imports on a cluster and the runtime lacks or has in another version. pyspark is the
# runtime's own version, listed so that dagster-pyspark installs no newer one.
LIBRARIES = (
    "dagster",
    "dagster-databricks",
    "dagster-pyspark",
    "databricks-sdk",
    "deltalake",
    "holidays",
    "pydantic",
    "pydantic-settings",
    "pyspark",
    "tenacity",
    "tzdata",
)
# Serverless compute has Spark's client, over which these would install pyspark or another SDK.
_OF_CLUSTERS_ONLY = ("dagster-databricks", "dagster-pyspark", "databricks-sdk", "pyspark")
# Python 3.12 and Databricks Connect 17.3, which is Spark 4.0.
_ENVIRONMENT_VERSION = "4"
_ENVIRONMENT = "emaps"
_RUN_NAME = "emaps_dagster"
# A third of the time of xz's default, and 20 kB more.
_PRESET = 3
_SINGLE_NODE = {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*]"}


def run_config(settings: Settings) -> dict[str, Any]:
    """The stock launcher's `run_config`: the same for every step."""
    return {
        "run_name": _RUN_NAME,
        "cluster": _cluster(settings),
        "libraries": libraries(),
        # The default libraries are not pinned to our versions, pyspark among them.
        "install_default_libraries": False,
        # Databricks ends the run itself if this host is killed and cannot cancel it.
        "timeout_seconds": settings.databricks.timeout_seconds,
    }


def serverless_run(settings: Settings, task: dict[str, Any], idempotency_token: str) -> dict[str, Any]:
    """The body of `jobs/runs/submit` for serverless compute, which dagster-databricks and its SDK cannot express.

    Args:
        settings: of the workspace.
        task: the script and its parameters.
        idempotency_token: for a repeated one Databricks returns the same run.
    """
    body = {
        "run_name": _RUN_NAME,
        "idempotency_token": idempotency_token,
        "timeout_seconds": settings.databricks.timeout_seconds,
        # Free Edition runs five tasks at once; a further run waits instead of being skipped.
        "queue": {"enabled": True},
        "tasks": [
            {
                "task_key": "dagster",
                "environment_key": _ENVIRONMENT,
                # Otherwise Databricks itself runs a failed task again, beside Dagster's retries.
                "disable_auto_optimization": True,
                **task,
            }
        ],
        "environments": [
            {
                "environment_key": _ENVIRONMENT,
                "spec": {"environment_version": _ENVIRONMENT_VERSION, "dependencies": dependencies()},
            }
        ],
    }
    target = settings.databricks.performance_target
    return {**body, "performance_target": target} if target else body


def dependencies() -> list[str]:
    """The packages that serverless compute installs, in the versions installed here."""
    return [f"{name}=={version(name)}" for name in LIBRARIES if name not in _OF_CLUSTERS_ONLY]


def libraries() -> list[dict[str, Any]]:
    """The libraries that the cluster installs, in the versions installed here."""
    return [{"pypi": {"package": f"{name}=={version(name)}"}} for name in LIBRARIES]


def variables(settings: Settings) -> dict[str, str]:
    """The settings that the step needs on the cluster (`ON_CLUSTER`), none of them secret, as variables."""
    marked = [name for name, field in Settings.model_fields.items() if ON_CLUSTER in field.metadata]
    values = {f"EMAPS_{name.upper()}": getattr(settings, name) for name in marked}
    return {name: _text(value) for name, value in values.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def secrets(settings: Settings) -> list[dict[str, str]]:
    """The Databricks secret that holds the API token; this machine never reads it. None where this machine fetches."""
    if settings.databricks.fetch == "host":
        return []
    return [
        {
            "name": "EMAPS_API_TOKEN",
            "scope": settings.databricks.secret_scope,
            "key": settings.databricks.secret_key,
        }
    ]


def package_archive(package: Path = PACKAGE) -> bytes:
    """What definitions import of the package, and nothing beside it, as a tar.xz whose root is to be put on the path.

    Raises:
        LauncherError: the package has no source files.
    """
    packed = io.BytesIO()
    # One stream for all files: half the size of a zip, and a run's cluster waits for it.
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(package.rglob("*.py")):
            relative = path.relative_to(package)
            if relative.parts[0] not in _NOT_ON_CLUSTERS:
                archive.add(path, f"{package.name}/{relative.as_posix()}")
        if f"{package.name}/definitions.py" not in archive.getnames():
            raise LauncherError(
                f"There is no definitions.py in {package}: the package cannot be sent to Databricks. Start Dagster "
                "from an installation that has its source files."
            )
    return lzma.compress(packed.getvalue(), preset=_PRESET)


def _cluster(settings: Settings) -> dict[str, Any]:
    if settings.databricks.compute == "serverless":
        # The stock launcher wants one; `serverless_run` has none.
        return {"existing": "serverless"}
    if settings.databricks.cluster_id:
        return {"existing": settings.databricks.cluster_id}
    single = settings.databricks.workers == 0
    tags = {"project": "emaps_dagster", **({"ResourceClass": "SingleNode"} if single else {})}
    new: dict[str, Any] = {
        "spark_version": settings.databricks.runtime,
        "nodes": {"node_types": {"node_type_id": settings.databricks.node_type}},
        "size": {"num_workers": settings.databricks.workers},
        # The main script needs the SparkContext and /dbfs, which shared clusters do not offer.
        "data_security_mode": "SINGLE_USER",
        "spark_conf": _SINGLE_NODE if single else {},
        "custom_tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    if settings.databricks.single_user:
        new["single_user_name"] = settings.databricks.single_user
    if settings.databricks.policy_id:
        new["policy_id"] = settings.databricks.policy_id
    return {"new": new}
