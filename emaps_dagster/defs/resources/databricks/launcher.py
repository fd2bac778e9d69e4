"""Step launcher on dagster-databricks: one Databricks run for the steps of a Dagster run, whose events are replayed.

It stages this package only, removes the staged files, reports why a run failed, and rebinds events to this machine's
storage.
"""

from __future__ import annotations

import logging
import pickle
import posixpath
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.events import EngineEventData
from dagster_databricks.databricks_pyspark_step_launcher import (
    PICKLED_CONFIG_FILE_NAME,
    DatabricksPySparkStepLauncher,
)

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.defs.instance.versions import check_launcher_versions
from emaps_dagster.defs.resources.databricks.host_fetch import fetched_here
from emaps_dagster.defs.resources.databricks.launched_run import DELIVERY_SECONDS, ENDS, LaunchedRun
from emaps_dagster.defs.resources.databricks.retries import API_ERRORS, token_from, with_retries
from emaps_dagster.defs.resources.databricks.run_state import (
    failure_message,
    missing_end_message,
    timeout_message,
    why_refused,
)
from emaps_dagster.defs.resources.databricks.staging import staging
from emaps_dagster.defs.resources.databricks.step_batch import steps_that_follow
from emaps_dagster.defs.resources.databricks.step_environment import Exported
from emaps_dagster.defs.resources.databricks.submission import (
    PACKAGE,
    package_archive,
    run_config,
    secrets,
    serverless_run,
    variables,
)
from emaps_dagster.defs.resources.databricks.workspace_access import RIGHTS, grant, signed_in
from emaps_dagster.electricity_maps.recorded import Recording

logger = logging.getLogger(__name__)

# Sent as it is: it runs before the package can be imported on the cluster.
_MAIN = Path(__file__).with_name("cluster_main.py")
_STEPS, _CODE = "steps.pkl", "code.tar.xz"
# Between two event files: each costs one call, on a volume two. What a killed driver has not written is run again.
_FILE_SECONDS = (1.0, 5.0)
# Between two requests for a run's state at least, however often its events are asked for.
_STATE_SECONDS = 0.9


