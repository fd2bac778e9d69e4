"""What a launched step is sent with, where it is staged, what comes back, and how a failed run is reported."""

from __future__ import annotations

import gzip
import io
import pickle
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
from databricks.sdk.errors.platform import InternalError, NotFound, PermissionDenied, Unauthenticated

from emaps_dagster.contracts.databricks_settings import DatabricksSettings
from emaps_dagster.contracts.errors import LauncherError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.defs.resources.databricks import retries as patience
from emaps_dagster.defs.resources.databricks.event_files import entries_of
from emaps_dagster.defs.resources.databricks.launcher import ReplayingStepLauncher, step_launcher
from emaps_dagster.defs.resources.databricks.run_state import (
    RunState,
    failure_message,
    missing_end_message,
    state_of,
    timeout_message,
    why_refused,
)
from emaps_dagster.defs.resources.databricks.staging import staging
from emaps_dagster.defs.resources.databricks.submission import (
    LIBRARIES,
    PACKAGE,
    libraries,
    package_archive,
    run_config,
    serverless_run,
    variables,
)
from emaps_dagster_tests.support.builders import utc
from harness.databricks_emulator.faults import CallFault
from harness.databricks_emulator.workspace import Workspace

LOCK = Path(__file__).resolve().parents[3] / "requirements.lock"


def _settings(**given: Any) -> Settings:
    fields = {"host": "https://h", "token": "dapi-s3cret", "cluster_id": "0101-existing", **given}
    return Settings(
        deployment="databricks",
        api_token="the-api-s3cret",
        zones=("GR", "BG"),
        start=utc(2024, 5, 1),
        catalog="main",
        _env_file=None,
        databricks=DatabricksSettings.model_validate(fields),
    )


# --- what is sent ---------------------------------------------------------------------------------


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
    assert run_config(_settings()) == {
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
    settings = _settings(cluster_id=None, node_type="m5d.large", **given)
    assert run_config(settings)["cluster"] == {"new": {**SINGLE_NODE, **differs}}


def test_serverless_compute_is_asked_for_by_an_environment_without_spark() -> None:
    settings = _settings(cluster_id=None, compute="serverless", staging="/Volumes/main/emaps/staging")
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
    assert variables(_settings()) == {
        "EMAPS_DEPLOYMENT": "databricks",
        "EMAPS_API_URL": "https://api.electricitymaps.com/v3",
        "EMAPS_POWER_SIGNAL": "power-breakdown",
        "EMAPS_ZONES": "GR,BG",
        "EMAPS_START": "2024-05-01T00:00:00+00:00",
        "EMAPS_CATALOG": "main",
    }


def test_what_is_pickled_holds_the_name_of_the_secret_and_no_secret() -> None:
    launcher = ReplayingStepLauncher(_settings(secret_scope="a-scope", secret_key="a-key"))
    sent = pickle.dumps(launcher.exported())
    assert b"a-scope" in sent
    assert b"a-key" in sent
    assert b"s3cret" not in sent


def test_a_cluster_exports_the_variables_without_importing_the_launcher() -> None:
    launcher = ReplayingStepLauncher(_settings(secret_scope="a-scope", secret_key="a-key"))
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


# --- where it is staged ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Workspace(tmp_path_factory.mktemp("staging") / "workspace", spark=False) as workspace:
        yield workspace


PLACES = ["dbfs:/dagster_staging", Workspace.volume]


@pytest.mark.parametrize("place", PLACES)
def test_files_are_put_read_and_removed(workspace: Workspace, place: str) -> None:
    client = ReplayingStepLauncher(_settings(host=workspace.host, token=workspace.token)).databricks_runner.client
    files = staging(client, place)
    one, other = files.folder("run", "one[0]"), files.folder("run", "other")
    assert one.endswith("/run/one__0__")
    # Larger than the block in which DBFS takes it.
    content = bytes(range(256)) * 5000
    path = "/api/2.0/dbfs" if place.startswith("dbfs:") else "/api/2.0/fs/files"
    workspace.inject(CallFault(path, 500, times=1))
    files.put(one, {"main.py": b"print()", "code.zip": content})
    files.put(other, {"main.py": b"", "empty": b""})
    workspace.inject(CallFault(path, 503, times=1))
    assert files.get(f"{one}/code.zip") == content
    assert files.get(f"{other}/empty") == b""
    assert files.get(f"{one}/events-000000.json") is None
    assert files.get("/".join([files.folder("no", "step"), "stdout"])) is None
    files.remove(one)
    assert files.get(f"{one}/main.py") is None
    assert files.get(f"{other}/main.py") == b""
    files.remove(other)
    files.remove(other)
    assert workspace.staged() == []
    if place.startswith("dbfs:"):
        assert files.uri(f"{one}/main.py") == "dbfs:/dagster_staging/run/one__0__/main.py"
        assert files.on_cluster(f"{one}/main.py") == "/dbfs/dagster_staging/run/one__0__/main.py"
    else:
        assert files.uri(f"{one}/main.py") == files.on_cluster(f"{one}/main.py") == f"{one}/main.py"


# --- who asks -------------------------------------------------------------------------------------


TOKENS = "/oidc/v1/token"


def _principal(workspace: Workspace, secret: str) -> ReplayingStepLauncher:
    who: dict[str, Any] = {"host": workspace.host, "token": None, "client_id": workspace.client_id}
    return step_launcher(_settings(**who, client_secret=secret))


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
        files = launcher._staging = staging(launcher.databricks_runner.client, Workspace.volume)
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
        step_launcher(_settings())
    assert "s3cret" not in str(e.value)
    assert "an0ther-secret" not in str(e.value)


# --- what comes back ------------------------------------------------------------------------------


def _entry(run_id: str) -> dg.EventLogEntry:
    return dg.EventLogEntry(None, 20, "hello", run_id, 0.0, "step", "job", None)


def test_events_are_read_once_they_are_whole() -> None:
    whole = dg.serialize_value([_entry("run"), _entry("run")]).encode()
    assert entries_of(whole, "run") == [_entry("run"), _entry("run")]
    assert [entries_of(whole[:length], "run") for length in (0, 1, 10, len(whole) // 2, len(whole) - 1)] == [None] * 5
    assert entries_of(b"[]", "run") == []
    assert entries_of(b"something else", "run") is None


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise AssertionError('it ran')",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"a": 1}', "no list of events"),
        (b'[{"__class__": "os.system"}]', "no list of events"),
        (b'[{"__class__": "EventLogEntry"}]', "no list of events"),
        (b'["text"]', "something else than events"),
        (dg.serialize_value([_entry("another")]).encode(), "events of other Dagster runs: another"),
    ],
)
def test_what_another_user_wrote_beside_the_events_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(LauncherError) as caught:
        entries_of(content, "run")
    assert str(caught.value).startswith(f"An events file of a launched run holds {told}")
    assert str(caught.value).endswith("look who may (docs/databricks.md, Who may do what).")


def test_a_pickle_is_not_opened_here() -> None:
    assert entries_of(pickle.dumps(_Evil()), "run") is None
    assert entries_of(gzip.compress(pickle.dumps(_Evil())), "run") is None


# --- what a failed run is told as -----------------------------------------------------------------

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
