"""deploy/ as it is, on a real PostgreSQL: the processes and health checks of compose.yaml, a run that is killed, pools.

What differs from a deployment: everything is on 127.0.0.1 at free ports, and some waiting is shortened.

A killed backfill of a year:
EMAPS_TEST_YEAR=1 .venv/bin/pytest -s -k year emaps_dagster_tests/system/test_deploy_runs.py
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
import yaml
from deltalake import DeltaTable

from emaps_dagster.cli.demo.dev import ask, free_port
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, utc_now
from emaps_dagster.defs.instance.runs import tags_of
from emaps_dagster.simulator.faults import Fault
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.pipeline_harness import stored_rows
from harness import postgres_server as postgres

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "deploy"
TOKEN = "token-of-a-deployment"
pytestmark = [
    pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL on this machine: apt-get install postgresql"),
    pytest.mark.timeout(1200),
]
# So many days are partitions.
DAYS = 367 if "EMAPS_TEST_YEAR" in os.environ else 1
# The machine may be busy with other things.
PATIENCE_SECONDS = 240
LOCATION = {"repositoryLocationName": "emaps_dagster", "repositoryName": "__repository__"}
LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
LOADED = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError {
    __typename ... on PythonError { message } } } } } }"""
ON = """query ($in: RepositorySelector!) { repositoryOrError(repositorySelector: $in) { ... on Repository {
    schedules { scheduleState { id selectorId status } } sensors { sensorState { id selectorId status } } } } }"""
STOP_SCHEDULE = """mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename } }"""
STOP_SENSOR = """mutation ($id: String!) { stopSensor(id: $id) { __typename } }"""


