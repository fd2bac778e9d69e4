"""Ends what a killed Dagster process has left in the workspace: runs that nobody waits for, and their staged files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
from databricks.sdk import WorkspaceClient

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.defs.resources.databricks.launcher import step_launcher
from emaps_dagster.defs.resources.databricks.retries import with_retries
from emaps_dagster.defs.resources.databricks.run_state import state_of
from emaps_dagster.defs.resources.databricks.staging import Staging

# A cancelled run ends within seconds.
_CANCEL_SECONDS = 60.0


def end_left_runs(settings: Settings, instance: dg.DagsterInstance) -> Iterator[str]:
    """Cancel and remove what is left of Dagster runs that have ended; yields a sentence for each of them.

    A run of another Dagster instance is not known here, and one that goes on has its launcher: both are left alone.

    Args:
        settings: of deployment databricks.
        instance: that the runs belong to.

    Raises:
        LauncherError: the installed Dagster is not a tested version, or the workspace refuses to sign in.
        DatabricksError: the workspace refuses a call.
    """
    launcher = step_launcher(settings)
    launcher.sign_in()
    client, staging = launcher.databricks_runner.client.workspace_client, launcher.staging
    ended = [run_id for run_id in staging.run_ids() if _has_ended(instance, run_id)]
    active = _active_runs(client) if ended else []
    for run_id in ended:
        mine = [run for run in active if _is_of(run, staging, run_id)]
        for run in mine:
            _cancel(client, run["run_id"])
        is_removed = staging.remove_run(run_id)
        cancelled = "".join(f" Databricks run {run['run_id']} is cancelled: {run.get('run_page_url')}." for run in mine)
        files = "removed" if is_removed else "still there, and could not be removed"
        yield f"Run {run_id} had left files in {staging.folder_of(run_id)}: they are {files}.{cancelled}"


def _cancel(client: WorkspaceClient, run_id: int) -> None:
    """Cancel a run and wait for its end: until then its task may write files that nobody would remove."""
    client.jobs.cancel_run(run_id)
    until = time.monotonic() + _CANCEL_SECONDS
    while not state_of(client, run_id).is_over and time.monotonic() < until:
        time.sleep(1.0)


def _has_ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished


def _active_runs(client: WorkspaceClient) -> list[dict[str, Any]]:
    """The submitted runs that have not ended, with their tasks."""
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"active_only": "true", "run_type": "SUBMIT_RUN", "expand_tasks": "true"}
    while True:
        page: Any = with_retries(client.api_client.do, "GET", "/api/2.2/jobs/runs/list", query=query)
        found += page.get("runs") or []
        if not page.get("next_page_token"):
            return found
        query["page_token"] = page["next_page_token"]


def _is_of(run: dict[str, Any], staging: Staging, run_id: str) -> bool:
    """Whether a task of the run reads files that were staged for the Dagster run."""
    parameters = [
        text for task in run.get("tasks") or [] for text in task.get("spark_python_task", {}).get("parameters") or []
    ]
    return any(text.startswith(f"{staging.on_cluster(staging.folder_of(run_id))}/") for text in parameters)
