"""Storages that keep a connection open: what they write Dagster's own reads; a lost connection breaks no run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.storage.event_log import SqliteEventLogStorage
from sqlalchemy import text
from sqlalchemy.pool import NullPool, QueuePool

from emaps_dagster.defs.instance import versions
from emaps_dagster.defs.instance.storage.sqlite import OpenSqliteEventLog
from harness import postgres_server as postgres

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NO_POSTGRES = pytest.mark.skipif(
    postgres.programs() is None, reason="no PostgreSQL on this machine: apt-get install postgresql"
)


@dg.asset
def thing() -> None: ...


@dg.asset_check(asset=thing)
def fine() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, str]]:
    with postgres.server(durable=False) as database:
        yield database


@pytest.fixture
def server(database: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the storage of deploy/dagster.yaml."""
    for name, value in database.items():
        monkeypatch.setenv(name, value)
    (home / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    return home


def open_sqlite(home: Path) -> None:
    (home / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nevent_log_storage:\n  module: emaps_dagster.defs.instance.storage.sqlite\n"
        f"  class: OpenSqliteEventLog\n  config: {{base_dir: {home}/history/runs}}\n"
    )


def as_dagster_comes(home: Path) -> None:
    config = yaml.safe_load((home / "dagster.yaml").read_text())
    config.pop("event_log_storage", None)
    if "storage" in config:
        config["storage"] = {"postgres": config["storage"]["custom"]["config"]}
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))


def run_of(instance: dg.DagsterInstance) -> str:
    result = dg.materialize([thing, fine], instance=instance)
    assert result.success
    return result.run_id


def assert_read(instance: dg.DagsterInstance, runs: list[str]) -> None:
    assert all(len(instance.all_logs(run)) == len(instance.all_logs(runs[0])) > 5 for run in runs)
    records = instance.fetch_materializations(dg.AssetKey("thing"), limit=100).records
    assert {record.run_id for record in records} == set(runs)
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("thing"), "fine"), limit=100
    )
    assert [check.status.value for check in history] == ["SUCCEEDED"] * len(runs)


def test_what_the_open_sqlite_event_log_writes_dagsters_own_reads(home: Path) -> None:
    open_sqlite(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance.event_log_storage, OpenSqliteEventLog)
        # More runs than it keeps files open.
        runs = [run_of(instance) for _ in range(9)]
        assert_read(instance, runs)
    as_dagster_comes(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        assert_read(instance, runs)


def evaluated(hour: str, *, passed: bool) -> dg.EventLogEntry:
    evaluation = AssetCheckEvaluation(dg.AssetKey("thing"), "fine", passed=passed, metadata={}, partition=hour)
    event = dg.DagsterEvent("ASSET_CHECK_EVALUATION", "job", event_specific_data=evaluation, step_key="thing_fine")
    return dg.EventLogEntry(None, 10, "", "a-run", 1.0, "thing_fine", "job", event)


def test_statuses_written_together_are_read_at_once_and_the_last_of_an_hour_counts(home: Path) -> None:
    check, hours = dg.AssetCheckKey(dg.AssetKey("thing"), "fine"), [f"hour {number}" for number in range(250)]
    open_sqlite(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        log = instance.event_log_storage
        for hour in hours:
            log.store_event(evaluated(hour, passed=False))
            log.store_event(evaluated(hour, passed=hour != "hour 249"))
        of_last = log.get_asset_check_execution_history(check, limit=3)
    as_dagster_comes(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        history = instance.event_log_storage.get_asset_check_execution_history(check, limit=1000)
        logged = instance.all_logs("a-run")
    assert [(one.partition, one.status.value) for one in of_last[:2]] == [
        ("hour 249", "FAILED"),
        ("hour 248", "SUCCEEDED"),
    ]
    # Pages list the latest first, by the ids of the events.
    assert [one.partition for one in history] == hours[::-1]
    assert sum(one.status.value == "FAILED" for one in history) == 1
    # Failures, which a retry needs, whether they were replaced or not.
    assert len(logged) == len(hours) + 1


def test_statuses_are_written_before_the_next_event_of_another_kind(home: Path) -> None:
    open_sqlite(home)
    with dg.DagsterInstance.from_config(str(home)) as instance, dg.DagsterInstance.from_config(str(home)) as other:
        instance.event_log_storage.store_event(evaluated("hour 0", passed=True))
        start = dg.DagsterEvent("STEP_START", "job", step_key="thing_fine")
        instance.event_log_storage.store_event(dg.EventLogEntry(None, 10, "", "a-run", 2.0, "thing_fine", "job", start))
        kinds = [entry.get_dagster_event().event_type_value for entry in other.all_logs("a-run")]
    assert kinds == ["ASSET_CHECK_EVALUATION", "STEP_START"]


def test_another_release_of_dagster_gets_dagsters_own_sqlite(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(versions.TESTED_VERSIONS, "dagster", "1.12.0")
    open_sqlite(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
    assert "OpenSqliteEventLog was tested with Dagster 1.12.0, not with 1." in caplog.text


@NO_POSTGRES
def test_what_the_open_postgresql_storage_writes_dagsters_own_reads(server: Path) -> None:
    with dg.DagsterInstance.from_config(str(server)) as instance:
        assert type(instance.event_log_storage._engine.pool) is QueuePool
        runs = [run_of(instance) for _ in range(2)]
        assert_read(instance, runs)
    as_dagster_comes(server)
    with dg.DagsterInstance.from_config(str(server)) as instance:
        assert type(instance.event_log_storage._engine.pool) is NullPool
        assert_read(instance, runs)


@NO_POSTGRES
def test_a_connection_that_the_server_ended_is_replaced_without_a_word(server: Path) -> None:
    with dg.DagsterInstance.from_config(str(server)) as instance:
        run_of(instance)
        with instance.event_log_storage.index_connection() as connection:
            mine = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        with instance.run_storage.connect() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": mine})
        run_of(instance)
        with instance.event_log_storage.index_connection() as connection:
            assert connection.execute(text("SELECT pg_backend_pid()")).scalar() != mine


@NO_POSTGRES
def test_events_of_a_run_share_a_connection(server: Path) -> None:
    def log_ins(instance: dg.DagsterInstance) -> int:
        with instance.event_log_storage.index_connection() as connection:
            query = text("SELECT sessions FROM pg_stat_database WHERE datname = 'dagster'")
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
            return int(connection.execute(query).scalar())

    with dg.DagsterInstance.from_config(str(server)) as instance:
        before = log_ins(instance)
        events = len(instance.all_logs(run_of(instance)))
        kept = log_ins(instance) - before
    as_dagster_comes(server)
    with dg.DagsterInstance.from_config(str(server)) as instance:
        before = log_ins(instance)
        run_of(instance)
        anew = log_ins(instance) - before
    assert kept < anew - events
