"""The start-up check reports in sentences what is missing; its exit code decides whether Dagster may start."""

from __future__ import annotations

import os
import subprocess
import sys
import zoneinfo
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from emaps_dagster.cli.preflight.__main__ import findings
from emaps_dagster.cli.preflight.findings import Finding
from emaps_dagster.cli.preflight.surroundings import api, clock, engine, java, time_zones, warehouse
from emaps_dagster.contracts.databricks_settings import DatabricksSettings
from emaps_dagster.contracts.settings import Settings, read_settings
from emaps_dagster.simulator.server import Simulator
from harness import postgres_server as postgres

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TOKEN = "a-token-to-be-checked"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return home


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(token=TOKEN, zones=("GR",)) as simulator:
        yield simulator


def told(level: str, found: Iterator[Finding] | list[Finding]) -> list[str]:
    return [finding.text for finding in found if finding.level == level]


def look(environment: dict[str, str], *, dagster_only: bool = False, wait: float = 0) -> list[Finding]:
    return list(findings(environment, dagster_only=dagster_only, wait=wait))


def test_where_all_is_well_nothing_is_missing(home: Path, simulator: Simulator, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("EMAPS_")},
        "PYTHONPATH": str(DEPLOY.parent),
        "DAGSTER_HOME": str(home),
        "EMAPS_API_URL": simulator.url,
        "EMAPS_API_TOKEN": TOKEN,
        "EMAPS_WAREHOUSE": str(tmp_path / "warehouse"),
    }
    command = [sys.executable, "-m", "emaps_dagster.cli.preflight", "--strict"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line[:7].strip() for line in done.stdout.splitlines()} == {"ok"}
    assert f"EMAPS_WAREHOUSE is {tmp_path / 'warehouse'}" in done.stdout
    assert "The embedded engine computes." in done.stdout
    assert "answers and knows the zones." in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert list((tmp_path / "warehouse").iterdir()) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "DAGSTER_HOME is not set"),
        ("home", "DAGSTER_HOME is 'home': Dagster wants an absolute path"),
        ("/no/such/folder", r"DAGSTER_HOME (/no/such/folder) is no folder"),
        ("/proc", r"DAGSTER_HOME (/proc) cannot be written by this user (uid "),
    ],
)
def test_a_home_that_cannot_be_used_is_a_problem(value: str | None, says: str) -> None:
    (problem,) = told("problem", look({"DAGSTER_HOME": value} if value else {}, dagster_only=True))
    assert problem.startswith(says)


def test_a_home_is_set_and_made_as_the_problems_say(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.touch()
    for value, says in (
        (None, "Set it to a folder that stays"),
        ("home", "Dagster wants an absolute path"),
        (str(home), "make it, and put a dagster.yaml into it"),
    ):
        (problem,) = told("problem", look({"DAGSTER_HOME": value} if value else {}, dagster_only=True))
        assert says in problem
    home.unlink()
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    assert told("problem", look({"DAGSTER_HOME": str(home)}, dagster_only=True)) == []


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("storage: [not, closed", "dagster.yaml cannot be read: while parsing"),
        ("storge: {}", "Dagster cannot open "),
    ],
)
def test_a_dagster_yaml_that_says_nothing_is_a_problem(home: Path, config: str, says: str) -> None:
    (home / "dagster.yaml").write_text(config)
    (problem,) = told("problem", look({"DAGSTER_HOME": str(home)}, dagster_only=True))
    assert says in problem


