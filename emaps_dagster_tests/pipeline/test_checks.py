"""Every check seen to fail through Dagster: a fault planted in a real table, found in its hour, blocking or not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.definitions import build_definitions
from emaps_dagster.pipeline.check_catalog import checks_of
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.builders import iso, utc
from harness.dagster_runs import quick_instance

TOKEN = "a-token-that-must-stay-secret"
NOW = utc(2024, 5, 4, 10, 7)
ZONES = ("GR", "FR")
LOADED = Window(utc(2024, 5, 3, 3), utc(2024, 5, 4, 10))
# The hours that are judged again after each fault, and the one that is broken.
JUDGED = Window(utc(2024, 5, 4, 3), utc(2024, 5, 4, 7))
BROKEN = utc(2024, 5, 4, 5)
TABLES = {
    "bronze/power_data": POWER_DATA,
    "silver/energy_data": ENERGY_DATA,
    "gold/ml_features": ml_features(ZONES),
}


class Warehouse:
    """A folder of tables that a test may break, and the checks to be run on it."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance, url: str = "http://127.0.0.1:9/v3") -> None:
        self.folder, self.instance, self.url = folder, instance, url

    def run(self, window: Window, job: str = "hourly", now: datetime = NOW, zones: tuple[str, ...] = ZONES) -> Any:
        """Run the hourly job, or only the checks of the table that `job` names."""
        settings = Settings(
            api_url=self.url, warehouse=self.folder, fixed_now=now, zones=zones, start=utc(2024, 5, 1), _env_file=None
        )
        only_checks = [
            dg.define_asset_job(f"checks_of_{name.replace('/', '_')}", dg.AssetSelection.checks_for_assets(asset))
            for name, asset in ((name, dg.AssetKey(table.asset_key)) for name, table in TABLES.items())
        ]
        definitions = dg.Definitions.merge(build_definitions(settings), dg.Definitions(jobs=only_checks))
        name = job if job == "hourly" else f"checks_of_{job.replace('/', '_')}"
        names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        hours = (partition_key(window.start), partition_key(window.end - HOUR))
        return definitions.resolve_job_def(name).execute_in_process(
            instance=self.instance, raise_on_error=False, tags=dict(zip(names, hours, strict=True))
        )

    def change(self, table: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Rewrite a table behind the lakehouse's back."""
        delta = DeltaTable(str(self.folder / table))
        stored = delta.to_pyarrow_table()
        rows = pa.Table.from_pylist(change(stored.to_pylist()), stored.schema)
        write_deltalake(delta, rows, mode="overwrite")

    def alter(self, table: str, **columns: Any) -> None:
        """Other values in the broken hour of Greece."""
        self.change(table, lambda rows: [{**row, **columns} if _is_broken(row) else row for row in rows])

    def add(self, table: str, **columns: Any) -> None:
        """A second row like the broken hour's, with other values."""
        delta = DeltaTable(str(self.folder / table))
        stored = delta.to_pyarrow_table()
        row = next(row for row in stored.to_pylist() if _is_broken(row))
        write_deltalake(delta, pa.Table.from_pylist([{**row, **columns}], stored.schema), mode="append")

    def quarantine(self) -> None:
        """The newest body of the broken hour, with its record in quarantine."""
        delta = DeltaTable(str(self.folder / POWER))
        stored = delta.to_pyarrow_table()
        row = next(row for row in stored.to_pylist() if _is_broken(row))
        late = {"ingested_at": NOW + HOUR / 2, "window_start": BROKEN, "window_end": BROKEN + HOUR}
        row |= {**late, "trusted_json": json.dumps({"zone": "GR", "history": []})}
        write_deltalake(delta, pa.Table.from_pylist([row], stored.schema), mode="append")
        record = {"datetime": BROKEN, "position": 0, "record_json": "null", "reason": "row 0 is not an object"}
        table = DeltaTable(str(self.folder / "bronze/rejected_records"))
        schema = table.to_pyarrow_table().schema
        write_deltalake(
            table, pa.Table.from_pylist([{n: (row | record)[n] for n in schema.names}], schema), mode="append"
        )


def _is_broken(row: dict[str, Any]) -> bool:
    hour: datetime = row["datetime"] if "datetime" in row else row["window_start"]
    return row["zone"] == "GR" and hour <= BROKEN < row.get("window_end", hour + HOUR)


def evaluations_of(result: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    events = [event for event in result.all_events if event.event_type_value == "ASSET_CHECK_EVALUATION"]
    return [event.asset_check_evaluation_data for event in events]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Warehouse, dg.ExecuteInProcessResult]]:
    """Thirty-one hours of two zones, one of which zones.py does not list, through the whole graph."""
    with pytest.MonkeyPatch.context() as environment, quick_instance() as instance:
        environment.setenv("EMAPS_API_TOKEN", TOKEN)
        with Simulator(token=TOKEN, zones=ZONES, now=NOW) as sim:
            warehouse = Warehouse(tmp_path_factory.mktemp("loaded") / "warehouse", instance, sim.url)
            yield warehouse, warehouse.run(LOADED)


