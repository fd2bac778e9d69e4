"""What the Jobs API checks of a submission, and in which order its tasks run."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from harness.databricks_emulator import serverless
from harness.databricks_emulator.errors import invalid

_TASK_KINDS = ("spark_python_task", "python_wheel_task")


def check(body: dict[str, Any], clusters: Container[str]) -> None:
    """Refuses what the Jobs API refuses.

    Args:
        body: of a submit, or of a job.
        clusters: ids of the existing ones.

    Raises:
        ApiError: 400.
    """
    tasks = body.get("tasks") or []
    if not tasks:
        raise invalid("One of the job tasks must be specified: tasks is empty")
    keys = [task.get("task_key") for task in tasks]
    shared = {one["job_cluster_key"]: one["new_cluster"] for one in body.get("job_clusters", [])}
    for task in tasks:
        kinds = [kind for kind in _TASK_KINDS if task.get(kind)]
        if len(kinds) != 1:
            raise invalid(f"Task {task.get('task_key')}: one of {', '.join(_TASK_KINDS)} must be specified")
        for upstream in task.get("depends_on", []):
            if upstream["task_key"] not in keys:
                raise invalid(f"Invalid dependency graph, task {upstream['task_key']!r} does not exist")
        if task.get("environment_key"):
            serverless.check(task, body)
            continue
        new = task.get("new_cluster") or shared.get(task.get("job_cluster_key"))
        existing = task.get("existing_cluster_id")
        if existing and existing not in clusters:
            raise invalid(f"Cluster {existing} does not exist")
        if not existing:
            _check_cluster(task.get("task_key"), new)


def ordered(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every task after those it depends on."""
    left, done = list(tasks), []
    while left:
        keys = {task["task_key"] for task in done}
        ready = [task for task in left if all(one["task_key"] in keys for one in task.get("depends_on", []))]
        if not ready:
            raise invalid("Invalid dependency graph, the tasks depend on each other in a cycle")
        done += ready
        left = [task for task in left if task not in ready]
    return done


def _check_cluster(key: str | None, new: dict[str, Any] | None) -> None:
    if not new:
        raise invalid(f"Task {key}: one of existing_cluster_id, new_cluster or job_cluster_key must be specified")
    version = str(new.get("spark_version", ""))
    if version.split(".x-", maxsplit=1)[0] not in ("15.4", "16.4", "17.3"):
        raise invalid(f"Invalid spark version {version}.")
    if not any(new.get(name) for name in ("node_type_id", "instance_pool_id", "policy_id")):
        raise invalid("Node type ID or instance pool ID must be specified for the cluster.")
