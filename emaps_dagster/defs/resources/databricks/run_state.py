"""The state of a Databricks run, and error messages for it: the cause, the run's page, the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.errors.platform import NotFound, PermissionDenied, Unauthenticated
from requests import RequestException

from emaps_dagster.defs.resources.databricks.retries import PASSING, with_retries

_OVER = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")
_DONE = ("SUCCESS", "SUCCESS_WITH_FAILURES")
_AGAIN = "Nothing is lost or doubled in the tables: run these partitions again"


@dataclass(frozen=True)
class RunState:
    """One response about a run. States are plain text, since Databricks adds new ones."""

    run_id: int
    page: str
    task_run_id: int | None
    job_id: int | None
    life: str
    result: str
    message: str

    @classmethod
    def of(cls, answer: dict[str, Any]) -> RunState:
        """Parse the response of jobs/runs/get."""
        state = answer.get("state") or {}
        details = (answer.get("status") or {}).get("termination_details") or {}
        tasks = answer.get("tasks") or [{}]
        messages = [str(state.get("state_message") or "").strip(), str(details.get("message") or "").strip()]
        return cls(
            run_id=int(answer["run_id"]),
            page=str(answer.get("run_page_url") or ""),
            task_run_id=tasks[0].get("run_id"),
            job_id=answer.get("job_id"),
            life=str(state.get("life_cycle_state") or "UNKNOWN"),
            result=str(state.get("result_state") or ""),
            message=" ".join(dict.fromkeys(filter(None, messages))),
        )

    @property
    def is_over(self) -> bool:
        """Whether the run has ended; in state TERMINATING its result is not known yet."""
        return self.life in _OVER

    @property
    def is_done(self) -> bool:
        """Whether the run has ended successfully."""
        return self.life == "TERMINATED" and self.result in _DONE


def state_of(client: WorkspaceClient, run_id: int) -> RunState:
    """Request the state of a run."""
    # Read as plain JSON: the SDK's enumerations lack states newer than the SDK.
    response = with_retries(client.api_client.do, "GET", "/api/2.2/jobs/runs/get", query={"run_id": run_id})
    assert isinstance(response, dict)
    return RunState.of({"run_id": run_id, **response})


def sentence(text: str) -> str:
    """The text with one full stop at its end."""
    return f"{text.strip().rstrip('.')}."


def at(page: str) -> str:
    """The sentence with the run's page, if it has one."""
    return f" Run page: {page}" if page else ""


def failure_message(state: RunState, step_key: str, last_line: str, timeout: int) -> str:
    """The error of a run that ended without a result, and the remedy; `last_line` is the last line of its output."""
    text = f"{step_key}: Databricks run {state.run_id} "
    cause = sentence(state.message) if state.message else "Databricks gives no reason."
    if state.life == "INTERNAL_ERROR":
        text += f"could not be run (INTERNAL_ERROR): {cause} Most often the cluster did not start or lost its driver"
    elif state.life == "SKIPPED":
        text += f"was skipped: {cause} Another run may hold the cluster"
    elif state.result == "CANCELED":
        text += f"was cancelled in Databricks: {cause}"
    elif state.result == "TIMEDOUT":
        text += (
            f"was ended after its time limit: {cause} It is {timeout} s for all its steps together; give more by "
            "EMAPS_DATABRICKS_TIMEOUT_SECONDS, or run fewer partitions at once"
        )
    else:
        text += f"ended as {state.result or state.life}: {cause}"
        if last_line:
            text += f" Its last line: {last_line}"
    return f"{sentence(text)} {sentence(_AGAIN)}{at(state.page)}"


def missing_end_message(state: RunState, step_key: str, place: str, seconds: float) -> str:
    """The error of a successful run whose event files hold no end of the step."""
    return (
        f"{step_key}: Databricks run {state.run_id} ended as {state.result}, but {seconds:.0f} s later {place} still "
        f"does not tell how the step ended. What it wrote to the tables is there. {sentence(_AGAIN)}{at(state.page)}"
    )


def timeout_message(state: RunState, step_key: str, seconds: int) -> str:
    """The error of a run that is cancelled after EMAPS_DATABRICKS_WAIT_SECONDS."""
    return (
        f"{step_key}: Databricks run {state.run_id} is still {state.life} after {seconds} s for all its "
        "steps together (EMAPS_DATABRICKS_WAIT_SECONDS); it is cancelled. If it waited for a cluster, look at the "
        "pool, the quota and the policy; otherwise give it more time or fewer partitions. "
        f"{sentence(_AGAIN)}{at(state.page)}"
    )


def why_refused(error: Exception, doing: str, remedy: str, page: str) -> str:
    """The error of a call of the workspace's API that failed permanently, with the remedy."""
    message = sentence(" ".join(str(error).split())[:500] or type(error).__name__)
    code = getattr(error, "error_code", None)
    text = f"{doing}: Databricks says {f'{code}: ' if code else ''}{message}"
    # Checked first, since some errors of requests are also ValueErrors.
    if isinstance(error, (RequestException, TimeoutError, *PASSING)):
        return (
            f"{text} The workspace does not answer as it should: look at EMAPS_DATABRICKS_HOST, the network and "
            f"Databricks' status page. {sentence(_AGAIN)}{at(page)}"
        )
    # Databricks answers a revoked or unknown token with 403 "forbidden", and only a missing one with 401.
    # The SDK raises its own refusals, those of OAuth included, as ValueErrors.
    if isinstance(error, (Unauthenticated, ValueError)) or "Invalid access token" in message:
        return (
            f"{text} Give a valid EMAPS_DATABRICKS_TOKEN, or EMAPS_DATABRICKS_CLIENT_ID and "
            f"EMAPS_DATABRICKS_CLIENT_SECRET, for this workspace, and no other variables DATABRICKS_*.{at(page)}"
        )
    if isinstance(error, (PermissionDenied, NotFound)):
        return f"{text} {sentence(remedy)}{at(page)}"
    return f"{text} Look at docs/databricks.md, When it fails.{at(page)}"