@pytest.fixture
def warehouse(loaded: tuple[Warehouse, Any], tmp_path: Path) -> Warehouse:
    """A copy to be broken."""
    shutil.copytree(loaded[0].folder, tmp_path / "warehouse")
    return Warehouse(tmp_path / "warehouse", loaded[0].instance)


def test_a_healthy_warehouse_passes_every_check_in_every_hour_and_zone(loaded: tuple[Warehouse, Any]) -> None:
    result = loaded[1]
    assert result.success
    told = evaluations_of(result)
    assert [(e.check_name, e.partition, e.description) for e in told if not e.passed] == []
    hours = {partition_key(hour) for hour in LOADED.hours()}
    for table in (POWER_DATA, CARBON_DATA, ENERGY_DATA, ml_features(ZONES)):
        for check in checks_of(table):
            of_check = [e for e in told if (list(e.asset_key.path), e.check_name) == (table.asset_key, check.name)]
            expected = [None] if check.of_the_table else sorted(hours)
            assert sorted(e.partition or "" for e in of_check) == [hour or "" for hour in expected]
            # Without a target a status does not count as current.
            assert all(e.target_materialization_data is not None for e in of_check)


def test_a_deployment_of_a_zone_that_is_not_listed_passes_every_check(
    loaded: tuple[Warehouse, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    alone = Warehouse(tmp_path / "warehouse", loaded[0].instance, loaded[0].url)
    result = alone.run(JUDGED, zones=("FR",))
    assert result.success
    assert [(e.check_name, e.description) for e in evaluations_of(result) if not e.passed] == []


SILVER, GOLD, POWER = "silver/energy_data", "gold/ml_features", "bronze/power_data"
SANDBOX = json.dumps({"zone": "GR", "_disclaimer": "SANDBOX MODE", "history": []})
Plant = Callable[[Warehouse], None]


def _without_the_hour(table: str) -> Plant:
    return lambda lakehouse: lakehouse.change(table, lambda rows: [row for row in rows if not _is_broken(row)])


def _one_hour(**columns: Any) -> dict[str, Any]:
    return {"window_start": BROKEN, "window_end": BROKEN + HOUR, **columns}


def _said_again_in_the_future(lakehouse: Warehouse) -> None:
    """The record of the broken hour that was ingested last, alone in a body of tomorrow."""
    rows = DeltaTable(str(lakehouse.folder / POWER)).to_pyarrow_table().to_pylist()
    newest = sorted((row for row in rows if row["zone"] == "GR"), key=lambda row: row["ingested_at"], reverse=True)
    bodies = [json.loads(row["raw_json"]) for row in newest]
    records = [record for body in bodies for record in body.get("history") or body["data"]]
    last = next(record for record in records if record["datetime"] == iso(BROKEN))
    lakehouse.add(
        POWER,
        **_one_hour(raw_json=json.dumps({"zone": "GR", "history": [last]}), ingested_at=NOW + 23 * HOUR),
    )


# What is planted; the table whose checks are run; the checks that must fail in the broken hour and nowhere else.
FAULTS: dict[str, tuple[Plant, str, set[str]]] = {
    "a truncated body in bronze": (
        lambda lakehouse: lakehouse.add(POWER, **_one_hour(raw_json='{"zone": "GR", "history": [')),
        POWER,
        {"raw_json_parses"},
    ),
    "a sandbox body in bronze": (
        lambda lakehouse: lakehouse.add(POWER, **_one_hour(raw_json=SANDBOX)),
        POWER,
        {"no_sandbox_data", "raw_json_parses"},
    ),
    "a record that is quarantined": (
        lambda lakehouse: lakehouse.quarantine(),
        POWER,
        {"every_record_is_trusted"},
    ),
    "a doubled row in silver": (lambda lakehouse: lakehouse.add(SILVER), SILVER, {"primary_key_is_unique"}),
    "a mode that is not the latest record's": (
        lambda lakehouse: lakehouse.alter(SILVER, consumption_oil=7.25),
        SILVER,
        {"latest_ingestion_wins", "silver_equals_bronze"},
    ),
    "a wrong time since when a record is known": (
        lambda lakehouse: lakehouse.alter(SILVER, ingested_at_carbon=NOW - 5 * HOUR),
        SILVER,
        {"latest_ingestion_wins"},
    ),
    "a response of the future": (
        _said_again_in_the_future,
        SILVER,
        {"ingestion_times_are_right"},
    ),
    "an hour that silver lost": (
        _without_the_hour(SILVER),
        SILVER,
        {"silver_equals_bronze", "every_hour_is_present"},
    ),
    "an hour of a zone that bronze does not hold": (
        lambda lakehouse: lakehouse.add(SILVER, zone="DE"),
        SILVER,
        {"silver_equals_bronze"},
    ),
    "a total that is not the sum": (
        lambda lakehouse: lakehouse.alter(SILVER, production_total=1e5),
        SILVER,
        {"parts_sum_to_total", "latest_ingestion_wins", "silver_equals_bronze"},
    ),
    "energy from nowhere": (
        lambda lakehouse: lakehouse.alter(SILVER, consumption_total=99.0),
        SILVER,
        {"energy_balances", "parts_sum_to_total", "latest_ingestion_wins", "silver_equals_bronze"},
    ),
    "an impossible carbon intensity": (
        lambda lakehouse: lakehouse.alter(SILVER, carbon_intensity=4000.0),
        SILVER,
        {"values_are_plausible", "latest_ingestion_wins", "silver_equals_bronze"},
    ),
    "a feed without a value": (
        lambda lakehouse: lakehouse.alter(SILVER, carbon_intensity=None),
        SILVER,
        {"values_are_reported", "latest_ingestion_wins", "silver_equals_bronze"},
    ),
    "a neighbour with another name": (
        lambda lakehouse: lakehouse.alter(SILVER, export_by_zone=[("MK-N", 0.0)], export_total=0.0, import_total=None),
        SILVER,
        {"neighbours_have_columns", "values_are_reported", "latest_ingestion_wins", "silver_equals_bronze"},
    ),
    "a doubled row in gold": (lambda lakehouse: lakehouse.add(GOLD), GOLD, {"primary_key_is_unique"}),
    "a lag of 0": (
        lambda lakehouse: lakehouse.alter(GOLD, lag_production_gas_1h=0.0),
        GOLD,
        {"lag_1h_is_the_previous_hour"},
    ),
    "a mean that is not a number": (
        lambda lakehouse: lakehouse.alter(GOLD, rolling_avg_production_gas_24h=float("nan")),
        GOLD,
        {"rolling_avg_24h_is_the_mean_of_the_window"},
    ),
    "local time that is UTC": (
        lambda lakehouse: lakehouse.alter(GOLD, local_hour=BROKEN.hour),
        GOLD,
        {"gold_equals_silver"},
    ),
    "an hour that gold lacks": (_without_the_hour(GOLD), GOLD, {"gold_is_not_stale"}),
    "a flag that silver revised": (
        lambda lakehouse: lakehouse.alter(SILVER, is_estimated_power=None),
        GOLD,
        {"gold_is_not_stale", "gold_equals_silver"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails_its_checks_in_its_hour_alone(warehouse: Warehouse, fault: str) -> None:
    plant, table, fails = FAULTS[fault]
    plant(warehouse)
    told = evaluations_of(warehouse.run(JUDGED, table))
    assert {(e.check_name, e.partition) for e in told if not e.passed} == {(n, partition_key(BROKEN)) for n in fails}
    blocking = {check.name: check.blocking for check in checks_of(TABLES[table])}
    remedy = {check.name: check.remedy for check in checks_of(TABLES[table])}
    for evaluation in told:
        error = evaluation.severity == dg.AssetCheckSeverity.ERROR
        assert evaluation.blocking is error is blocking[evaluation.check_name]
        if not evaluation.passed:
            shown = evaluation.metadata["findings"].records
            assert [record.data["datetime"] for record in shown] == [f"{BROKEN:%Y-%m-%dT%H:%MZ}"] * len(shown)
            assert str(shown[0].data["finding"]) in str(evaluation.description)
        # Who reads the page of a failed hour finds the remedy on it.
        told_to_do = evaluation.metadata.get("remediation")
        assert (told_to_do.value if told_to_do else None) == (
            None if evaluation.passed else remedy[evaluation.check_name]
        )


def test_every_check_is_in_the_list_of_planted_faults() -> None:
    """Those of a table as a whole have tests of their own below, those of many hours in test_provider_faults.py."""
    planted = {name for _, _, fails in FAULTS.values() for name in fails}
    planted |= {"values_change", "rolling_avg_24h_is_of_one_emission_factor_type"}
    # In test_roads.py.
    planted |= {"flows_are_not_carried_forward", "rolling_avg_24h_is_of_one_power_signal"}
    assert planted == {check.name for table in TABLES.values() for check in checks_of(table) if not check.of_the_table}


def test_a_finding_about_many_hours_is_charged_to_each_of_them(warehouse: Warehouse) -> None:
    until = BROKEN + 5 * HOUR
    warehouse.add(POWER, raw_json="<html>", window_start=BROKEN, window_end=until)
    told = evaluations_of(warehouse.run(JUDGED, POWER))
    assert [e.partition for e in told if not e.passed] == [partition_key(BROKEN), partition_key(BROKEN + HOUR)]


def test_a_fault_beside_the_hours_of_the_run_is_charged_to_the_nearest(warehouse: Warehouse) -> None:
    warehouse.alter(SILVER, consumption_oil=7.25)
    told = evaluations_of(warehouse.run(Window(BROKEN - 3 * HOUR, BROKEN - HOUR), SILVER))
    assert {e.partition for e in told if not e.passed} == {partition_key(BROKEN - 2 * HOUR)}


def test_ten_findings_are_shown_and_all_are_counted(warehouse: Warehouse) -> None:
    warehouse.change(GOLD, lambda rows: [{**row, "month": 7} for row in rows])
    (evaluation,) = [e for e in evaluations_of(warehouse.run(Window(BROKEN, BROKEN + HOUR), GOLD)) if not e.passed]
    # All hours of both zones, since the run is charged for what lies beside it.
    assert str(evaluation.description).startswith("62 findings, the first: month is 7, must be 5")
    assert len(evaluation.metadata["findings"].records) == 10


@pytest.mark.parametrize("table", TABLES)
def test_a_column_that_was_added_by_hand_fails_the_schema_check_once(warehouse: Warehouse, table: str) -> None:
    DeltaTable(str(warehouse.folder / table)).alter.add_columns([Field("mine", PrimitiveType("double"))])
    (evaluation,) = [e for e in evaluations_of(warehouse.run(JUDGED, table)) if not e.passed]
    assert (evaluation.check_name, evaluation.partition) == ("schema_matches_the_contract", None)
    assert evaluation.blocking
    assert evaluation.description == "1 finding, the first: column mine is not in the contract"


def test_a_column_that_is_gone_or_of_another_type_is_a_finding_and_no_crash(warehouse: Warehouse) -> None:
    delta = DeltaTable(str(warehouse.folder / GOLD))
    stored = delta.to_pyarrow_table().drop_columns(["production_gas"])
    place = stored.column_names.index("hour")
    changed = stored.set_column(place, "hour", stored.column("hour").cast(pa.string()))
    write_deltalake(delta, changed, mode="overwrite", schema_mode="overwrite")
    failed = {e.check_name for e in evaluations_of(warehouse.run(JUDGED, GOLD)) if not e.passed}
    assert failed == {"schema_matches_the_contract", "gold_equals_silver", "gold_is_not_stale"}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_is_gone_is_reported_and_nothing_crashes(warehouse: Warehouse, table: str) -> None:
    shutil.rmtree(warehouse.folder / table)
    told = {e.check_name: e for e in evaluations_of(warehouse.run(JUDGED, table)) if not e.passed}
    assert "does not exist" in str(told["schema_matches_the_contract"].description)


def test_files_that_are_gone_are_reported_by_every_check_of_the_hours(warehouse: Warehouse) -> None:
    for file in (warehouse.folder / SILVER).rglob("*.parquet"):
        file.unlink()
    result = warehouse.run(JUDGED, SILVER)
    failed = {e.check_name for e in evaluations_of(result) if not e.passed}
    assert failed >= {check.name for check in checks_of(ENERGY_DATA) if not check.of_the_table}
    assert all("cannot be read" in str(e.description) for e in evaluations_of(result) if not e.passed)


def test_a_table_that_was_not_updated_for_long_warns_whatever_hours_the_run_has(warehouse: Warehouse) -> None:
    in_time = evaluations_of(warehouse.run(Window(LOADED.start, LOADED.start + HOUR), SILVER, now=NOW + 5 * HOUR))
    assert [e.check_name for e in in_time if not e.passed] == []
    for table in (SILVER, GOLD):
        late = evaluations_of(warehouse.run(JUDGED, table, now=NOW + 6 * HOUR))
        (evaluation,) = [e for e in late if not e.passed]
        assert (evaluation.check_name, evaluation.partition) == ("table_is_fresh", None)
        assert (evaluation.severity, evaluation.blocking) == (dg.AssetCheckSeverity.WARN, False)
        assert "2024-05-04T09:00Z: it ended 6 hours ago" in str(evaluation.description)


def test_a_warning_lets_gold_run_and_an_error_does_not(
    loaded: tuple[Warehouse, Any], warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    later = NOW + timedelta(hours=1)
    with Simulator(token=TOKEN, zones=ZONES, now=later) as sim:
        sim.provider.withhold("FR", LOADED.end, LOADED.end + HOUR)
        warehouse.url = sim.url
        result = warehouse.run(Window(LOADED.end, LOADED.end + HOUR), now=later)
        warned = [e.check_name for e in evaluations_of(result) if not e.passed]
        assert (result.success, warned) == (True, ["every_hour_is_present"])
        assert "gold__ml_features" in _steps_that_succeeded(result)

        warehouse.add(SILVER, datetime=LOADED.end)
        result = warehouse.run(Window(LOADED.end, LOADED.end + HOUR), now=later)
        assert "primary_key_is_unique" in {e.check_name for e in evaluations_of(result) if not e.passed}
        assert "gold__ml_features" not in _steps_that_succeeded(result)


def _steps_that_succeeded(result: dg.ExecuteInProcessResult) -> set[str | None]:
    return {event.step_key for event in result.all_events if event.is_step_success}


def test_every_check_states_what_to_do() -> None:
    for table in (POWER_DATA, ENERGY_DATA, ml_features(ZONES)):
        for check in checks_of(table):
            assert " If not, " in check.remedy or " If one does, " in check.remedy, check.name