def test_what_postgresql_needs_is_named(home: Path) -> None:
    (home / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    given = {"DAGSTER_HOME": str(home), "DAGSTER_POSTGRES_HOST": "127.0.0.1", "DAGSTER_POSTGRES_PORT": "1"}
    (problem,) = told("problem", look(given, dagster_only=True))
    assert "DAGSTER_POSTGRES_DB, DAGSTER_POSTGRES_USER, DAGSTER_POSTGRES_PASSWORD, which is not set" in problem


def test_a_postgresql_that_does_not_answer_is_reported_without_the_password(home: Path) -> None:
    (home / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    given = {
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_HOST": "127.0.0.1",
        "DAGSTER_POSTGRES_PORT": "1",
        "DAGSTER_POSTGRES_DB": "history",
        "DAGSTER_POSTGRES_USER": "somebody",
        "DAGSTER_POSTGRES_PASSWORD": "sesame",
    }
    (problem,) = told("problem", look(given, dagster_only=True, wait=0.5))
    assert problem.startswith("PostgreSQL at 127.0.0.1:1, database history, cannot be used by somebody: ")
    assert "sesame" not in problem


def test_what_is_to_be_installed_is_no_problem_once_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    named = {"HOST": "127.0.0.1", "PORT": "1", "DB": "history", "USER": "somebody", "PASSWORD": "sesame"}
    given = {"DAGSTER_HOME": str(home), **{f"DAGSTER_POSTGRES_{name}": value for name, value in named.items()}}
    folders = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(())
    try:
        with monkeypatch.context() as without:
            for module in ("psycopg2", "tzdata"):
                without.setitem(sys.modules, module, None)
            zoneinfo.ZoneInfo.clear_cache()
            (problem,) = told("problem", look(given, dagster_only=True))
            assert problem.endswith("is not installed: pip install 'emaps_dagster[postgres]'.")
            problems = told("problem", time_zones(("GR",)))
            assert [problem.endswith(": pip install tzdata.") for problem in problems] == [True, True]
        (problem,) = told("problem", look(given, dagster_only=True))
        assert "pip install" not in problem
        assert told("problem", time_zones(("GR",))) == []
    finally:
        zoneinfo.reset_tzpath(folders)
        zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL on this machine: apt-get install postgresql")
def test_a_wrong_password_and_a_schema_of_another_release_are_distinguished(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg2

    (home / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    with postgres.server(durable=False) as database:
        for name, value in database.items():
            monkeypatch.setenv(name, value)
        right = {"DAGSTER_HOME": str(home), **database}
        (problem,) = told("problem", look({**right, "DAGSTER_POSTGRES_PASSWORD": "wrong"}, dagster_only=True))
        assert "password authentication failed" in problem
        assert told("problem", look(right, dagster_only=True)) == []
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=database["DAGSTER_POSTGRES_PORT"],
            dbname="dagster",
            user="dagster",
            password=postgres.PASSWORD,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute("UPDATE alembic_version SET version_num = '567bc23fd1ac'")
        connection.close()
        (problem,) = told("problem", look(right, dagster_only=True))
        assert "dagster instance migrate" in problem
        with dg.DagsterInstance.from_config(str(home)) as instance:
            # As `dagster instance migrate` does.
            instance.upgrade()
        assert told("problem", look(right, dagster_only=True)) == []


def test_a_wrong_setting_is_reported_and_what_does_not_depend_on_it_as_well(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMAPS_ZONE", "GR")
    (problem,) = told("problem", look({"DAGSTER_HOME": str(home)}))
    assert "did you mean EMAPS_ZONES?" in problem


def test_a_warehouse_that_cannot_be_written_is_a_problem(
    home: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMAPS_API_URL", simulator.url)
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    monkeypatch.setenv("EMAPS_WAREHOUSE", "/proc/warehouse")
    (problem,) = told("problem", look({"DAGSTER_HOME": str(home)}))
    assert problem.startswith("EMAPS_WAREHOUSE (/proc/warehouse) cannot be made by this user (uid ")


def test_a_full_disk_is_a_warning_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, warnings in ((10**9, 1), (3 * 10**9, 0)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        found = told("warning", warehouse(tmp_path))
        assert ["1.0 GB left: make room before runs fail" in one for one in found] == [True] * warnings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"EMAPS_API_TOKEN": "another"}, "answers, but not as it should: the list of zones: the token is missing or"),
        ({"EMAPS_ZONES": "GR,XX"}, "The API knows no zone XX"),
        ({"EMAPS_API_URL": "http://127.0.0.1:1/v3"}, "does not answer (ConnectionError): ticks fail until it does"),
        ({"EMAPS_API_TOKEN": ""}, "EMAPS_API_TOKEN is not set"),
        (
            {"EMAPS_FIXED_NOW": "2024-05-01T00:07Z"},
            "EMAPS_FIXED_NOW is set: every run takes 2024-05-01T00:07Z for the present",
        ),
    ],
)
def test_what_the_world_has_to_mend_does_not_keep_dagster_down(
    home: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], says: str
) -> None:
    for name, value in {"EMAPS_API_URL": simulator.url, "EMAPS_API_TOKEN": TOKEN, **settings}.items():
        monkeypatch.setenv(name, value)
    found = look({"DAGSTER_HOME": str(home)})
    assert told("problem", found) == []
    assert any(says in warning for warning in told("warning", found)), found
    # The remedy: what is named is corrected or removed.
    for name in settings:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EMAPS_API_URL", simulator.url)
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    assert list(told("warning", api(read_settings()))) == []


@pytest.mark.parametrize(
    ("off", "says"),
    [(timedelta(0), None), (timedelta(minutes=-5), "ahead of"), (timedelta(minutes=5), "behind")],
)
def test_a_clock_that_is_off_is_reported(off: timedelta, says: str | None) -> None:
    date = format_datetime(datetime.now(timezone.utc) + off, usegmt=True)
    warnings = told("warning", clock(date, Settings(_env_file=None)))
    assert [says in warning for warning in warnings if says] == ([True] if says else [])
    assert bool(warnings) == bool(says)


@pytest.mark.parametrize(
    ("version", "level", "says"),
    [
        ('openjdk version "17.0.9" 2023-10-17', "ok", "Java 17 is "),
        ('openjdk version "21" 2023-09-19', "ok", "Java 21 is "),
        ('java version "1.8.0_392"', "problem", 'needs Java 17 or newer, and {java} is java version "1.8.0_392"'),
        ("", "problem", "is silent"),
    ],
)
def test_spark_needs_a_java_that_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, level: str, says: str
) -> None:
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{version}' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    finding = java()
    assert finding.level == level
    assert says.format(java=program) in finding.text if version else "silent" in finding.text


def test_without_any_java_it_says_where_to_put_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/no/such/folder")
    assert "there is none on the PATH: install it, or set JAVA_HOME" in java().text


# --- Databricks -----------------------------------------------------------------------------------

WORKSPACE = {"host": "https://dbc.example", "token": "dapi"}
SERVERLESS = {**WORKSPACE, "compute": "serverless", "staging": "/Volumes/main/emaps/staging"}
THERE = "Bronze is fetched where steps run, with the token in secret api-token of scope emaps, which is not read here."
NOT_TRIED = "The API is not tried: EMAPS_API_TOKEN is not set here, where only the sensor revisions uses it."


def on_databricks(**given: str) -> Settings:
    return Settings(deployment="databricks", databricks=DatabricksSettings.model_validate(given), _env_file=None)


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (
            {**WORKSPACE, "cluster_id": "0000-kept"},
            ["ok: Steps run on the cluster 0000-kept of https://dbc.example.", f"ok: {THERE}"],
        ),
        (
            {**WORKSPACE, "node_type": "m5d.large", "secret_scope": "other", "secret_key": "key"},
            [
                "ok: Steps run on a cluster of each run's own (m5d.large) of https://dbc.example.",
                "ok: Bronze is fetched where steps run, with the token in secret key of scope other, which is not read "
                "here.",
            ],
        ),
        (SERVERLESS, ["ok: Steps run on serverless compute of https://dbc.example.", f"ok: {THERE}"]),
        (
            {**SERVERLESS, "performance_target": "STANDARD", "fetch": "host"},
            [
                "ok: Steps run on serverless compute (STANDARD) of https://dbc.example.",
                "ok: Bronze is fetched on this machine (EMAPS_DATABRICKS_FETCH=host), with its EMAPS_API_TOKEN.",
            ],
        ),
        (
            {**SERVERLESS, "staging": "dbfs:/dagster_staging", "cluster_id": "0000-kept"},
            [
                "problem: EMAPS_DATABRICKS_CLUSTER_ID is for a cluster, but EMAPS_DATABRICKS_COMPUTE is 'serverless'. "
                "EMAPS_DATABRICKS_COMPUTE is 'serverless', which has no DBFS: set EMAPS_DATABRICKS_STAGING to a folder "
                "of a volume, /Volumes/catalog/schema/volume. See docs/databricks.md, Settings."
            ],
        ),
        (
            {**WORKSPACE, "cluster_id": "0000-kept", "performance_target": "STANDARD"},
            [
                "problem: EMAPS_DATABRICKS_PERFORMANCE_TARGET is for EMAPS_DATABRICKS_COMPUTE=serverless only. See "
                "docs/databricks.md, Settings."
            ],
        ),
    ],
)
def test_what_steps_on_databricks_run_on_is_one_line_and_who_fetches_another(
    given: dict[str, str], lines: list[str]
) -> None:
    assert [f"{finding.level}: {finding.text}" for finding in engine(on_databricks(**given))] == lines


def test_the_api_is_tried_from_here_where_this_machine_asks_it(simulator: Simulator) -> None:
    here = on_databricks(**SERVERLESS, fetch="host").model_copy(update={"api_url": simulator.url})
    assert told("warning", api(here))[0] == (
        "EMAPS_API_TOKEN is not set: the public API answers no request without one."
    )
    there = on_databricks(**SERVERLESS)
    assert [(finding.level, finding.text) for finding in api(there)] == [("ok", NOT_TRIED)]
