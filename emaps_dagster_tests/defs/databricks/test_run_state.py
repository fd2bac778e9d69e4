"""How a failed run and a refused call are reported: cause, page, remedy."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from databricks.sdk.errors.platform import InternalError, NotFound, PermissionDenied, Unauthenticated

from emaps_dagster.defs.resources.databricks.run_state import (
    RunState,
    failure_message,
    missing_end_message,
    timeout_message,
    why_refused,
)

PAGE = "https://h/#job/7/run/42"
AGAIN = "Nothing is lost or doubled in the tables: run these partitions again."


def _state(life: str, result: str | None = None, message: str = "", **more: Any) -> RunState:
    state = {"life_cycle_state": life, "result_state": result, "state_message": message}
    return RunState.of({"run_id": 42, "run_page_url": PAGE, "state": state, **more})


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            _state("INTERNAL_ERROR", "FAILED", "No capacity."),
            "could not be run (INTERNAL_ERROR): No capacity. Most often the cluster did not start or lost its driver.",
        ),
        (
            _state("TERMINATED", "TIMEDOUT"),
            "was ended after its time limit: Databricks gives no reason. It is 60 s for all its steps together; "
            "give more by EMAPS_DATABRICKS_TIMEOUT_SECONDS, or run fewer partitions at once.",
        ),
        (_state("TERMINATED", "CANCELED", "by me"), "was cancelled in Databricks: by me."),
        (_state("SKIPPED", None, "busy"), "was skipped: busy. Another run may hold the cluster."),
        (
            _state("TERMINATED", "FAILED", "Workload failed"),
            "ended as FAILED: Workload failed. Its last line: No module x.",
        ),
        # States that dagster-databricks' own enumeration does not know.
        (
            _state("TERMINATED", "MAXIMUM_CONCURRENT_RUNS_REACHED"),
            "ended as MAXIMUM_CONCURRENT_RUNS_REACHED: Databricks gives no reason. Its last line: No module x.",
        ),
        (
            _state("TERMINATED", "FAILED", "", status={"termination_details": {"message": "DRIVER_ERROR"}}),
            "ended as FAILED: DRIVER_ERROR. Its last line: No module x.",
        ),
    ],
)
def test_a_failed_run_is_reported_with_its_cause_and_its_page(state: RunState, told: str) -> None:
    assert state.is_over
    assert not state.is_done
    sentence = failure_message(state, "gold__ml_features", "No module x", 60)
    assert sentence == f"gold__ml_features: Databricks run 42 {told} {AGAIN} Run page: {PAGE}"


def test_a_run_without_an_end_is_reported_with_its_page() -> None:
    assert missing_end_message(_state("TERMINATED", "SUCCESS"), "step", "/dagster_staging/run/step", 60.0) == (
        "step: Databricks run 42 ended as SUCCESS, but 60 s later /dagster_staging/run/step still does not tell how "
        f"the step ended. What it wrote to the tables is there. {AGAIN} Run page: {PAGE}"
    )
    assert timeout_message(_state("PENDING"), "step", 9).startswith(
        "step: Databricks run 42 is still PENDING after 9 s for all its steps together (EMAPS_DATABRICKS_WAIT_SECONDS)"
    )


@pytest.mark.parametrize(
    ("life", "result", "over", "done"),
    [
        ("PENDING", None, False, False),
        ("QUEUED", None, False, False),
        ("A_NEW_STATE", None, False, False),
        ("RUNNING", None, False, False),
        # Its result is not known yet.
        ("TERMINATING", None, False, False),
        ("TERMINATED", "SUCCESS", True, True),
        ("TERMINATED", "SUCCESS_WITH_FAILURES", True, True),
        ("TERMINATED", "EXCLUDED", True, False),
        ("SKIPPED", None, True, False),
    ],
)
def test_when_a_run_is_over_and_whether_it_is_done(life: str, result: str | None, over: bool, done: bool) -> None:
    assert (_state(life, result).is_over, _state(life, result).is_done) == (over, done)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unauthenticated("bad token", error_code="UNAUTHENTICATED"), "UNAUTHENTICATED: bad token. Give a valid EMAPS_"),
        (PermissionDenied("no", error_code="PERMISSION_DENIED"), "PERMISSION_DENIED: no. The remedy. Run page: "),
        (NotFound("gone", error_code="NOT_FOUND"), "NOT_FOUND: gone. The remedy. Run page: "),
        (
            TimeoutError("Timed out after 0:05:00"),
            "Timed out after 0:05:00. The workspace does not answer as it should",
        ),
        (InternalError("broken", error_code="INTERNAL_ERROR"), "INTERNAL_ERROR: broken. The workspace does not answer"),
        (ValueError("invalid_client: no"), "invalid_client: no. Give a valid EMAPS_"),
        # Errors of requests that are ValueErrors, too: they say nothing of who asks.
        (requests.exceptions.InvalidURL("no host"), "no host. The workspace does not answer as it should"),
        (requests.exceptions.JSONDecodeError("not JSON", "<html>", 0), "not JSON: line 1 column 1 (char 0). The work"),
    ],
)
def test_a_refusal_is_reported_with_the_remedy(error: Exception, told: str) -> None:
    sentence = why_refused(error, "step, staging in /x", "The remedy", PAGE)
    assert sentence.startswith(f"step, staging in /x: Databricks says {told}")
    assert sentence.endswith(f"Run page: {PAGE}")
