"""The whole graph through Dagster, embedded, against the simulator over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deltalake import DeltaTable, write_deltalake

from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.simulator.server import Fault, Simulator
from harness.dagster_runs import quick_instance, without_checks

NOW = datetime(2024, 5, 4, 10, 7, tzinfo=timezone.utc)
TOKEN = "a-token-that-must-stay-secret"
TABLES = (POWER_DATA, CARBON_DATA, ENERGY_DATA, ml_features(("GR",)))


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Simulator]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    with Simulator(token=TOKEN, zones=("GR",), now=NOW) as simulator:
        yield simulator


class Pipeline:
    def __init__(self, sim: Simulator, warehouse: Path, instance: dg.DagsterInstance) -> None:
        self.sim, self.warehouse, self.instance = sim, warehouse, instance

    def run(
        self, first: str, last: str | None = None, now: datetime = NOW, *, checks: bool = True
    ) -> dg.ExecuteInProcessResult:
        """The hourly job on an hour or a range; without checks where a test is of the tables alone."""
        from emaps_dagster.contracts.settings import Settings
        from emaps_dagster.definitions import build_definitions

        settings = Settings(
            api_url=self.sim.url,
            warehouse=self.warehouse,
            fixed_now=now,
            start=datetime(2024, 5, 1, tzinfo=timezone.utc),
        )
        job = build_definitions(settings).resolve_job_def("hourly")
        which: dict[str, Any] = {"partition_key": first}
        if last:
            names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
            which = {"tags": dict(zip(names, (first, last), strict=True))}
        job = job if checks else without_checks(job, TABLES)
        return job.execute_in_process(instance=self.instance, raise_on_error=False, **which)

    def table(self, name: str) -> DeltaTable:
        return DeltaTable(str(self.warehouse / name))

    def rows_of_bronze(self, feed: str) -> list[dict[str, Any]]:
        rows = self.table(f"bronze/{feed}_data").to_pyarrow_table().to_pylist()
        return sorted(rows, key=lambda row: row["ingested_at"])

    def rows(self, name: str) -> list[dict[str, Any]]:
        rows = self.table(name).to_pyarrow_table().to_pylist()
        return sorted(rows, key=lambda row: row["datetime"])


@pytest.fixture
def pipeline(sim: Simulator, tmp_path: Path) -> Iterator[Pipeline]:
    with quick_instance() as instance:
        yield Pipeline(sim, tmp_path / "warehouse", instance)


def _evaluations(result: dg.ExecuteInProcessResult) -> list[Any]:
    events = result.all_events
    return [e.asset_check_evaluation_data for e in events if e.event_type_value == "ASSET_CHECK_EVALUATION"]


def test_a_backfill_gives_every_hour_its_row_its_numbers_and_its_check_statuses(pipeline: Pipeline) -> None:
    result = pipeline.run("2024-05-02-00:00", "2024-05-04-09:00")
    assert result.success
    assert len(pipeline.rows("silver/energy_data")) == 58
    assert len(pipeline.rows("gold/ml_features")) == 58
    evaluations = _evaluations(result)
    assert all(evaluation.passed for evaluation in evaluations)
    # 3 checks of the hours of each bronze table, 12 of silver's, 7 of gold's; 6 of tables as a whole.
    hourly = [evaluation for evaluation in evaluations if evaluation.partition is not None]
    assert len(hourly) == 25 * 58
    assert len({e.partition for e in hourly}) == 58
    assert len(evaluations) == len(hourly) + 6


def test_an_hourly_run_on_numbers_of_16_and_17_digits_passes_every_check(pipeline: Pipeline) -> None:
    pipeline.sim.inject(Fault("long_numbers", times=None))
    for hour in ("2024-05-04-08:00", "2024-05-04-09:00"):
        result = pipeline.run(hour)
        assert result.success
        evaluations = _evaluations(result)
        assert [e.check_name for e in evaluations if not e.passed] == []
        assert {"latest_ingestion_wins", "silver_equals_bronze"} <= {e.check_name for e in evaluations}
    said: dict[datetime, dict[str, Any]] = {}
    for feed in ("power", "carbon"):
        text = pipeline.rows_of_bronze(feed)[-1]["raw_json"]
        assert re.search(r"[1-9]\d*\.\d{14}", text)
        for record in json.loads(text)["history"]:
            said.setdefault(datetime.fromisoformat(record["datetime"].replace("Z", "+00:00")), {}).update(record)
    for row in pipeline.rows("silver/energy_data"):
        record = said[row["datetime"]]
        assert row["carbon_intensity"] == record["carbonIntensity"]
        assert row["production_hydro"] == record["powerProductionBreakdown"]["hydro"]
        assert dict(row["import_by_zone"]) == record["powerImportBreakdown"]
        assert row["renewable_percentage"] == record["renewablePercentage"]
    assert len(pipeline.rows("gold/ml_features")) == 23


def test_running_a_partition_again_writes_to_bronze_alone(pipeline: Pipeline) -> None:
    assert pipeline.run("2024-05-04-09:00", checks=False).success
    merged = ("silver/energy_data", "gold/ml_features")
    before = [pipeline.table(name).version() for name in merged]
    assert pipeline.run("2024-05-04-09:00", checks=False).success
    assert [pipeline.table(name).version() for name in merged] == before
    assert pipeline.table("bronze/power_data").to_pyarrow_table().num_rows == 2


@pytest.mark.long("the same property runs in test_order.py")
def test_hours_in_any_order_equal_one_range_bit_for_bit(pipeline: Pipeline, tmp_path: Path) -> None:
    ranges = [("2024-05-03-04:00", "2024-05-03-09:00"), ("2024-05-02-20:00", None), ("2024-05-04-07:00", None)]
    for first, last in [*ranges, ("2024-05-02-21:00", "2024-05-03-03:00"), ("2024-05-03-10:00", "2024-05-04-09:00")]:
        assert pipeline.run(first, last, checks=False).success
    piecewise = {name: pipeline.rows(name) for name in ("silver/energy_data", "gold/ml_features")}
    pipeline.warehouse = tmp_path / "at_once"
    assert pipeline.run("2024-05-02-20:00", "2024-05-04-09:00", checks=False).success
    for name, rows in piecewise.items():
        assert rows == pipeline.rows(name), name


def test_a_revised_hour_reaches_silver_and_the_24_hours_of_gold_that_depend_on_it(pipeline: Pipeline) -> None:
    assert pipeline.run("2024-05-02-00:00", "2024-05-04-09:00", checks=False).success
    before = {row["datetime"]: row for row in pipeline.rows("gold/ml_features")}
    revised = datetime(2024, 5, 4, 5, tzinfo=timezone.utc)
    pipeline.sim.provider.revise("GR", revised, at=NOW)
    assert pipeline.run("2024-05-04-09:00", checks=False).success
    after = {row["datetime"]: row for row in pipeline.rows("gold/ml_features")}
    changed = [hour for hour in after if after[hour] != before[hour]]
    assert changed == [revised + timedelta(hours=number) for number in range(5)]


_ANOTHER_FAULT = pytest.mark.long("the fault's message and evidence are those of test_fetch.py")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("invalid_token", "EMAPS_API_TOKEN"),
        pytest.param("not_in_plan", "plan", marks=_ANOTHER_FAULT),
        pytest.param("not_found", "404", marks=_ANOTHER_FAULT),
        pytest.param("wrong_zone", "US-CAR-DUK", marks=_ANOTHER_FAULT),
        ("sandbox", "sandbox"),
        pytest.param("empty", "no rows", marks=_ANOTHER_FAULT),
        pytest.param("html", "not strict JSON", marks=_ANOTHER_FAULT),
        ("echo_token", "400"),
    ],
)
def test_a_fault_of_one_feed_fails_clearly_keeps_the_other_and_heals(
    pipeline: Pipeline, kind: Any, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline.sim.inject(Fault(kind, feed="carbon-intensity"))
    result = pipeline.run("2024-05-04-09:00", checks=False)
    assert not result.success
    failure = next(e for e in result.all_events if e.event_type_value == "STEP_FAILURE")
    text = failure.event_specific_data.error.to_string()
    assert says in text
    assert "zone GR" in text
    assert pipeline.table("bronze/power_data").version() == 1
    evidence = pipeline.table("bronze/rejected_responses").to_pyarrow_table().num_rows
    assert evidence == (1 if kind in ("wrong_zone", "sandbox", "empty", "html") else 0)
    assert pipeline.run("2024-05-04-09:00", checks=False).success
    out = capfd.readouterr()
    assert TOKEN not in out.out + out.err + text


def test_a_planted_duplicate_fails_its_check_and_gold_is_not_run(pipeline: Pipeline) -> None:
    assert pipeline.run("2024-05-04-09:00", checks=False).success
    silver = pipeline.table("silver/energy_data")
    write_deltalake(silver, silver.to_pyarrow_table().slice(0, 1), mode="append")
    result = pipeline.run("2024-05-04-09:00")
    assert not result.success or "gold__ml_features" not in {e.step_key for e in result.all_events if e.is_step_success}
    assert {e.check_name for e in _evaluations(result) if not e.passed} >= {"primary_key_is_unique"}