class ReplayingStepLauncher(DatabricksPySparkStepLauncher):
    """Runs the steps of a Dagster run in one Databricks run and replays their events here, with rebound provenance.

    An instance is for one Dagster run; `close` ends it.

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
        self.staging = staging(self.databricks_runner.client, settings.databricks.staging)
        self._runs: list[LaunchedRun] = []
        self._succeeded: set[str] = set()
        # Steps that follow no other step: those that failed, or that Dagster tries again in a moment.
        self._apart: set[str] = set()

    def launch_step(self, step_context: dg.StepExecutionContext) -> Iterator[dg.DagsterEvent]:
        """Replay the step from the Databricks run that has it; if none has, submit one with every step that follows.

        Raises:
            dg.Failure: the run failed, was cancelled or timed out, or the workspace refused a call.
            LauncherError: the workspace refuses to sign in, or an events file is not from our cluster.
        """
        key = step_context.step.key
        launched = next((run for run in self._runs if key in run.entries), None)
        try:
            if launched is None:
                launched = self._stage(step_context)
                yield self._submit(step_context, launched)
            else:
                yield _in_run(step_context, launched, f"This step is part of Databricks run {launched.run_id}.")
            yield from self._follow(step_context, launched)
            if not launched.can_go_on:
                with dg.raise_execution_interrupts():
                    self._leave(launched)
        except API_ERRORS as error:
            doing, page = (launched.doing, launched.page) if launched else ("signing in", "")
            remedy = self.staging.remedy if "staging" in doing else RIGHTS
            raise self._failure(page, why_refused(error, f"{key}, {doing}", remedy, page)) from None
        finally:
            # Also for an interrupted step, a failed one, and one whose generator was dropped.
            if key not in self._succeeded:
                self._apart.add(key)
            if launched and key in launched.entries:
                self._drop(launched, step_context.log)

    def close(self) -> None:
        """Leave all runs at the end of the Dagster run; a run with a step that no process waits for is cancelled."""
        for launched in list(self._runs):
            self._leave(launched)

    def _stage(self, step_context: dg.StepExecutionContext) -> LaunchedRun:
        with dg.raise_execution_interrupts():
            self.sign_in()
        elsewhere = {key for run in self._runs for key in run.entries}
        contexts = steps_that_follow(step_context, self._succeeded, self._apart | elsewhere)
        name = f"{step_context.step.key}_{step_context.previous_attempt_count}"
        folder = self.staging.folder(step_context.run_id, name)
        launched = LaunchedRun(self.databricks_runner, self.staging, folder, contexts)
        self._runs.append(launched)
        return launched

    def _submit(self, step_context: dg.StepExecutionContext, launched: LaunchedRun) -> dg.DagsterEvent:
        files = self._files(step_context, launched.step_keys)
        with dg.raise_execution_interrupts():
            self.staging.put(launched.folder, files)
        launched.submit(self._submission(self._task(launched.folder)))
        assert launched.state is not None
        client = self.databricks_runner.client.workspace_client
        grant(client, launched.state.job_id, self._settings.databricks.permissions, step_context.log)
        others = len(launched.step_keys) - 1
        text = f"Databricks run {launched.run_id} was submitted"
        return _in_run(step_context, launched, f"{text}, with {others} steps that follow." if others else f"{text}.")

    def _submission(self, task: dict[str, Any]) -> Callable[[], int]:
        """The call that submits a run; for a repeated idempotency token Databricks returns the same run."""
        token = uuid4().hex
        if self._settings.databricks.compute == "cluster":
            return partial(self.databricks_runner.submit_run, {**self.run_config, "idempotency_token": token}, task)
        body = serverless_run(self._settings, task, token)
        do = self.databricks_runner.client.workspace_client.api_client.do
        return lambda: int(do("POST", "/api/2.2/jobs/runs/submit", body=body)["run_id"])

    def sign_in(self) -> None:
        """Sign in to the workspace, if the kind of credentials needs a call for it.

        Raises:
            LauncherError: the workspace refuses.
        """
        sign_in = self.databricks_runner.client.workspace_client.config.authenticate
        signed_in(self.databricks_host, lambda: with_retries(sign_in))

    def exported(self, recordings: Mapping[str, Recording] | None = None) -> Exported:
        """What the compute gets before a step: environment variables, and answers that were fetched here."""
        config = self.create_remote_config()
        return Exported(config.env_variables, config.secrets, recordings or {})

    def _files(self, step_context: dg.StepExecutionContext, step_keys: Sequence[str]) -> dict[str, bytes]:
        recordings = {}
        if self._settings.databricks.fetch == "host":
            with dg.raise_execution_interrupts():
                recordings = fetched_here(self._settings, step_context, step_keys)
        step_run_ref = dg.step_context_to_step_run_ref(step_context, self.local_dagster_job_package_path)
        return {
            _MAIN.name: _MAIN.read_bytes(),
            _CODE: package_archive(),
            _STEPS: pickle.dumps((step_run_ref, list(step_keys))),
            PICKLED_CONFIG_FILE_NAME: pickle.dumps(self.exported(recordings)),
        }

    def _task(self, folder: str) -> dict[str, Any]:
        names = (_STEPS, PICKLED_CONFIG_FILE_NAME, _CODE)
        files = [self.staging.on_cluster(posixpath.join(folder, name)) for name in names]
        shortest, longest = _FILE_SECONDS
        seconds = min(longest, max(shortest, self._settings.databricks.poll_seconds))
        return {
            "spark_python_task": {
                "python_file": self.staging.uri(posixpath.join(folder, _MAIN.name)),
                "parameters": [*files, str(seconds)],
            }
        }

    def _follow(self, step_context: dg.StepExecutionContext, launched: LaunchedRun) -> Iterator[dg.DagsterEvent]:
        """Replay the step's events until its end has arrived."""
        key, longest = step_context.step.key, self.databricks_runner.max_wait_time_sec
        entries = launched.entries[key]
        while True:
            # Looked at before the files are read: what a run wrote before its end is among them.
            is_delivered, has_written = launched.is_delivered, False
            if not entries:
                with dg.raise_execution_interrupts():
                    has_written = launched.read()
            while entries:
                entry = launched.provenance.rebind(entries.popleft())
                step_context.instance.handle_new_event(entry)
                event = entry.dagster_event
                if event is None:
                    continue
                if event.event_type in ENDS:
                    self._note(launched, key, event.event_type)
                yield event
                if event.event_type in ENDS:
                    return
            assert launched.state is not None
            if is_delivered:
                raise self._failure(launched.page, self._why_without_end(launched, key))
            with dg.raise_execution_interrupts():
                if launched.seconds > longest:
                    launched.refresh()
                    if not launched.is_over:
                        raise self._failure(launched.page, timeout_message(launched.state, key, int(longest)))
                time.sleep(launched.pause)
                # A run that has just written is not over, or its end is the next thing to be seen.
                if not has_written:
                    launched.refresh(_STATE_SECONDS)

    def _note(self, launched: LaunchedRun, key: str, event: dg.DagsterEventType) -> None:
        launched.end_step(key, event)
        if event is dg.DagsterEventType.STEP_SUCCESS:
            self._succeeded.add(key)

    def _why_without_end(self, launched: LaunchedRun, key: str) -> str:
        last_line, state = launched.echo(), launched.state
        assert state is not None
        if state.is_done:
            return missing_end_message(state, key, launched.folder, DELIVERY_SECONDS)
        return failure_message(state, key, last_line, self._settings.databricks.timeout_seconds)

    def _leave(self, launched: LaunchedRun) -> None:
        """Leave a run that no step waits for: wait for its end, print its output, remove its files."""
        try:
            with suppress(*API_ERRORS):
                if not launched.can_go_on:
                    launched.wait()
            launched.echo()
        finally:
            self._drop(launched, logger)

    def _drop(self, launched: LaunchedRun, log: logging.Logger) -> None:
        """Cancel the run if it is not over, and remove its files."""
        if launched in self._runs:
            self._runs.remove(launched)
            launched.remove(log)

    def _failure(self, page: str, description: str) -> dg.Failure:
        metadata = {"databricks_run": dg.MetadataValue.url(page)} if page else {}
        return dg.Failure(description=description, metadata=metadata)


def step_launcher(settings: Settings) -> ReplayingStepLauncher:
    """The launcher of these settings.

    Raises:
        LauncherError: the installed Dagster is not a tested version, or the workspace refuses to sign in.
    """
    return signed_in(settings.databricks.host, lambda: ReplayingStepLauncher(settings))


def _in_run(step_context: dg.StepExecutionContext, launched: LaunchedRun, message: str) -> dg.DagsterEvent:
    page = {"databricks_run": dg.MetadataValue.url(launched.page)} if launched.page else {}
    return dg.DagsterEvent.from_step(
        event_type=dg.DagsterEventType.ENGINE_EVENT,
        step_context=step_context,
        message=f"{message} {launched.page}",
        event_specific_data=EngineEventData(metadata=page),
    )
