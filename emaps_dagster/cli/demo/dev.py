"""`python -m emaps_dagster.cli.demo.dev`: Dagster's UI and daemon on the demo's data, with the simulator as API.

With EMAPS_API_TOKEN or EMAPS_API_URL set it uses the real API and other tables. See `make dev`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
from rich.console import Console

from emaps_dagster.cli.demo.folder import DemoFolder
from emaps_dagster.cli.demo.scenario import TOKEN, ZONE, revise
from emaps_dagster.cli.demo.timeline import Times
from emaps_dagster.cli.home import HERE, prepare
from emaps_dagster.contracts.errors import EmapsError
from emaps_dagster.contracts.settings import PUBLIC_API_URL, Settings, read_settings
from emaps_dagster.contracts.windows import floor_hour, utc_now
from emaps_dagster.simulator.server import Simulator

_CHECKOUT = Path(__file__).resolve().parents[3]
# Dagster's default port.
_PORT = 3000
_STARTS_WITHIN_SECONDS = 120
# `dagster dev` gives each of its children 10 s before it kills them.
_ENDS_WITHIN_SECONDS = 30
# Days that can be backfilled from the UI if no demo ran before and there is no data.
_DAYS_WITHOUT_DEMO = 14
_SCHEDULE = {
    "repositoryLocationName": "emaps_dagster",
    "repositoryName": "__repository__",
    "scheduleName": "hourly_tick",
}
_LOCATIONS = """{ workspaceOrError { ... on PythonError { message } ... on Workspace { locationEntries {
    locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
# `canReset` is true if a user has switched the schedule.
_SCHEDULE_STATE = """query ($schedule: ScheduleSelector!) { scheduleOrError(scheduleSelector: $schedule) {
    ... on Schedule { canReset scheduleState { status } } } }"""
_START_SCHEDULE = """mutation ($schedule: ScheduleSelector!) { startSchedule(scheduleSelector: $schedule) {
    ... on PythonError { message } } }"""


class DevError(EmapsError):
    """Dagster did not start, or ended."""


def main() -> int:
    """Serve until Ctrl-C or SIGTERM; returns 0 then, and 1 after an error."""
    parser = argparse.ArgumentParser(prog="python -m emaps_dagster.cli.demo.dev", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="the demo's (default: demo)")
    parser.add_argument("--port", type=int, default=_PORT, help="another free one if it is taken (default: 3000)")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=True)
    # Explicit handlers: a child of a background shell inherits an ignored SIGINT.
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        settings = read_settings()
        if settings.api_token is not None or settings.api_url != PUBLIC_API_URL:
            _with_api(console, settings, options.port, ended)
        else:
            _with_simulator(console, DemoFolder(options.folder.resolve()), options.port, ended)
    except EmapsError as error:
        console.print(f"[red]{error}")
        return 1
    return 0


def _with_simulator(console: Console, folder: DemoFolder, port: int, ended: threading.Event) -> None:
    with folder.claimed(), Simulator(token=TOKEN, zones=(ZONE,)) as simulator:
        if folder.is_prepared and folder.power_signal == "electricity-mix":
            simulator.version = "v4"
        if not folder.is_prepared:
            console.print("There was no `make demo` yet: tables are empty until you materialize some hours.")
            folder.prepare(ZONE, floor_hour(utc_now()) - timedelta(days=_DAYS_WITHOUT_DEMO))
        elif folder.present:
            # The same revisions as in the demo, or the next tick would undo them.
            revise(simulator, Times.until(folder.present, days=1))
        console.print(f"Simulated Electricity Maps API: {simulator.url} (set EMAPS_API_TOKEN for the real one)")
        environment = folder.environment(simulator.url, TOKEN)
        # The folder holds no .env, so no settings of the user apply.
        _serve(console, environment, folder.root, folder.root / "dev.log", port, ended)


def _with_api(console: Console, settings: Settings, port: int, ended: threading.Event) -> None:
    home = prepare(Path(os.environ.get("DAGSTER_HOME") or HERE))
    console.print(
        f"Your settings name an API, so this is no simulation: {settings.api_url}, zones {', '.join(settings.zones)}, "
        f"tables in {settings.warehouse.resolve()}, Dagster's home {home}."
    )
    _serve(console, {**os.environ, "DAGSTER_HOME": str(home)}, Path.cwd(), home / "dev.log", port, ended)


def _serve(
    console: Console, environment: dict[str, str], where: Path, log: Path, port: int, ended: threading.Event
) -> None:
    """Run `dagster dev` until `ended`; its output goes to a file."""
    port = free_port(port)
    address = f"http://127.0.0.1:{port}"
    with log.open("ab") as output, _dagster(environment, where, port, output) as process:
        console.print(f"Dagster starts, its log is {log} ...")
        try:
            if _until_up(process, address, ended):
                on = "on: it runs at minute 7 of every hour" if _start_schedule(address) else "off"
                console.print(f"The schedule hourly_tick is {on}.")
                console.print(f"[bold green]Dagster's UI: {address}[/]   (Ctrl-C ends it)")
            while not ended.wait(0.5):
                _check_alive(process)
        except DevError as error:
            raise DevError(f"{error} The end of {log} says why:\n{_tail(log)}") from error
    console.print("Ended; nothing is left running.")


@contextmanager
def _dagster(environment: dict[str, str], where: Path, port: int, output: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run `dagster dev` in its own session; at the end it is stopped with all its children."""
    path = os.pathsep.join(filter(None, (str(_CHECKOUT), environment.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(_CHECKOUT / "workspace.yaml")]
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and arguments
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env={**environment, "PYTHONPATH": path},
        cwd=where,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        # A Ctrl-C at the terminal reaches this process only, which forwards it once.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_ENDS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Active runs survive the server that started them.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _until_up(process: subprocess.Popen[bytes], address: str, ended: threading.Event) -> bool:
    """Wait for the UI; returns False if `ended` was set before.

    Raises:
        DevError: Dagster ended, did not start in time, or could not load our code.
    """
    deadline = time.monotonic() + _STARTS_WITHIN_SECONDS
    while not ended.wait(0.25):
        _check_alive(process)
        if time.monotonic() > deadline:
            raise DevError(f"Dagster was not up after {_STARTS_WITHIN_SECONDS} s.")
        try:
            found = ask(address, _LOCATIONS)["workspaceOrError"]
        except requests.ConnectionError:
            continue
        locations = [entry["locationOrLoadError"] for entry in found.get("locationEntries", [])]
        for problem in [found, *filter(None, locations)]:
            if "message" in problem:
                raise DevError(f"Dagster could not load our code: {problem['message'].strip()}")
        if locations and all(locations):
            return True
    return False


def _check_alive(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise DevError(f"Dagster ended by itself with code {process.returncode}.")


def _start_schedule(address: str) -> bool:
    """Turn the schedule on, unless a user has turned it off; returns whether it is on."""
    found = ask(address, _SCHEDULE_STATE, schedule=_SCHEDULE)["scheduleOrError"]
    if "scheduleState" not in found:
        raise DevError("Dagster does not know the schedule hourly_tick.")
    if found["scheduleState"]["status"] == "STOPPED" and not found["canReset"]:
        ask(address, _START_SCHEDULE, schedule=_SCHEDULE)
        found = ask(address, _SCHEDULE_STATE, schedule=_SCHEDULE)["scheduleOrError"]
    return bool(found["scheduleState"]["status"] == "RUNNING")


def ask(address: str, query: str, *, timeout: float = 30, **variables: Any) -> dict[str, Any]:
    """The data of a GraphQL query to the UI."""
    response = requests.post(f"{address}/graphql", json={"query": query, "variables": variables}, timeout=timeout)
    response.raise_for_status()
    body: dict[str, Any] = response.json()
    if body.get("errors"):
        raise DevError(f"Dagster did not understand a query: {json.dumps(body['errors'])[:500]}")
    data: dict[str, Any] = body["data"]
    return data


def free_port(wanted: int) -> int:
    """The wanted port if it is free, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise DevError("There is no free port on 127.0.0.1.")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


if __name__ == "__main__":
    sys.exit(main())
