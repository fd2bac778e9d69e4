"""Main script of a launched run on Databricks: executes steps of one Dagster run as Dagster's executor does.

Parameters: the staged files `steps.pkl` (a StepRunRef and the keys of the steps), `config.pkl` (an object with `setup`)
and `code.tar.xz`, and the least seconds between two event files. The package is imported only after its archive is on
the path. Results are the files `events-000000.json`, `events-000001.json` and so on beside the parameters: lists of
Dagster's event log entries, each file written once. The last file's list ends with null. `output.json` holds what was
printed, as `stdout` and `stderr`; a run that printed nothing writes none. The staged files are removed once they are
read, this script among them: on a volume the host would remove each by a call of its own.
"""

from __future__ import annotations

import gc
import json
import pickle
import site
import sys
import tarfile
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

if __name__ == "__main__":
    # Imports and definitions make a million objects that stay: collections among them find nothing, and cost a second.
    gc.disable()

import dagster as dg
from dagster._core.execution.api import create_execution_plan, execute_plan_iterator

# What one call of the API returns stays small, also for a year's hours.
_ENTRIES_OF_A_FILE = 500
_SCRIPT = "cluster_main.py"
# The staging folder is a network file system, which may fail for a moment.
_TRIES = 5


class EventWriter(threading.Thread):
    """Writes event log entries to numbered files while the steps go on.

    Args:
        folder: the staging folder, as the cluster sees it.
        seconds: between two files at least; each costs the host one call, on a volume two.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__(name="events")
        self._folder = folder
        self._seconds = seconds
        self._entries: SimpleQueue[dg.EventLogEntry | None] = SimpleQueue()
        self._number = 0
        self.error: OSError | None = None

    def add(self, entry: dg.EventLogEntry) -> None:
        """Write the entry with the next file."""
        self._entries.put(entry)

    def end(self) -> None:
        """Write what is left and the last file.

        Raises:
            OSError: a file could not be written.
        """
        self._entries.put(None)
        self.join()
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            ended = False
            while not ended:
                entries, ended = self._next()
                parts = [entries[at : at + _ENTRIES_OF_A_FILE] for at in range(0, len(entries), _ENTRIES_OF_A_FILE)]
                for part in parts[:-1] if ended else parts:
                    self._write(part)
            self._write([*(parts[-1] if parts else []), None])
        except OSError as error:
            self.error = error

    def _next(self) -> tuple[list[dg.EventLogEntry], bool]:
        """All entries of the next seconds, and whether they are the last."""
        entries: list[dg.EventLogEntry] = []
        until = time.monotonic() + self._seconds
        while (left := until - time.monotonic()) > 0 or not entries:
            try:
                entry = self._entries.get(timeout=left if left > 0 else None)
            except Empty:
                continue
            if entry is None:
                return entries, True
            entries.append(entry)
        return entries, False

    def _write(self, entries: Sequence[dg.EventLogEntry | None]) -> None:
        path = self._folder / f"events-{self._number:06}.json"
        content = dg.serialize_value(entries).encode()
        for attempt in range(1, _TRIES + 1):
            try:
                path.write_bytes(content)
                break
            except OSError:
                if attempt == _TRIES:
                    raise
                time.sleep(attempt)
        self._number += 1


def execute(reference: dg.StepRunRef, step_keys: list[str], instance: dg.DagsterInstance) -> None:
    """Execute the steps; what depends on a failed one is not executed."""
    run = reference.dagster_run
    job: Any = reference.recon_job
    selection = {
        "op_selection": run.resolved_op_selection,
        "asset_selection": run.asset_selection,
        # Dagster's own `run_step_from_ref` drops these, and so runs all checks of a table.
        "asset_check_selection": run.asset_check_selection,
    }
    if any(part is not None for part in selection.values()):
        job = job.get_subset(**selection)
    plan = create_execution_plan(
        job,
        reference.run_config,
        step_keys_to_execute=step_keys,
        known_state=reference.known_state,
        repository_load_data=reference.recon_job.repository.repository_load_data,
    )
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    # A step that requests a retry is left to the host, with all that depends on it.
    retry_mode = reference.retry_mode.for_inner_plan()
    for _ in execute_plan_iterator(plan, job, run, instance, retry_mode=retry_mode, run_config=reference.run_config):
        pass


def main(steps_path: str, setup_path: str, code_path: str, seconds: str) -> None:
    """Execute the staged steps and write their events."""
    folder = Path(steps_path).parent
    with tempfile.TemporaryDirectory() as code, StringIO() as out, StringIO() as err:
        try:
            with redirect_stdout(out), redirect_stderr(err):
                try:
                    with tarfile.open(code_path) as packed:
                        packed.extractall(code, filter="data")
                    site.addsitedir(code)
                    # Globals of a script on Databricks.
                    given = [globals().get(name) for name in ("dbutils", "spark")]
                    pickle.loads(Path(setup_path).read_bytes()).setup(*given)  # noqa: S301
                    reference, step_keys = pickle.loads(Path(steps_path).read_bytes())  # noqa: S301
                    _remove(steps_path, setup_path, code_path, str(folder / _SCRIPT))
                    writer = EventWriter(folder, float(seconds))
                    writer.start()
                    try:
                        with dg.DagsterInstance.ephemeral() as instance:
                            instance.add_event_listener(reference.run_id, writer.add)
                            execute(reference, step_keys, instance)
                    finally:
                        writer.end()
                except Exception:
                    traceback.print_exc()
                    raise
        finally:
            printed = {"stdout": out.getvalue(), "stderr": err.getvalue()}
            sys.stdout.write(printed["stdout"])
            sys.stderr.write(printed["stderr"])
            if any(printed.values()):
                with suppress(OSError):
                    (folder / "output.json").write_text(json.dumps(printed))


def _remove(*paths: str) -> None:
    for path in paths:
        # The host removes what is left.
        with suppress(OSError):
            Path(path).unlink()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:5])
    finally:
        # The process ends, and its last collections would go through all objects again.
        gc.freeze()
        gc.enable()
