"""Step launcher on dagster-databricks: stages the package, submits a run, follows it, and replays its events.

It stages this package only, removes the staged files, reports why a run failed, and rebinds events to this machine's
storage.
"""

from __future__ import annotations

import pickle
import posixpath
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.execution.plan.external_step import PICKLED_EVENTS_FILE_NAME, PICKLED_STEP_RUN_REF_FILE_NAME
from dagster_databricks import databricks_step_main
from dagster_databricks.databricks_pyspark_step_launcher import (
    CODE_ZIP_NAME,
    PICKLED_CONFIG_FILE_NAME,
    DatabricksPySparkStepLauncher,
)
from databricks.sdk.service import iam

from emaps_dagster.contracts.errors import LauncherError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.defs.instance.versions import check_launcher_versions
from emaps_dagster.defs.resources.databricks.event_file import entries_of
from emaps_dagster.defs.resources.databricks.event_provenance import EventProvenance
from emaps_dagster.defs.resources.databricks.retries import API_ERRORS, token_from, with_retries
from emaps_dagster.defs.resources.databricks.run_state import (
    RunState,
    failure_message,
    missing_end_message,
    timeout_message,
    why_refused,
)
from emaps_dagster.defs.resources.databricks.staging import staging
from emaps_dagster.defs.resources.databricks.step_environment import Exported
from emaps_dagster.defs.resources.databricks.submission import PACKAGE, package_zip, run_config, secrets, variables

T = TypeVar("T")

# The API shows the last files that a cluster writes with a delay.
_DELIVERY_SECONDS = 60.0
_ENDS = (dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY)
_MAIN = Path(databricks_step_main.__file__)
_ACCESSORS = {"user": "user_name", "group": "group_name", "service_principal": "service_principal_name"}
_RIGHTS = "The one who asks needs the right to use that cluster or to make one, and to submit runs"


