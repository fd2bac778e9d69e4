"""A submitted Databricks run: its state, the events that it has written of each step, its output, its end."""

from __future__ import annotations

import logging
import posixpath
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import dagster as dg
from dagster_databricks.databricks import DatabricksJobRunner

from emaps_dagster.defs.resources.databricks.event_files import OUTPUT, entries_of, event_file, printed_of
from emaps_dagster.defs.resources.databricks.event_provenance import EventProvenance
from emaps_dagster.defs.resources.databricks.retries import API_ERRORS, with_retries
from emaps_dagster.defs.resources.databricks.run_state import RunState, state_of
from emaps_dagster.defs.resources.databricks.staging import Staging
from emaps_dagster.defs.resources.databricks.step_batch import lost_steps

# The API shows the last files that a cluster writes with a delay.
DELIVERY_SECONDS = 60.0
# A cancelled run ends within seconds.
_CANCEL_SECONDS = 20.0
# Of the process that runs a step, which this one has too; in a run of one step they carry its key.
_OF_THE_PROCESS = (dg.DagsterEventType.RESOURCE_INIT_STARTED, dg.DagsterEventType.RESOURCE_INIT_SUCCESS)
ENDS = (dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY)


class LaunchedRun:
    """A Databricks run of several steps, from its staging to its end.

    Attributes:
        entries: of each step that has not ended yet, the entries that wait to be replayed.
        provenance: rebinds them.
        run_id: of the Databricks run, once it is submitted.
        state: the last known one.
        is_read: whether the last event file has been read.
    """

    def __init__(
        self,
        runner: DatabricksJobRunner,
        staging: Staging,
        folder: str,
        step_contexts: Sequence[dg.StepExecutionContext],
    ) -> None:
        self._runner = runner
        self._staging = staging
        self._context = step_contexts[0]
        needed = self._context.plan_data.execution_plan.get_executable_step_deps()
        self._dependencies = {context.step.key: needed[context.step.key] for context in step_contexts}
        self._failed: set[str] = set()
        self._files = 0
        self._submitted = 0.0
        self._refreshed = 0.0
        self._over: float | None = None
        self.folder = folder
        self.entries: dict[str, deque[dg.EventLogEntry]] = {key: deque() for key in self._dependencies}
        self.provenance = EventProvenance(step_contexts)
        self.run_id: int | None = None
        self.state: RunState | None = None
        self.is_read = False

    @property
    def step_keys(self) -> list[str]:
        """All steps of the run, in their order."""
        return list(self._dependencies)

    @property
    def page(self) -> str:
        return self.state.page if self.state else ""

    @property
    def doing(self) -> str:
        """What a failed call was for."""
        if self.run_id is not None:
            return f"following run {self.run_id}"
        return "submitting the run" if self._submitted else f"staging in {self.folder}"

    @property
    def is_over(self) -> bool:
        return self.state is not None and self.state.is_over

    @property
    def seconds(self) -> float:
        """Seconds since the submit."""
        return time.monotonic() - self._submitted

    @property
    def is_delivered(self) -> bool:
        """Whether no event can arrive any more: all are read, or the run is over and the API had time to show them."""
        assert self.state is not None
        if self.is_read or not self.state.is_done:
            return self.is_over
        return self._over is not None and time.monotonic() - self._over > DELIVERY_SECONDS

    @property
    def pause(self) -> float:
        """Seconds between two requests for the run's state."""
        return min(1.0, self._poll) if self.is_over or self.is_read else self._poll

    @property
    def _poll(self) -> float:
        return float(self._runner.poll_interval_sec)

    @property
    def can_go_on(self) -> bool:
        """Whether a step may still come: none of its inputs has failed, and its end was not replayed."""
        return not self.entries.keys() <= lost_steps(self._dependencies, self._failed)

    def submit(self, submit: Callable[[], int]) -> None:
        """Submit the run by a call that returns its id; a repeated call must return the same run."""
        self._submitted = time.monotonic()
        self.run_id = with_retries(submit)
        self.refresh()

    def refresh(self, after: float = 0.0) -> None:
        """Request the state, until the run is over, unless that was done less than `after` seconds ago."""
        if self.is_over or time.monotonic() - self._refreshed < after:
            return
        assert self.run_id is not None
        self.state = state_of(self._runner.client.workspace_client, self.run_id)
        self._refreshed = time.monotonic()
        if self.state.is_over:
            self._over = self._refreshed

    def read(self) -> bool:
        """Read the event files that are new, and sort their entries by step; whether there was one."""
        before = self._files
        while not self.is_read:
            content = self._staging.get(posixpath.join(self.folder, event_file(self._files)))
            found = entries_of(content, self._context.run_id) if content else None
            if found is None:
                break
            self._files += 1
            entries, self.is_read = found
            for entry in entries:
                # Those of no step, and of a step that is not executed, are Dagster's own on this machine.
                event = entry.dagster_event
                if entry.step_key in self.entries and (event is None or event.event_type not in _OF_THE_PROCESS):
                    self.entries[entry.step_key].append(entry)
        return self._files > before

    def end_step(self, key: str, event: dg.DagsterEventType) -> None:
        """The end of a step was replayed; one that is tried again is a step of another run."""
        del self.entries[key]
        if event is not dg.DagsterEventType.STEP_SUCCESS:
            self._failed.add(key)

    def wait(self, seconds: float = DELIVERY_SECONDS) -> None:
        """Wait until Databricks has ended a run whose steps have all ended, or that is cancelled."""
        until = time.monotonic() + seconds
        while not self.is_over and time.monotonic() < until:
            time.sleep(min(1.0, self._poll))
            self.refresh()

    def echo(self) -> str:
        """Print the run's output, as local steps would; returns its last line, or the error of a failed run."""
        last = ""
        # Output that cannot be read is skipped: the events are stored already.
        with suppress(*API_ERRORS):
            printed = printed_of(self._staging.get(posixpath.join(self.folder, OUTPUT)) or b"{}")
            for text, stream in zip(printed, (sys.stdout, sys.stderr), strict=True):
                stream.write(text)
                last = last or next((line for line in reversed(text.splitlines()) if line.strip()), "")
        if self.state and self.is_over and not self.state.is_done and self.state.task_run_id is not None:
            with suppress(*API_ERRORS):
                jobs = self._runner.client.workspace_client.jobs
                last = jobs.get_run_output(self.state.task_run_id).error or last
        return last[:500]

    def remove(self, log: logging.Logger) -> None:
        """Cancel the run unless it is over, and remove its files. Failures are logged, not raised."""
        if self.run_id is not None and not self.is_over:
            try:
                self._runner.client.workspace_client.jobs.cancel_run(self.run_id)
                # Until it has ended, its task may write files that nobody would remove.
                self.wait(_CANCEL_SECONDS)
            except API_ERRORS as error:
                log.warning(
                    "Databricks run %d could not be cancelled: %s. Its time limit ends it. %s",
                    self.run_id,
                    error,
                    self.page,
                )
        self._staging.remove(self.folder)
