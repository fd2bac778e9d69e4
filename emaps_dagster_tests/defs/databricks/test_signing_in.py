"""Signing in to the workspace, by a token or as a service principal, and what it answers instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from databricks.sdk.errors.platform import InternalError, Unauthenticated

from emaps_dagster.contracts.errors import LauncherError
from emaps_dagster.defs.resources.databricks import retries as patience
from emaps_dagster.defs.resources.databricks.launcher import ReplayingStepLauncher, step_launcher
from emaps_dagster.defs.resources.databricks.run_state import (
    state_of,
)
from emaps_dagster.defs.resources.databricks.staging import staging
from emaps_dagster_tests.support.databricks_settings import databricks_settings
from harness.databricks_emulator.faults import CallFault
from harness.databricks_emulator.workspace import Workspace

AGAIN = "Nothing is lost or doubled in the tables: run these partitions again."


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Workspace(tmp_path_factory.mktemp("staging") / "workspace", spark=False) as workspace:
        yield workspace


TOKENS = "/oidc/v1/token"


def _principal(workspace: Workspace, secret: str) -> ReplayingStepLauncher:
    who: dict[str, Any] = {"host": workspace.host, "token": None, "client_id": workspace.client_id}
    return step_launcher(databricks_settings(**who, client_secret=secret))


def test_a_service_principal_is_let_in_by_its_secret(workspace: Workspace) -> None:
    launcher = _principal(workspace, workspace.client_secret)
    launcher.sign_in()
    staging(launcher.databricks_runner.client, Workspace.volume).put(f"{Workspace.volume}/run/step", {"a": b"1"})
    staging(launcher.databricks_runner.client, Workspace.volume).remove(f"{Workspace.volume}/run/step")
    before = workspace.count("POST", TOKENS)
    with pytest.raises(LauncherError) as caught:
        _principal(workspace, "wr0ng-secret").sign_in()
    assert str(caught.value) == (
        f"signing in to {workspace.host}: Databricks says invalid_client: Client authentication failed. Give a valid "
        "EMAPS_DATABRICKS_TOKEN, or EMAPS_DATABRICKS_CLIENT_ID and EMAPS_DATABRICKS_CLIENT_SECRET, for this "
        "workspace, and no other variables DATABRICKS_*."
    )
    assert caught.value.__context__ is None
    # A refusal stays one: it is not asked for again.
    assert workspace.count("POST", TOKENS) - before == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_token_address_that_does_not_answer_for_a_moment_is_requested_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_SECONDS", 0.05)
    launcher = _principal(workspace, workspace.client_secret)
    before = workspace.count("POST", TOKENS)
    workspace.inject(CallFault(TOKENS, status, times=2))
    launcher.sign_in()
    assert workspace.count("POST", TOKENS) - before == 3


def test_a_token_address_that_stays_broken_is_reported_as_such_and_not_as_a_wrong_secret(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_SECONDS", 0.05)
    launcher = _principal(workspace, workspace.client_secret)
    workspace.inject(CallFault(TOKENS, 503, times=None))
    try:
        with pytest.raises(LauncherError) as caught:
            launcher.sign_in()
    finally:
        workspace.clear_faults()
    assert str(caught.value) == (
        f"signing in to {workspace.host}: Databricks says neither a token nor a refusal (unknown: unknown). The "
        "workspace does not answer as it should: look at EMAPS_DATABRICKS_HOST, the network and Databricks' status "
        f"page. {AGAIN}"
    )
    assert caught.value.__context__ is None


def test_a_token_that_is_renewed_in_the_middle_of_a_step_fails_as_any_other_call_does(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_SECONDS", 0.05)
    workspace.shorten_tokens(1)
    try:
        launcher = _principal(workspace, workspace.client_secret)
        folder = f"{Workspace.volume}/run/step"
        files = launcher.staging = staging(launcher.databricks_runner.client, Workspace.volume)
        files.put(folder, {"a": b"1"})
        workspace.inject(CallFault(TOKENS, 503, times=2))
        assert files.get(f"{folder}/a") == b"1"
        workspace.inject(CallFault(TOKENS, 503, times=None))
        with pytest.raises(InternalError, match=r"^neither a token nor a refusal \(unknown: unknown\)$"):
            state_of(launcher.databricks_runner.client.workspace_client, 42)
        # What comes at the end of a step, whatever went wrong before, tells and does not raise.
        files.remove(folder)
    finally:
        workspace.clear_faults()
        workspace.shorten_tokens(3600)
    assert f"The staging folder {folder} could not be removed: neither a token nor a refusal" in caplog.text
    files.remove(folder)


def _fails_with(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    "error",
    [
        # What the SDK makes of a page in HTML, of an answer without a type, and of a 200 that is no token.
        ValueError(b"<html>503</html>"),
        KeyError("content-type"),
        AttributeError("'list' object has no attribute 'get'"),
        NotImplementedError("Not supported yet: 'expires_in'"),
        ValueError("server_error: x"),
        requests.exceptions.ConnectionError("refused"),
    ],
)
def test_what_is_neither_a_token_nor_a_refusal_is_worth_another_try(error: Exception) -> None:
    with pytest.raises(InternalError, match=r"^neither a token nor a refusal \(.+\)$"):
        patience.token_from(lambda: _fails_with(error))


@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client", "invalid_scope", "access_denied"])
def test_a_refusal_in_the_words_of_oauth_is_one(code: str) -> None:
    with pytest.raises(Unauthenticated, match=f"^{code}: no$"):
        patience.token_from(lambda: _fails_with(ValueError(f"{code}: no")))


def test_variables_of_another_way_to_sign_in_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "of-another-program")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "an0ther-secret")
    with pytest.raises(
        LauncherError, match=r"more than one authorization method .* no other variables DATABRICKS_"
    ) as e:
        step_launcher(databricks_settings())
    assert "s3cret" not in str(e.value)
    assert "an0ther-secret" not in str(e.value)