class ReplayingStepLauncher(DatabricksPySparkStepLauncher):
    """Runs a step as one Databricks run and replays its events here, with rebound provenance.

    Raises:
        LauncherError: the installed Dagster is not a tested version.
    """

    def __init__(self, settings: Settings) -> None:
        check_launcher_versions()
        token, secret = settings.databricks.token, settings.databricks.client_secret
        with warnings.catch_warnings():
            # Dagster recommends Pipes for new projects; this launcher runs a step unchanged.
            warnings.simplefilter("ignore", dg.SupersessionWarning)
            super().__init__(
                run_config=run_config(settings),
                permissions={},
                databricks_host=settings.databricks.host,
                databricks_token=token.get_secret_value() if token else None,
                oauth_credentials=(
                    {"client_id": settings.databricks.client_id or "", "client_secret": secret.get_secret_value()}
                    if secret
                    else None
                ),
                secrets_to_env_variables=secrets(settings),
                env_variables=variables(settings),
                staging_prefix=settings.databricks.staging.removeprefix("dbfs:"),
                wait_for_logs=False,
                max_completion_wait_time_seconds=settings.databricks.patience_seconds,
                poll_interval_sec=settings.databricks.poll_seconds,  # type: ignore[arg-type]  # fractions are fine
                local_dagster_job_package_path=str(PACKAGE.parent),
                verbose_logs=False,
                add_dagster_env_variables=False,
            )
        self._settings = settings
        # The SDK renews a token after an hour, within any call; `token_from` maps the errors of that renewal.
        config: Any = self.databricks_runner.client.workspace_client.config
        config._header_factory = partial(token_from, config._header_factory)  # noqa: SLF001  # there is no public way
        self._staging = staging(self.databricks_runner.client, settings.databricks.staging)

    def launch_step(self, step_context: dg.StepExecutionContext) -> Iterator[dg.DagsterEvent]:
        """Run the step on Databricks; yields its Dagster events as they arrive.

        Raises:
            dg.Failure: the run failed, was cancelled or timed out, or the workspace refused a call.
            LauncherError: the workspace refuses to sign in.
        """
        provenance = EventProvenance(step_context)
        folder = self._staging.folder(step_context.run_id, step_context.step.key)
        launched = _Launched(step_context, folder)
        with dg.raise_execution_interrupts():
            self.sign_in()
        try:
            launched.doing = f"staging in {folder}"
            files = self._files(step_context)
            with dg.raise_execution_interrupts():
                self._staging.put(folder, files)
            launched.doing = "submitting the run"
            # For a repeated idempotency token Databricks returns the same run.
            task = self._task(folder)
            config = {**self.run_config, "idempotency_token": uuid4().hex}
            run_id = with_retries(self.databricks_runner.submit_run, config, task)
            launched.run_id = run_id
            launched.doing = f"following run {run_id}"
            state = launched.state = self._state(run_id)
            self._grant(step_context, state)
            yield _started(step_context, state)
            yield from self._follow(launched, provenance)
        except API_ERRORS as error:
            remedy = self._staging.remedy if launched.run_id is None and "staging" in launched.doing else _RIGHTS
            raise self._failure(launched, why_refused(error, launched.activity, remedy, launched.page)) from None
        finally:
            # Also for an interrupted step, a failed one, and one whose generator was dropped.
            self._cancel(launched)
            self._staging.remove(folder)

    def sign_in(self) -> None:
        """Sign in to the workspace, if the kind of credentials needs a call for it.

        Raises:
            LauncherError: the workspace refuses.
        """
        sign_in = self.databricks_runner.client.workspace_client.config.authenticate
        _signed_in(self.databricks_host, lambda: with_retries(sign_in))

    def exported(self) -> Exported:
        """The environment variables that the cluster exports before a step."""
        config = self.create_remote_config()
        return Exported(config.env_variables, config.secrets)

    def _files(self, step_context: dg.StepExecutionContext) -> dict[str, bytes]:
        step_run_ref = dg.step_context_to_step_run_ref(step_context, self.local_dagster_job_package_path)
        return {
            _MAIN.name: _MAIN.read_bytes(),
            CODE_ZIP_NAME: package_zip(),
            PICKLED_STEP_RUN_REF_FILE_NAME: pickle.dumps(step_run_ref),
            PICKLED_CONFIG_FILE_NAME: pickle.dumps(self.exported()),
        }

    def _task(self, folder: str) -> dict[str, Any]:
        names = (PICKLED_STEP_RUN_REF_FILE_NAME, PICKLED_CONFIG_FILE_NAME, CODE_ZIP_NAME)
        return {
            "spark_python_task": {
                "python_file": self._staging.uri(posixpath.join(folder, _MAIN.name)),
                "parameters": [self._staging.on_cluster(posixpath.join(folder, name)) for name in names],
            }
        }

    def _state(self, run_id: int) -> RunState:
        # Read as plain JSON: the SDK's enumerations lack states newer than the SDK.
        client = self.databricks_runner.client.workspace_client.api_client
        response = with_retries(client.do, "GET", "/api/2.2/jobs/runs/get", query={"run_id": run_id})
        assert isinstance(response, dict)
        return RunState.of({"run_id": run_id, **response})

    def _grant(self, step_context: dg.StepExecutionContext, state: RunState) -> None:
        wanted = self._settings.databricks.permissions
        if not wanted or state.job_id is None:
            return
        access = [
            iam.AccessControlRequest.from_dict({"permission_level": level, _ACCESSORS[kind]: name})
            for level, kind, name in wanted
        ]
        try:
            permissions = self.databricks_runner.client.workspace_client.permissions
            with_retries(permissions.update, "jobs", str(state.job_id), access_control_list=access)
        except API_ERRORS as error:
            # A run does not fail because others cannot view it.
            step_context.log.warning("EMAPS_DATABRICKS_PERMISSIONS could not be granted: %s", error)

    def _follow(self, launched: _Launched, provenance: EventProvenance) -> Iterator[dg.DagsterEvent]:
        """Replay the run's events until it is over and the end of the step has arrived."""
        batches = self._replay(launched, provenance)
        began = time.monotonic()
        assert launched.state is not None
        while not launched.state.is_over:
            if time.monotonic() - began > self.databricks_runner.max_wait_time_sec:
                seconds = int(self.databricks_runner.max_wait_time_sec)
                raise self._failure(launched, timeout_message(launched.state, launched.step_key, seconds))
            with dg.raise_execution_interrupts():
                time.sleep(self.databricks_runner.poll_interval_sec)
                launched.state = self._state(launched.state.run_id)
                events = next(batches)
            yield from events
        over = time.monotonic()
        while launched.state.is_done and not launched.has_ended and time.monotonic() - over < _DELIVERY_SECONDS:
            with dg.raise_execution_interrupts():
                time.sleep(min(1.0, self.databricks_runner.poll_interval_sec))
                events = next(batches)
            yield from events
        last_line = self._echo(launched)
        if launched.has_ended:
            launched.context.log.info("Databricks run %d is over.", launched.state.run_id)
        elif launched.state.is_done:
            raise self._failure(
                launched, missing_end_message(launched.state, launched.step_key, launched.folder, _DELIVERY_SECONDS)
            )
        else:
            limit = self._settings.databricks.timeout_seconds
            raise self._failure(launched, failure_message(launched.state, launched.step_key, last_line, limit))

    def _replay(self, launched: _Launched, provenance: EventProvenance) -> Iterator[Sequence[dg.DagsterEvent]]:
        """For each `next`: store the new entries, and yield their Dagster events."""
        context = launched.context
        name = f"{context.previous_attempt_count}_{PICKLED_EVENTS_FILE_NAME}"
        path = posixpath.join(launched.folder, name)
        known, seen = b"", 0
        while True:
            content = self._staging.get(path) or b""
            entries = entries_of(content) if content != known else None
            events: list[dg.DagsterEvent] = []
            if entries is not None:
                known = content
                for entry in entries[seen:]:
                    rebound = provenance.rebind(entry)
                    context.instance.handle_new_event(rebound)
                    if rebound.dagster_event is not None:
                        events.append(rebound.dagster_event)
                seen = len(entries)
                launched.has_ended |= any(event.event_type in _ENDS for event in events)
            yield events

    def _echo(self, launched: _Launched) -> str:
        """Print the run's output, as a local step would; returns its last line, or the error of a failed run."""
        last = ""
        for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
            # Output that cannot be read is skipped: the events are stored already.
            with suppress(*API_ERRORS):
                text = (self._staging.get(posixpath.join(launched.folder, name)) or b"").decode("utf-8", "replace")
                stream.write(text)
                last = last or next((line for line in reversed(text.splitlines()) if line.strip()), "")
        assert launched.state is not None
        if not launched.has_ended and not launched.state.is_done and launched.state.task_run_id is not None:
            with suppress(*API_ERRORS):
                jobs = self.databricks_runner.client.workspace_client.jobs
                last = jobs.get_run_output(launched.state.task_run_id).error or last
        return last[:500]

    def _cancel(self, launched: _Launched) -> None:
        if launched.run_id is None or (launched.state is not None and launched.state.is_over):
            return
        try:
            self.databricks_runner.client.workspace_client.jobs.cancel_run(launched.run_id)
        except API_ERRORS as error:
            launched.context.log.warning(
                "Databricks run %d could not be cancelled: %s. Its time limit ends it. %s",
                launched.run_id,
                error,
                launched.page,
            )

    def _failure(self, launched: _Launched, description: str) -> dg.Failure:
        page = {"databricks_run": dg.MetadataValue.url(launched.page)} if launched.page else {}
        return dg.Failure(description=description, metadata=page)


