"""The job `maintenance`: every table by one launch, told where a person looks, on Sundays by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyspark.sql import SparkSession

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA, REJECTED_RECORDS, REJECTED_RESPONSES, ml_features
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.definitions import build_definitions
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.pipeline.maintenance import tables_of
from emaps_dagster_tests.support.builders import frame, utc
from harness.dagster_runs import quick_instance

ZONES = ("GR",)
GOLD = ml_features(ZONES)


@pytest.fixture
def grown(lakehouse: FolderLakehouse, spark: SparkSession) -> FolderLakehouse:
    """Five ticks' bodies of power in a file each, carbon and gold without rows; nothing was ever rejected."""
    for table in (POWER_DATA, CARBON_DATA, GOLD):
        lakehouse.create(table)
    hour = utc(2024, 1, 1)
    for number in range(5):
        row = ("s", "GR", f"{number}", hour + number * HOUR, hour, hour + HOUR, "/v3", f"{number}", None, "2024-01")
        lakehouse.append(POWER_DATA, frame(spark, POWER_DATA, [row]))
    return lakehouse


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with quick_instance() as instance:
        yield instance


def launch(lakehouse: FolderLakehouse, instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    job = build_definitions(Settings(_env_file=None, warehouse=lakehouse.warehouse)).resolve_job_def("maintenance")
    return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)


def outputs(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    events = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    told = [{n: v.value for n, v in event.step_output_data.metadata.items()} for event in events]
    return {numbers.pop("table"): numbers for numbers in told}


def test_every_table_is_put_into_fewer_files_and_reports_its_numbers(
    grown: FolderLakehouse, instance: dg.DagsterInstance
) -> None:
    rows = grown.scan(POWER_DATA).toArrow().sort_by("payload_sha256")
    result = launch(grown, instance)
    assert result.success
    told = outputs(result)
    assert set(told) == {table.qualified_name for table in tables_of(ZONES)}
    power = told["bronze.power_data"]
    assert (power["files_before"], power["files_after"], power["files_removed"], power["retain_days"]) == (5, 1, 0, 7)
    assert 0 < power["bytes_after"] < power["bytes_before"]
    assert told["bronze.rejected_responses"] == told["bronze.rejected_records"] == {"outcome": "no table yet"}
    assert told["silver.energy_data"] == {"outcome": "no table yet"}
    assert told["gold.ml_features"]["files_after"] == 0
    assert grown.scan(POWER_DATA).toArrow().sort_by("payload_sha256") == rows
    assert len(grown.scan(POWER_DATA, version=3).toArrow()) == 3


def test_the_numbers_are_on_the_pages_of_the_assets_and_make_no_asset_of_what_is_none(
    grown: FolderLakehouse, instance: dg.DagsterInstance
) -> None:
    grown.create(REJECTED_RESPONSES)
    grown.create(REJECTED_RECORDS)
    assert launch(grown, instance).success
    observed = instance.fetch_observations(dg.AssetKey(POWER_DATA.asset_key), limit=5).records
    assert [record.asset_observation.metadata["files_after"].value for record in observed] == [1]
    keys = {key.to_user_string() for key in instance.all_asset_keys()}
    assert keys == {"bronze/power_data", "bronze/carbon_data", "gold/ml_features"}


def test_a_table_that_cannot_be_maintained_fails_the_run_and_keeps_no_other_back(
    grown: FolderLakehouse, instance: dg.DagsterInstance
) -> None:
    log = Path(grown.location(CARBON_DATA)) / "_delta_log" / "00000000000000000000.json"
    log.write_text("{not json")
    result = launch(grown, instance)
    assert not result.success
    assert "carbon_data" in {event.step_key[len("maintain_bronze_") :] for event in result.get_step_failure_events()}
    assert outputs(result)["bronze.power_data"]["files_after"] == 1
    assert outputs(result)["gold.ml_features"]["files_after"] == 0


def test_less_than_a_day_is_refused_with_a_sentence(grown: FolderLakehouse, instance: dg.DagsterInstance) -> None:
    result = launch(grown, instance, retain_days=0)
    errors = [event.step_failure_data.error for event in result.get_step_failure_events()]
    assert any("Keep 1 day, 0:00:00 at least; nothing was changed" in str(error) for error in errors)
    assert grown.version(POWER_DATA) == 5
    assert launch(grown, instance, retain_days=1).success


def test_it_runs_by_itself_with_its_defaults(grown: FolderLakehouse, instance: dg.DagsterInstance) -> None:
    definitions = build_definitions(Settings(_env_file=None, warehouse=grown.warehouse))
    schedule = definitions.resolve_schedule_def("weekly_maintenance")
    sunday = datetime(2026, 11, 29, 3, 37, tzinfo=timezone.utc)
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=sunday) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    job = definitions.resolve_job_def("maintenance")
    assert job.execute_in_process(instance=instance, run_config=request.run_config).success
