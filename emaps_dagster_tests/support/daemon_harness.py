"""Days in minutes: Dagster's own daemon loops, in this process, on a clock that the test turns.

Scheduler, sensors and run queue are Dagster's; the API is the simulator; runs are whole and real.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from fractions import Fraction
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import dagster as dg
from dagster._core.instance_for_test import instance_for_test
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context, get_freezable_log_manager
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.run_coordinator import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs

from emaps_dagster.contracts.settings import read_settings
from emaps_dagster.contracts.windows import Window
from emaps_dagster.defs.instance.runs import tags_of
from emaps_dagster.defs.names import HOURLY
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.pipeline_harness import stored_rows

ROOT = Path(__file__).resolve().parents[2]
# What `dagster -m emaps_dagster.definitions` loads, read anew: the module itself is loaded once a process.
_CODE = """
from emaps_dagster.definitions import build_definitions
from emaps_dagster.contracts.settings import read_settings

defs = build_definitions(read_settings())
"""
# The same without the checks and reports, which other tests judge, and which take half of the time.
_WITHOUT_CHECKS = """
import dagster as dg

whole = defs
defs = dg.Definitions(
    assets=whole.assets, jobs=whole.jobs, sensors=whole.sensors,
    schedules=[schedule for schedule in whole.schedules if schedule.name == "hourly_tick"],
    resources=whole.resources, executor=whole.executor,
)
"""
_LAUNCHER = {"module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher"}
_EVENTS = {"module": "harness.dagster_runs", "class": "QuickEventLog"}


class Chat:
    """A webhook that keeps what it receives; while `down` it answers 500."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.down = False
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not chat.down:
                    chat.messages.append(body["text"])
                self.send_response(500 if chat.down else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/T0/s3cret-of-the-chat"

    def __enter__(self) -> Chat:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Machine:
    """A machine with the project on it: the clock is `now`, `tick`, `look` and `work` are its daemon's iterations."""

    def __init__(self, folder: Path, simulator: Simulator, now: datetime) -> None:
        self.warehouse = folder / "warehouse"
        self.simulator = simulator
        self.instance: dg.DagsterInstance
        self._logger = logging.getLogger("days")
        self._logger.setLevel(logging.CRITICAL)
        self._iterations: dict[str, Any] = {}
        self.set(now)

    def set(self, now: datetime) -> None:
        self.now = now
        self.simulator.set_now(now)

    def tick(self) -> None:
        """The scheduler looks at the clock, and what it launches runs."""
        list(launch_scheduled_runs(self._workspace, self._logger, self.now, iteration_times=self._iterations))
        self.work()

    def look(self) -> None:
        """Every sensor whose interval is over evaluates, and what it asks for runs."""
        list(execute_sensor_iteration(self._workspace, self._logger, None, None))
        self.work()

    def backfill(self, window: Window) -> None:
        """A range in one run, as a person starts it."""
        from emaps_dagster.definitions import build_definitions

        job = build_definitions(read_settings()).resolve_job_def(HOURLY)
        assert job.execute_in_process(instance=self.instance, tags=tags_of(window), raise_on_error=False).success

    def work(self) -> None:
        """The queue is worked off."""
        while self.instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])):
            list(QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(self._workspace, self.now.timestamp()))

    def restart(self) -> None:
        """The daemon is another process: what it held in memory is gone."""
        self._iterations = {}

    def runs(self) -> list[dg.DagsterRun]:
        """All runs, the first first."""
        return list(self.instance.get_runs())[::-1]

    def calls(self, since: int) -> dict[str, float]:
        """Calls from a request on, by the last word of their path; the six tries of one that meets 5xx are one."""
        found: dict[str, Fraction] = defaultdict(Fraction)
        for request in self.simulator.requests[since:]:
            name = urlsplit(request.path).path.rpartition("/")[2]
            # Sensors try once, runs as often as the client does.
            tried = 1 if name in ("updated-since", "zones") or request.status < HTTPStatus.INTERNAL_SERVER_ERROR else 6
            found[name] += Fraction(1, tried)
        return {name: float(calls) for name, calls in found.items()}

    def rows(self, table: Any) -> dict[tuple[str, datetime], dict[str, Any]]:
        return stored_rows(self.warehouse, table)

    def assert_no_look_failed(self) -> None:
        for state in self.instance.all_instigator_state():
            for tick in self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1):
                assert tick.error is None, tick.error.to_string()

    def said(self, sensor: str) -> str:
        """What the last look of a sensor says in the UI."""
        (state,) = [s for s in self.instance.all_instigator_state() if s.instigator_name == sensor]
        (tick,) = self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        assert tick.error is None, tick.error.to_string()
        return tick.skip_reason or f"{len(tick.run_ids)} runs"


@contextmanager
def machine(
    folder: Path, simulator: Simulator, now: datetime, *, checks: bool = True, **settings: str
) -> Iterator[Machine]:
    """A machine on an empty folder; `settings` are those of `.env.example` without `EMAPS_`."""
    code = folder / "code.py"
    code.write_text(_CODE if checks else _CODE + _WITHOUT_CHECKS)
    made = Machine(folder, simulator, now)
    environment = {f"EMAPS_{name.upper()}": value for name, value in settings.items()}
    environment |= {"EMAPS_API_URL": simulator.url, "EMAPS_WAREHOUSE": str(made.warehouse)}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict("os.environ", environment))
        for name, clock in (
            ("dagster._time._mockable_get_current_datetime", lambda: made.now),
            ("dagster._time._mockable_get_current_timestamp", lambda: made.now.timestamp()),  # noqa: PLW0108  # the clock is turned
            ("emaps_dagster.defs.resources.electricity_maps.utc_now", lambda: made.now),
            # Time stands still while a client waits before it tries again.
            ("tenacity.nap.time", SimpleNamespace(sleep=lambda _seconds: None)),
        ):
            stack.enter_context(mock.patch(name, clock))
        stack.enter_context(mock.patch("dagster._core.log_manager.DagsterLogManager", get_freezable_log_manager()))
        home = folder / "home"
        home.mkdir()
        events = {**_EVENTS, "config": {"base_dir": str(home / "events")}}
        made.instance = stack.enter_context(
            instance_for_test(
                overrides={
                    "run_launcher": _LAUNCHER,
                    "event_log_storage": events,
                    "python_logs": {"python_log_level": "ERROR"},
                    "concurrency": {"pools": {"default_limit": 1, "granularity": "op"}},
                },
                temp_dir=str(home),
            )
        )
        target = InProcessWorkspaceLoadTarget(
            InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file=str(code), attribute="defs"))
        )
        made._workspace = stack.enter_context(create_test_daemon_workspace_context(target, made.instance))
        yield made