def step_launcher(settings: Settings) -> ReplayingStepLauncher:
    """The launcher of these settings.

    Raises:
        LauncherError: the installed Dagster is not a tested version, or the workspace refuses to sign in.
    """
    return _signed_in(settings.databricks.host, lambda: ReplayingStepLauncher(settings))


def _signed_in(host: str | None, call: Callable[[], T]) -> T:
    """The result of the call; a refusal is raised without its cause, which may hold credentials."""
    try:
        return call()
    except (ValueError, *API_ERRORS) as error:
        reason = why_refused(error, f"signing in to {host}", _RIGHTS, "")
    raise LauncherError(reason)


class _Launched:
    """The progress of a launched step: current activity, run, and last known state."""

    def __init__(self, context: dg.StepExecutionContext, folder: str) -> None:
        self.context = context
        self.folder = folder
        self.doing = ""
        self.run_id: int | None = None
        self.state: RunState | None = None
        self.has_ended = False

    @property
    def step_key(self) -> str:
        return self.context.step.key

    @property
    def activity(self) -> str:
        return f"{self.step_key}, {self.doing}"

    @property
    def page(self) -> str:
        return self.state.page if self.state else ""


def _started(step_context: dg.StepExecutionContext, state: RunState) -> dg.DagsterEvent:
    page = {"databricks_run": dg.MetadataValue.url(state.page)} if state.page else {}
    return dg.DagsterEvent.from_step(
        event_type=dg.DagsterEventType.ENGINE_EVENT,
        step_context=step_context,
        message=f"Databricks run {state.run_id} was submitted. {state.page}",
        event_specific_data=EngineEventData(metadata=page),
    )
