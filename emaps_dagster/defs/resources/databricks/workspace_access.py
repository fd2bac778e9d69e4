"""Signing in to the workspace, and granting others access to a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from databricks.sdk import WorkspaceClient
from databricks.sdk.service import iam

from emaps_dagster.contracts.errors import LauncherError
from emaps_dagster.defs.resources.databricks.retries import API_ERRORS, with_retries
from emaps_dagster.defs.resources.databricks.run_state import why_refused

T = TypeVar("T")

# What to do when a call that is not about files is refused.
RIGHTS = "The token's user needs the right to use that cluster or to make one, and to submit runs"
_ACCESSORS = {"user": "user_name", "group": "group_name", "service_principal": "service_principal_name"}


def signed_in(host: str | None, call: Callable[[], T]) -> T:
    """The result of a call that signs in; a refusal is raised without its cause, which may hold credentials.

    Raises:
        LauncherError: the workspace refuses, or the settings of the client exclude each other.
    """
    try:
        return call()
    except (ValueError, *API_ERRORS) as error:
        reason = why_refused(error, f"signing in to {host}", RIGHTS, "")
    raise LauncherError(reason)


def grant(
    client: WorkspaceClient, job_id: int | None, wanted: Sequence[tuple[str, str, str]], log: logging.Logger
) -> None:
    """Grant the permissions of `EMAPS_DATABRICKS_PERMISSIONS` on a run's job; a failure is logged.

    Args:
        client: of the workspace.
        job_id: of the run; None for a run that has none.
        wanted: level, kind and name of each.
        log: of the step.
    """
    if not wanted or job_id is None:
        return
    access = [
        iam.AccessControlRequest.from_dict({"permission_level": level, _ACCESSORS[kind]: name})
        for level, kind, name in wanted
    ]
    try:
        with_retries(client.permissions.update, "jobs", str(job_id), access_control_list=access)
    except API_ERRORS as error:
        # A run does not fail because others cannot view it.
        log.warning("EMAPS_DATABRICKS_PERMISSIONS could not be granted: %s", error)