def wait_until(what: str, holds: Any, said: Any = lambda: "", patience: float = PATIENCE_SECONDS) -> Any:
    """What `holds` returns once it is true."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.3)
    raise AssertionError(f"not within {patience} s: {what}\n{said()}")


@dataclass
class Deployment:
    """The services of compose.yaml as processes of this machine."""

    root: Path
    environment: dict[str, str]
    ports: dict[str, str]
    instance: dg.DagsterInstance
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    compose: dict[str, Any] = field(default_factory=lambda: yaml.safe_load((DEPLOY / "compose.yaml").read_text()))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.ports['3000']}"

    def here(self, words: list[str]) -> list[str]:
        """A command of compose.yaml with its places replaced by those of this machine."""
        places = {"0.0.0.0": "127.0.0.1", "/opt/emaps/entrypoint.sh": str(DEPLOY / "entrypoint.sh"), **self.ports}
        places |= {"/opt/emaps/workspace.yaml": str(DEPLOY / "workspace.yaml")}
        words = [places.get(word, word).replace("127.0.0.1:3000", f"127.0.0.1:{self.ports['3000']}") for word in words]
        return [sys.executable if word == "python" else word for word in words]

    def start(self, service: str) -> None:
        command = ["sh", str(DEPLOY / "entrypoint.sh"), *self.here(self.compose["services"][service]["command"])]
        with self.log(service).open("ab") as log:
            self.processes[service] = subprocess.Popen(
                command, cwd=self.root, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def is_healthy(self, service: str) -> bool:
        test = self.compose["services"][service]["healthcheck"]["test"]
        assert test[0] == "CMD"
        assert self.processes[service].poll() is None, self.said(service)
        # A health check is a Dagster of its own: not before there is somebody to ask.
        if not self.is_listening(service):
            return False
        done = subprocess.run(
            self.here(test[1:]), cwd=self.root, env=self.environment, capture_output=True, check=False
        )
        return done.returncode == 0

    def is_listening(self, service: str) -> bool:
        """It answers at its port; the daemon, which has none, has reported once."""
        port = {"code": "4000", "webserver": "3000"}.get(service)
        if port is None:
            return set(self.instance.get_required_daemon_types()) <= set(self.instance.get_daemon_heartbeats())
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", int(self.ports[port]))) == 0

    def log(self, service: str) -> Path:
        return self.root / f"{service}.log"

    def said(self, *services: str) -> str:
        return "\n".join(f"{s}:\n{self.log(s).read_text()[-4000:]}" for s in services or self.processes)

    def launch(self, hours: datetime | Window) -> str:
        """Start the hourly job by the webserver, for an hour or for a range in one run."""
        tags = tags_of(hours) if isinstance(hours, Window) else {"dagster/partition": partition_key(hours)}
        params = {
            "selector": {**LOCATION, "jobName": "hourly"},
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        # A year is 35,000 events before its run begins.
        launched = ask(self.address, LAUNCH, timeout=2 * PATIENCE_SECONDS, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def status(self, run_id: str) -> str:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status.value

    def messages(self, run_id: str) -> list[str]:
        return [entry.message for entry in self.instance.all_logs(run_id)]

    def worker(self, run_id: str, step: str) -> int | None:
        """The process of a run that is in an asset's step."""
        # A year's run has 35,000 other events.
        kinds = {dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.STEP_START}
        messages = [entry.message for entry in self.instance.all_logs(run_id, of_type=kinds)]
        at_work = any(step in m and "Started execution" in m for m in messages)
        pids = [match for m in messages if (match := re.search(r"Started process for run \(pid: (\d+)\)", m))]
        return int(pids[0][1]) if pids and at_work else None

    def retry(self, run_id: str) -> str | None:
        """The run that tries a run again."""
        again = self.instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run_id}))
        return again[0].run_id if again else None

    def steps(self, run_id: str) -> dict[str, tuple[float, float]]:
        """When each asset's step began and ended."""
        times: dict[str, list[float]] = {}
        for entry in self.instance.all_logs(run_id):
            if entry.dagster_event_type in (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS):
                assert entry.step_key is not None
                times.setdefault(entry.step_key, []).append(entry.timestamp)
        return {step: (began, ended) for step, (began, ended) in times.items() if not step.startswith("check_")}

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            # Its children are in its group, and nobody else is.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def deployed(root: Path, simulator: Simulator, database: dict[str, str]) -> Iterator[Deployment]:
    home, secrets = root / "home", root / "secrets"
    for folder in (home, secrets):
        folder.mkdir()
    shutil.copy(DEPLOY / "dagster.yaml", home)
    waiting = {"poll_interval_seconds": 2, "free_slots_after_run_end_seconds": 1}
    settings = yaml.safe_load((home / "dagster.yaml").read_text())
    settings["run_monitoring"] |= waiting
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    (secrets / "emaps_api_token").write_text(f"{TOKEN}\n")
    (secrets / "dagster_postgres_password").write_text(f"{database['DAGSTER_POSTGRES_PASSWORD']}\n")
    ports = {"4000": str(free_port(0)), "3000": str(free_port(0))}
    others = {n: v for n, v in os.environ.items() if not n.startswith(("EMAPS_", "DAGSTER_"))}
    environment = {
        **others,
        **{name: value for name, value in database.items() if name != "DAGSTER_POSTGRES_PASSWORD"},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), others["PATH"]]),
        "PYTHONPATH": str(CHECKOUT),
        "SECRETS": str(secrets),
        "DAGSTER_HOME": str(home),
        "DAGSTER_CODE_HOST": "127.0.0.1",
        "DAGSTER_CODE_PORT": ports["4000"],
        "EMAPS_API_URL": simulator.url,
        "EMAPS_WAREHOUSE": str(root / "warehouse"),
        "EMAPS_START": f"{floor_hour(utc_now()) - DAYS * 24 * HOUR:%Y-%m-%dT%H:%M}",
    }
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, value in database.items():
            patch.setenv(name, value)
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        deployment = Deployment(root, environment, ports, instance)
        stack.callback(deployment.end)
        yield deployment


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(token=TOKEN, zones=("GR",)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def deployment(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Everything up, what runs by itself switched off: the test says what runs."""
    root = tmp_path_factory.mktemp("deployment")
    with postgres.server(durable=False) as database, deployed(root, simulator, database) as deployment:
        deployment.start("code")
        wait_until("the code server is healthy", lambda: deployment.is_healthy("code"), deployment.said)
        deployment.start("webserver")
        wait_until("the webserver is healthy", lambda: deployment.is_healthy("webserver"), deployment.said)
        found = ask(deployment.address, ON, **{"in": LOCATION})["repositoryOrError"]
        for kind, stop in (("schedule", STOP_SCHEDULE), ("sensor", STOP_SENSOR)):
            for state in (one[f"{kind}State"] for one in found[f"{kind}s"]):
                if state["status"] == "RUNNING":
                    ask(deployment.address, stop, id=state["id"])
        deployment.start("daemon")
        yield deployment


def test_every_service_comes_up_after_its_check_and_passes_its_health_check(deployment: Deployment) -> None:
    wait_until("the daemon is healthy", lambda: deployment.is_healthy("daemon"), deployment.said)
    (location,) = ask(deployment.address, LOADED)["workspaceOrError"]["locationEntries"]
    assert (location["name"], location["locationOrLoadError"]["__typename"]) == ("emaps_dagster", "RepositoryLocation")
    told = deployment.log("code").read_text()
    assert "ok  PostgreSQL at 127.0.0.1:" in told
    assert "knows the zones." in told
    assert "problem" not in told
    # What shows and what schedules has no business with tables and token.
    assert "EMAPS_WAREHOUSE" not in deployment.log("webserver").read_text()


def test_a_killed_run_is_tried_again_and_alternates_with_another(deployment: Deployment, simulator: Simulator) -> None:
    last = floor_hour(utc_now()) - HOUR
    simulator.inject(Fault("slow", feed="power-breakdown", seconds=20))
    killed = deployment.launch(last)

    pid = wait_until(
        "the run is in bronze",
        lambda: deployment.worker(killed, "bronze__power_data"),
        lambda: deployment.messages(killed) or deployment.said(),
    )
    other = deployment.launch(last - HOUR)
    os.kill(pid, signal.SIGKILL)

    tried_again = wait_until("the killed run is tried again", lambda: deployment.retry(killed), deployment.said)
    for run_id in (tried_again, other):
        wait_until(
            f"run {run_id} ends",
            lambda run_id=run_id: deployment.status(run_id) in ("SUCCESS", "FAILURE"),
            lambda: deployment.said("code", "daemon"),
        )
    ends = [deployment.status(run_id) for run_id in (killed, tried_again, other)]
    assert ends == ["FAILURE", "SUCCESS", "SUCCESS"], deployment.messages(tried_again)[-5:]
    theirs, ours = deployment.steps(tried_again), deployment.steps(other)
    # It went on with the step in which it was killed.
    assert set(ours) - set(theirs) == {"bronze__carbon_data"} - set(theirs)
    assert len(ours) == 4
    for step in theirs:
        (began, ended), (other_began, other_ended) = theirs[step], ours[step]
        assert ended <= other_began or other_ended <= began, f"two writers in {step} at once"
    gold = DeltaTable(str(deployment.root / "warehouse" / "gold" / "ml_features")).to_pyarrow_table(
        columns=["datetime"]
    )
    assert {last, last - HOUR} <= {floor_hour(hour) for hour in gold["datetime"].to_pylist()}


@pytest.mark.skipif(
    "EMAPS_TEST_YEAR" not in os.environ, reason="the long run of test_deploy_runs.py: EMAPS_TEST_YEAR=1"
)
@pytest.mark.timeout(0)
def test_a_years_backfill_goes_on_after_its_run_and_the_daemon_were_killed(
    deployment: Deployment, simulator: Simulator
) -> None:
    end = floor_hour(utc_now()) - 24 * HOUR
    year = Window(end - 365 * 24 * HOUR, end)
    warehouse, began = deployment.root / "warehouse", time.monotonic()

    def stored() -> list[str]:
        tables = [warehouse / "bronze" / table.name for table in (POWER_DATA, CARBON_DATA)]
        made = [DeltaTable(str(table)) for table in tables if (table / "_delta_log").exists()]
        return [text for table in made for text in table.to_pyarrow_table(columns=["request"])["request"].to_pylist()]

    def tell(what: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s: {what}; {len(simulator.requests)} calls", flush=True)

    simulator.requests.clear()
    before = set(stored())
    first = deployment.launch(year)
    wait_until("a part of bronze is stored", lambda: len(stored()) - len(before) >= 20, deployment.said)
    pid = deployment.worker(first, "bronze__")
    assert pid
    os.killpg(deployment.processes["daemon"].pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    # What was on its way when the process ended is not stored; what is stored stays.
    kept = set(stored()) - before
    tell(f"daemon and run killed in bronze, {len(kept)} of 74 answers stored")
    answered_before = len(simulator.requests)
    deployment.processes["daemon"].wait()
    deployment.start("daemon")
    second = wait_until("the killed run is tried again", lambda: deployment.retry(first), deployment.said, 1800)
    pid = wait_until("gold is at work", lambda: deployment.worker(second, "gold__"), deployment.said, 1800)
    tell("the next run is in gold, and is killed")
    os.kill(pid, signal.SIGKILL)
    third = wait_until("it is tried again", lambda: deployment.retry(second), deployment.said, 1800)
    wait_until("it ends", lambda: deployment.status(third) in ("SUCCESS", "FAILURE"), deployment.said, 3600)
    tell("the third run has ended")
    statuses = [deployment.status(run_id) for run_id in (first, second, third)]
    assert statuses == ["FAILURE", "FAILURE", "SUCCESS"], deployment.messages(third)[-5:]
    asked_again = [request.path for request in simulator.requests[answered_before:]]
    assert not kept & set(asked_again)
    assert len([text for text in stored() if text not in before]) == 74
    assert len(set(stored()) - before) == 74
    gold = stored_rows(warehouse, ml_features(("GR",)))
    assert {("GR", hour) for hour in year.hours()} <= set(gold)
    key = dg.AssetKey(ml_features(("GR",)).asset_key)
    materialized = deployment.instance.get_materialized_partitions(key)
    assert {partition_key(hour) for hour in year.hours()} <= materialized
    tell(f"{len(asked_again)} calls after the kill, {len(materialized)} hours of gold")


def test_what_dagster_remembers_is_in_postgresql_and_the_token_in_none_of_it(deployment: Deployment) -> None:
    import psycopg2

    assert list((deployment.root / "home").rglob("*.db")) == []
    pools = deployment.instance.get_concurrency_config().pool_config
    assert pools.default_pool_limit == 1
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=deployment.environment["DAGSTER_POSTGRES_PORT"],
        dbname="dagster",
        user="dagster",
        password=postgres.PASSWORD,
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_CHECK_EVALUATION'")
        (checks,) = cursor.fetchone()
        cursor.execute("SELECT count(*) FROM event_logs WHERE event LIKE %s", (f"%{TOKEN}%",))
        (leaks,) = cursor.fetchone()
    connection.close()
    assert checks > 0
    assert leaks == 0
    for file in deployment.root.rglob("*"):
        if file.is_file() and "secrets" not in file.parts:
            assert TOKEN.encode() not in file.read_bytes(), file


@pytest.mark.long("that runs survive is shown by the killed run")
def test_a_webserver_that_is_restarted_ends_nothing(deployment: Deployment) -> None:
    process = deployment.processes["webserver"]
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_SECONDS)
    with pytest.raises(requests.ConnectionError):
        ask(deployment.address, LOADED)
    assert deployment.is_healthy("code")
    assert deployment.is_healthy("daemon")
