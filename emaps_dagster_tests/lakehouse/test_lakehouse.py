"""The door to storage: what it creates, appends and reads, odd paths and broken files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from emaps_dagster.contracts.errors import ContractChangedError, DamagedTableError, LakehouseError
from emaps_dagster.contracts.table_contract import Column, Table
from emaps_dagster.contracts.tables import TRUSTED, all_tables
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster_tests.support.builders import frame
from emaps_dagster_tests.support.engines import open_folders
from emaps_dagster_tests.support.readings import DAY, READINGS, T0, answering, rows_of, stored

pytestmark = pytest.mark.both_engines


def test_every_contract_becomes_a_delta_table_with_its_comments_and_partition(lakehouse: Lakehouse) -> None:
    for contract in all_tables(("GR",)):
        lakehouse.create(contract)
        delta = DeltaTable(lakehouse.location(contract))
        fields = {field.name: field for field in delta.schema().fields}
        assert list(fields) == contract.column_names
        assert {name: field.metadata["comment"] for name, field in fields.items()} == {
            column.name: column.comment for column in contract.columns
        }
        assert {name: field.nullable for name, field in fields.items()} == {
            column.name: column.nullable for column in contract.columns
        }
        assert delta.metadata().partition_columns == [contract.partition]
        assert delta.metadata().configuration["delta.appendOnly"] == str(contract.append_only).lower()
        assert lakehouse.schema_differences(contract) == []


def test_creating_a_table_that_is_there_writes_nothing(table: Lakehouse) -> None:
    table.create(READINGS)
    assert table.version(READINGS) == 0


def test_a_table_unlike_its_contract_is_named_with_the_columns_and_the_remedy(table: Lakehouse) -> None:
    changed = Table(
        READINGS.layer,
        READINGS.name,
        READINGS.meaning,
        (*READINGS.columns[:2], Column("value", "int", ""), Column("more", "double", ""), *READINGS.columns[4:]),
        READINGS.key,
        READINGS.append_only,
    )
    with pytest.raises(ContractChangedError) as error:
        table.create(changed)
    for part in (
        "silver.readings",
        table.location(READINGS),
        "column more is missing",
        "column flows is not in the contract",
        "column value is double, must be int",
    ):
        assert part in str(error.value)


def test_append_returns_its_rows_and_without_rows_makes_no_version(table: Lakehouse, spark: SparkSession) -> None:
    assert table.append(READINGS, rows_of(spark, (0, 1.0), (3, 2.0))).num_rows == 2
    assert table.version(READINGS) == 1
    assert table.append(READINGS, rows_of(spark, (9, 1.0)).limit(0)).num_rows == 0
    assert table.version(READINGS) == 1


def test_reads_are_half_open_and_by_month(table: Lakehouse, spark: SparkSession) -> None:
    table.append(READINGS, rows_of(spark, *((number, 1.0) for number in range(24))))
    window = Window(T0 + HOUR, T0 + 4 * HOUR)
    hours = [row.datetime.replace(tzinfo=timezone.utc) for row in table.scan_hours(READINGS, window).collect()]
    assert sorted(hours) == [T0 + HOUR, T0 + 2 * HOUR, T0 + 3 * HOUR]
    assert table.scan_hours(READINGS, window, version=0).count() == 0


def test_any_folder_name_works_and_is_shown_as_it_is(spark: SparkSession, tmp_path: Path) -> None:
    name = Path("my data 100%", "ü#ß (a){b}*", "what? it's")
    lakehouse = open_folders(spark, tmp_path / name / "warehouse")
    lakehouse.create(READINGS)
    lakehouse.merge(READINGS, DAY, answering(rows_of(spark, (2, 1.0), (3, 2.0))))
    lakehouse.append(READINGS, rows_of(spark, (4, 3.0)))
    assert lakehouse.scan_hours(READINGS, DAY).count() == 3
    assert lakehouse.location(READINGS) == str(tmp_path / name / "warehouse" / "silver" / "readings")
    assert (tmp_path / name / "warehouse" / "silver" / "readings" / "_delta_log").is_dir()


def test_a_broken_file_is_named_whatever_engine_meets_it(
    table: Lakehouse, spark: SparkSession, warehouse: Path
) -> None:
    table.merge(READINGS, DAY, answering(rows_of(spark, (2, 1.0))))
    folder = Path(table.location(READINGS))
    (data,) = folder.rglob("*.parquet")
    commit = folder / "_delta_log" / f"{1:020}.json"
    for file, left in ((commit, 0), (commit, 300), (data, 0), (data, 400), (data, None)):
        content = file.read_bytes()
        if left is None:
            file.unlink()
        else:
            file.write_bytes(content[:left])
        lakehouse = open_folders(spark, warehouse)
        doors: list[Callable[[], object]] = [
            lambda lakehouse=lakehouse: lakehouse.collect(lakehouse.scan(READINGS)),
            lambda lakehouse=lakehouse: lakehouse.read_arrow(READINGS, DAY),
            lambda lakehouse=lakehouse: lakehouse.merge(READINGS, DAY, answering(rows_of(spark, (2, 2.0)))),
        ]
        for door in doors:
            with pytest.raises(DamagedTableError, match=rf"^silver\.readings cannot be used: its file {file} "):
                door()
        file.write_bytes(content)
    assert open_folders(spark, warehouse).read_arrow(READINGS, DAY).num_rows == 1


@pytest.mark.jvm_long("names with blanks run there in the test of folder names")
def test_blanks_in_the_folder_of_temporary_files_as_well_work(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "my temp"))
    lakehouse = open_folders(spark, tmp_path / "my data" / "warehouse")
    lakehouse.create(READINGS)
    lakehouse.merge(READINGS, DAY, answering(rows_of(spark, (2, 1.0))))
    assert lakehouse.scan_hours(READINGS, DAY).count() == 1
    assert stored(lakehouse) == [("GR", 2, 1.0, None)]


@pytest.mark.parametrize("name", ["a[b]", "a|b", "a^b", "a\\b", "a\tb", "my%20data", "a%2Fb"])
def test_a_folder_name_that_delta_cannot_take_is_one_clear_error(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    with pytest.raises(LakehouseError, match=r"EMAPS_WAREHOUSE.*another folder"):
        open_folders(spark, tmp_path / name)


def test_bronze_refuses_deletes(lakehouse: Lakehouse, spark: SparkSession) -> None:
    bronze = all_tables(("GR",))[0]
    lakehouse.create(bronze)
    hour = datetime(2024, 1, 1, tzinfo=timezone.utc)
    row = ("s", "GR", "{}", hour, hour, hour + HOUR, "/v3", "00", None, "2024-01")
    lakehouse.append(bronze, frame(spark, bronze, [row]))
    with pytest.raises(Exception, match=r"(?i)append"):
        DeltaTable(lakehouse.location(bronze)).delete()
    with pytest.raises(Exception, match=r"(?i)append"):
        write_deltalake(
            lakehouse.location(bronze), DeltaTable(lakehouse.location(bronze)).to_pyarrow_table(), mode="overwrite"
        )


@pytest.mark.jvm_long("a changed contract runs there in test_merge.py")
def test_a_bronze_table_of_an_earlier_release_gets_the_columns_it_lacks(
    lakehouse: Lakehouse, spark: SparkSession
) -> None:
    bronze = all_tables(("GR",))[0]
    earlier = replace(bronze, columns=tuple(column for column in bronze.columns if column.name != TRUSTED))
    hour = datetime(2024, 1, 1, tzinfo=timezone.utc)
    rows = [("s", "GR", f"{{{n}}}", hour, hour, hour + HOUR, "/v3", f"{n}", "2024-01") for n in range(2)]
    lakehouse.create(earlier)
    lakehouse.append(earlier, frame(spark, earlier, rows[:1]))

    def read() -> dict[str, str | None]:
        responses = lakehouse.scan_responses(bronze, DAY_OF_BRONZE, longest=timedelta(days=12))
        found = lakehouse.collect(responses.select("payload_sha256", TRUSTED)).to_pylist()
        return {row["payload_sha256"]: row[TRUSTED] for row in found}

    assert read() == {"0": None}
    lakehouse.create(bronze)
    lakehouse.create(bronze)
    assert lakehouse.schema_differences(bronze) == []
    lakehouse.append(bronze, frame(spark, bronze, [(*rows[1][:-1], "left", rows[1][-1])]))
    assert read() == {"0": None, "1": "left"}
    whole = DeltaTable(lakehouse.location(bronze)).to_pyarrow_table().to_pylist()
    assert sorted((row["raw_json"], row["year_month"]) for row in whole) == [("{0}", "2024-01"), ("{1}", "2024-01")]
    # A type that changed is no column that is missing.
    broken = replace(bronze, columns=(*bronze.columns[:2], replace(bronze.columns[2], type="int"), *bronze.columns[3:]))
    with pytest.raises(ContractChangedError, match="column raw_json is string, must be int"):
        lakehouse.create(broken)


DAY_OF_BRONZE = Window(datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2024, 1, 2, tzinfo=timezone.utc))
