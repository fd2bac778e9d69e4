"""Silver and gold made again from bronze alone: each kind of damage is counted, shown and repaired bit for bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from emaps_dagster.contracts.errors import ContractChangedError, LakehouseError
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.comparison import HourDifference
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.reports import RebuildReport
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.rebuild import hours_to_rebuild, rebuild_gold, rebuild_silver
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster_tests.support.builders import body, bronze, record, utc
from harness.history_builder import Past

ROOT = Path(__file__).resolve().parents[2]
GR = ("GR",)
GOLD = ml_features(GR)
# Sixty hours over the turn of a month.
HELD = Window(utc(2024, 4, 29, 12), utc(2024, 5, 2))
# Rebuilt in most tests: with the 23 hours on both sides it stays within May.
RANGE = Window(utc(2024, 5, 1, 0) + 23 * HOUR, utc(2024, 5, 2))
H = utc(2024, 5, 1, 6)


def _bodies(feed: str) -> list[tuple[str, datetime]]:
    """Bodies of 12 hours each; every value is another."""
    bodies = []
    for start in HELD.hours():
        if (start - HELD.start) % timedelta(hours=12):
            continue
        records = []
        for hour in (start + number * HOUR for number in range(12)):
            n = float((hour - HELD.start) // HOUR)
            power = {
                "powerProductionBreakdown": {"gas": 1000 + n, "wind": 0.1 * n, "hydro discharge": -n, "coal": None},
                "powerProductionTotal": 1000 + 0.1 * n,
                "powerImportBreakdown": {"AL": n, "RO": 7.0 + n},
            }
            records.append(record(hour, **(power if feed == "power" else {"carbonIntensity": 300 + n / 3})))
        bodies.append((body(*records), start + timedelta(hours=12, minutes=7)))
    return bodies


@pytest.fixture(scope="module")
def healthy(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> FolderLakehouse:
    lakehouse = FolderLakehouse(spark, tmp_path_factory.mktemp("healthy") / "warehouse")
    for feed, table in (("power", POWER_DATA), ("carbon", CARBON_DATA)):
        lakehouse.create(table)
        lakehouse.append(table, bronze(spark, *_bodies(feed)))
    merge_silver(lakehouse, HELD)
    merge_gold(lakehouse, GR, HELD)
    return lakehouse


@pytest.fixture
def lakehouse(healthy: FolderLakehouse, tmp_path: Path) -> FolderLakehouse:
    """A copy to be broken."""
    shutil.copytree(healthy.warehouse, tmp_path / "warehouse")
    return FolderLakehouse(healthy.spark, tmp_path / "warehouse")


def rebuild(
    lakehouse: FolderLakehouse, hours: Window = RANGE, zones: tuple[str, ...] = GR, *, dry_run: bool = False
) -> tuple[RebuildReport, RebuildReport]:
    return rebuild_silver(lakehouse, hours, dry_run=dry_run), rebuild_gold(lakehouse, zones, hours, dry_run=dry_run)


def counted(reports: tuple[RebuildReport, RebuildReport]) -> tuple[HourDifference, HourDifference]:
    silver, gold = (replace(report.differences.total, rows=0) for report in reports)
    return silver, gold


def delta(lakehouse: FolderLakehouse, table: Table) -> DeltaTable:
    return DeltaTable(lakehouse.location(table))


def rows(lakehouse: FolderLakehouse, table: Table) -> list[dict[str, Any]]:
    stored = delta(lakehouse, table).to_pyarrow_table()
    return sorted(stored.to_pylist(), key=lambda row: (row["zone"], row["datetime"], row["year_month"]))


def versions(lakehouse: FolderLakehouse) -> tuple[int | None, int | None]:
    return lakehouse.version(ENERGY_DATA), lakehouse.version(GOLD)


def _add(lakehouse: FolderLakehouse, table: Table, at: datetime = H, **columns: Any) -> None:
    """A row like that of an hour, with other values."""
    stored = delta(lakehouse, table).to_pyarrow_table()
    row = next(row for row in stored.to_pylist() if row["datetime"] == at)
    write_deltalake(delta(lakehouse, table), pa.Table.from_pylist([{**row, **columns}], stored.schema), mode="append")


def _alter(lakehouse: FolderLakehouse, table: Table, hours: int = 1, at: datetime = H) -> None:
    until = at + hours * HOUR
    predicate = f"datetime >= '{at.isoformat()}' AND datetime < '{until.isoformat()}'"
    delta(lakehouse, table).update(predicate=predicate, updates={"production_gas": "production_gas + 0.5"})


def _delete(lakehouse: FolderLakehouse, table: Table, at: datetime) -> None:
    until = at + 3 * HOUR
    delta(lakehouse, table).delete(f"datetime >= '{at.isoformat()}' AND datetime < '{until.isoformat()}'")


def _damage_silver_and_let_gold_follow(lakehouse: FolderLakehouse) -> None:
    _alter(lakehouse, ENERGY_DATA)
    merge_gold(lakehouse, GR, HELD)


def _damage_gold_alone(lakehouse: FolderLakehouse) -> None:
    """A wrong value, and an hour that bronze lacks."""
    _alter(lakehouse, GOLD)
    _add(lakehouse, GOLD, datetime=AFTER)


def _damage_both_in_every_way(lakehouse: FolderLakehouse) -> None:
    """Each way in hours of its own, from H on; what is wrong in silver, gold does not follow."""
    _alter(lakehouse, ENERGY_DATA, 2)
    for table in (ENERGY_DATA, GOLD):
        _delete(lakehouse, table, H + 3 * HOUR)
        # A zone that bronze lacks; a key twice, once with another month.
        _add(lakehouse, table, H + 6 * HOUR, zone="AL")
        _add(lakehouse, table, H + 7 * HOUR)
        _add(lakehouse, table, H + 8 * HOUR, production_gas=1.0, year_month="2031-01")


NONE = HourDifference()
AFTER = utc(2024, 5, 2, 3)
# From H to the end of what is held its value is in 18 means.
FOLLOWING = HourDifference(wrong=18)


@pytest.mark.parametrize(
    ("plant", "silver", "gold"),
    [
        (
            _damage_both_in_every_way,
            HourDifference(wrong=2, missing=3, surplus=1, duplicate=2),
            HourDifference(missing=3, surplus=1, duplicate=2),
        ),
        (_damage_gold_alone, NONE, HourDifference(wrong=1, surplus=1)),
        (_damage_silver_and_let_gold_follow, HourDifference(wrong=1), FOLLOWING),
    ],
)
def test_damage_is_counted_and_repaired_bit_for_bit(
    lakehouse: FolderLakehouse,
    healthy: FolderLakehouse,
    plant: Callable[[FolderLakehouse], None],
    silver: HourDifference,
    gold: HourDifference,
) -> None:
    plant(lakehouse)
    before = versions(lakehouse)
    assert counted(rebuild(lakehouse, dry_run=True)) == (silver, gold)
    assert versions(lakehouse) == before, "a dry run writes nothing"

    assert counted(rebuild(lakehouse)) == (silver, gold)
    assert rows(lakehouse, ENERGY_DATA) == rows(healthy, ENERGY_DATA)
    assert rows(lakehouse, GOLD) == rows(healthy, GOLD)
    after = [number + (of.differing > 0) for number, of in zip(before, (silver, gold), strict=True) if number]
    assert versions(lakehouse) == tuple(after), "one version of each table that differed"


def test_silver_that_changed_behind_golds_back_is_followed(lakehouse: FolderLakehouse) -> None:
    revised = body(record(H, carbonIntensity=500.0))
    lakehouse.append(CARBON_DATA, bronze(lakehouse.spark, (revised, utc(2024, 5, 3))))
    merge_silver(lakehouse, HELD)
    assert counted(rebuild(lakehouse)) == (NONE, FOLLOWING)
    assert merge_gold(lakehouse, GR, HELD).total.unchanged == 60


def test_healthy_tables_report_nothing_and_get_no_version(lakehouse: FolderLakehouse) -> None:
    before = versions(lakehouse)
    reports = rebuild(lakehouse, HELD)
    assert counted(reports) == (NONE, NONE)
    assert [report.differences.total.rows for report in reports] == [60, 60]
    assert set(reports[1].differences.hours) == set(HELD.hours())
    assert versions(lakehouse) == before


def test_tables_that_are_gone_are_made_again(lakehouse: FolderLakehouse, healthy: FolderLakehouse) -> None:
    for table in (ENERGY_DATA, GOLD):
        shutil.rmtree(lakehouse.location(table))
    everything = (HourDifference(missing=60), HourDifference(missing=60))
    assert counted(rebuild(lakehouse, HELD, dry_run=True)) == everything
    assert versions(lakehouse) == (None, None)
    assert counted(rebuild(lakehouse, HELD)) == everything
    for table in (ENERGY_DATA, GOLD):
        assert rows(lakehouse, table) == rows(healthy, table)


def test_hours_beside_the_range_are_neither_judged_nor_touched(lakehouse: FolderLakehouse) -> None:
    start = HELD.start + 47 * HOUR
    _alter(lakehouse, ENERGY_DATA, at=start - 24 * HOUR)
    _alter(lakehouse, GOLD, at=start + 24 * HOUR)
    found = rebuild(lakehouse, Window(start, start + HOUR))
    assert counted(found)[0] == NONE
    assert min(found[1].differences.hours) == start - 23 * HOUR
    assert counted(rebuild(lakehouse, Window(start - HOUR, start)))[0] == HourDifference(wrong=1)


def test_without_bronze_nothing_is_rebuilt(lakehouse: FolderLakehouse, healthy: FolderLakehouse) -> None:
    shutil.rmtree(lakehouse.location(CARBON_DATA))
    with pytest.raises(LakehouseError, match=r"bronze\.carbon_data does not exist at .*nothing was changed"):
        rebuild(lakehouse)
    assert rows(lakehouse, ENERGY_DATA) == rows(healthy, ENERGY_DATA)
    # The remedy: bronze is restored.
    _alter(lakehouse, GOLD)
    shutil.copytree(healthy.location(CARBON_DATA), lakehouse.location(CARBON_DATA))
    rebuild(lakehouse)
    assert rows(lakehouse, GOLD) == rows(healthy, GOLD)


def test_other_zones_lead_to_the_rebuild_which_gives_gold_their_columns(
    lakehouse: FolderLakehouse, healthy: FolderLakehouse
) -> None:
    both = ("GR", "BG")
    with pytest.raises(ContractChangedError) as told:
        merge_gold(lakehouse, both, HELD)
    for part in (
        "gold.ml_features",
        "column import_RO is missing",
        "column import_AL",
        "EMAPS_ZONES",
        "`dagster job execute -m emaps_dagster.definitions -j rebuild -c rebuild.yaml`",
        '{start: "2024-04-29T12:00Z", end: "2024-05-02T00:00Z"}',
        "docs/operations.md",
    ):
        assert (part in str(told.value)) == (part != "column import_AL")

    before = versions(lakehouse)
    with pytest.raises(ContractChangedError, match=r'not all of it.*start: "2024-04-29T12:00Z", end: "2024-05-02T00'):
        rebuild(lakehouse, RANGE, both)
    assert counted(rebuild(lakehouse, HELD, both, dry_run=True)) == (NONE, NONE)
    assert versions(lakehouse) == before

    _, gold = rebuild(lakehouse, HELD, both)
    assert gold.differences.total == HourDifference(rows=60), "values did not change in the columns that both have"
    assert "column lag_import_RO_1h is missing" in gold.contract
    assert versions(lakehouse) == (before[0], (before[1] or 0) + 1)
    assert lakehouse.schema_differences(ml_features(both)) == []
    fields = {field.name: field for field in delta(lakehouse, GOLD).schema().fields}
    assert {name: (f.nullable, f.metadata["comment"]) for name, f in fields.items()} == {
        column.name: (column.nullable, column.comment) for column in ml_features(both).columns
    }
    old, new = rows(healthy, GOLD), rows(lakehouse, GOLD)
    assert [{name: row[name] for name in old[0]} for row in new] == old
    assert [row["import_RO"] for row in new] == [7.0 + number for number in range(60)]
    assert [row["lag_import_RO_1h"] for row in new] == [None, *(7.0 + number for number in range(59))]
    earlier = DeltaTable(lakehouse.location(GOLD), version=before[1]).to_pyarrow_table()
    assert "import_RO" not in earlier.column_names, "the table as it was can still be read"
    assert merge_gold(lakehouse, both, HELD).total.unchanged == 60


def test_the_job_by_the_command_line_repairs_and_reports_each_hour_that_differed(
    lakehouse: FolderLakehouse, healthy: FolderLakehouse, tmp_path: Path
) -> None:
    _alter(lakehouse, GOLD)
    _add(lakehouse, ENERGY_DATA, zone="AL")
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "rebuild.yaml").write_text(
        f'{{start: "{RANGE.start:%Y-%m-%dT%H:%MZ}", end: "{RANGE.end:%Y-%m-%dT%H:%MZ}"}}\n'
    )
    command = "dagster job execute -m emaps_dagster.definitions -j rebuild -c rebuild.yaml"
    settings = {"EMAPS_WAREHOUSE": str(lakehouse.warehouse), "EMAPS_START": "2024-05-01", "DAGSTER_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=tmp_path,
        env={**os.environ, **settings, "PYTHONPATH": str(ROOT), "DAGSTER_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        "silver.energy_data [2024-05-01T00:00Z, 2024-05-02T00:00Z): 1 row differs from the 24 that bronze"
        in done.stderr + done.stdout
    )
    assert [rows(lakehouse, table) for table in (ENERGY_DATA, GOLD)] == [
        rows(healthy, table) for table in (ENERGY_DATA, GOLD)
    ]

    with dg.DagsterInstance.from_config(str(home)) as instance:
        written = {
            (record.asset_key.to_user_string(), record.partition_key): record.asset_materialization.metadata
            for table in (ENERGY_DATA, GOLD)
            for record in instance.fetch_materializations(dg.AssetKey(table.asset_key), limit=100).records
            if record.asset_key and record.asset_materialization
        }
        assert set(written) == {("silver/energy_data", partition_key(H)), ("gold/ml_features", partition_key(H))}
        numbers = {name: value.value for name, value in written["silver/energy_data", partition_key(H)].items()}
        assert (numbers["rows"], numbers["differing"], numbers["surplus"]) == (1, 1, 1)
        assert instance.fetch_observations(dg.AssetKey(GOLD.asset_key), limit=100).records == []
        (run,) = instance.get_runs()
        events = [e.dagster_event for e in instance.all_logs(run.run_id) if e.dagster_event]
    outputs = [e.step_output_data.metadata for e in events if e.event_type_value == "STEP_OUTPUT"]
    assert [output["rows_differing"].value for output in outputs] == [1, 1]
    shown = [output["first_differing_rows"].records[0].data["difference"] for output in outputs]
    assert shown == ["there is a row that bronze does not give", "production_gas is 1042.5, must be 1042.0"]


def test_the_launchpad_begins_with_all_hours_that_a_table_holds(lakehouse: FolderLakehouse) -> None:
    assert hours_to_rebuild(lakehouse, GR) == HELD
    assert hours_to_rebuild(lakehouse, GR, start="2024-05-01") == Window(utc(2024, 5, 1), HELD.end)
    assert hours_to_rebuild(lakehouse, GR, end="2024-05-01") == Window(HELD.start, utc(2024, 5, 1))
    # A row that bronze does not give is among them: it has to go.
    _add(lakehouse, ENERGY_DATA, datetime=HELD.end + 5 * HOUR)
    assert hours_to_rebuild(lakehouse, GR) == Window(HELD.start, HELD.end + 6 * HOUR)


def test_without_any_table_there_are_no_hours_to_begin_with(spark: SparkSession, tmp_path: Path) -> None:
    lakehouse = FolderLakehouse(spark, tmp_path / "nothing")
    with pytest.raises(LakehouseError, match=r"No table holds an hour yet.* Materialize some hours first\."):
        hours_to_rebuild(lakehouse, GR)
    past, hour = Past(lakehouse), Window(utc(2024, 5, 1, 6), utc(2024, 5, 1, 7))
    past.backfill(hour, utc(2024, 5, 4))
    assert hours_to_rebuild(lakehouse, GR) == hour


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("2024-05-01T06:30Z", "2024-05-02", "start is 2024-05-01T06:30:00\\+00:00; give a full UTC hour"),
        ("2024-05-02", "2024-05-01", "is not before end"),
        ("2024-05-01T06:00", "2024-05-02", "has no time zone"),
        ("yesterday", "2024-05-02", "not an ISO 8601 time"),
    ],
)
def test_hours_that_make_no_sense_are_refused_with_a_sentence(start: str, end: str, says: str) -> None:
    from emaps_dagster.contracts.settings import Settings
    from emaps_dagster.definitions import build_definitions

    job = build_definitions(Settings(_env_file=None)).resolve_job_def("rebuild")
    with pytest.raises(Exception, match=says):
        job.execute_in_process(run_config={"start": start, "end": end})
