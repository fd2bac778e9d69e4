"""The door to storage: what it creates, what a merge writes and what it leaves alone, races and odd paths."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.errors import ContractChangedError, DamagedTableError, LakehouseError, WriteConflictError
from emaps_dagster.contracts.table_contract import Column, Table
from emaps_dagster.contracts.tables import TRUSTED, all_tables
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse import storage as lakehouse_module
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.comparison import HourDifference
from emaps_dagster.lakehouse.reports import HourChange
from emaps_dagster_tests.support.builders import frame
from emaps_dagster_tests.support.engines import is_jvm, open_folders

pytestmark = pytest.mark.both_engines
# What decides in them is storage.py and merge.py; how each engine reads and commits for them, other tests show of both.
OF_NO_ENGINE = pytest.mark.embedded_alone(reason="what it shows is the same code for both engines")

READINGS = Table(
    layer="silver",
    name="readings",
    meaning="A small table for these tests",
    columns=(
        Column("zone", "string", "Zone key", nullable=False),
        Column("datetime", "timestamp", "Start of the hour, UTC", nullable=False),
        Column("value", "double", "A power", "MW"),
        Column("flows", "map<string,double>", "Powers by neighbour", "MW"),
        Column("year_month", "string", "yyyy-MM of datetime", nullable=False),
    ),
    key=("zone", "datetime"),
    append_only=False,
)
T0 = datetime(2024, 1, 31, 22, tzinfo=timezone.utc)
DAY = Window(T0, T0 + timedelta(hours=24))
Row = tuple[int, float | None] | tuple[int, float | None, dict[str, float | None] | None]


def rows_of(spark: SparkSession, *rows: Row, zone: str = "GR") -> DataFrame:
    """Rows from (hours after T0, value[, flows])."""
    full = [
        (zone, T0 + number * HOUR, value, rest[0] if rest else None, f"{T0 + number * HOUR:%Y-%m}")
        for number, value, *rest in rows
    ]
    return frame(spark, READINGS, full)


def answering(rows: DataFrame) -> Callable[[Window], DataFrame]:
    """A computation whose result for a part of the window is the rows in it."""
    return lambda part: rows.where(rows.datetime.between(part.start, part.end - HOUR))


def stored(lakehouse: Lakehouse) -> list[tuple[Any, ...]]:
    rows = DeltaTable(lakehouse.location(READINGS)).to_pyarrow_table().to_pylist()
    return sorted(
        (
            row["zone"],
            (row["datetime"] - T0) // HOUR,
            row["value"],
            None if row["flows"] is None else dict(row["flows"]),
        )
        for row in rows
    )


def files(lakehouse: Lakehouse) -> set[str]:
    return set(DeltaTable(lakehouse.location(READINGS)).file_uris())


@pytest.fixture
def table(lakehouse: Lakehouse) -> Lakehouse:
    lakehouse.create(READINGS)
    return lakehouse


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


def test_a_month_of_two_zones_is_merged_read_and_merged_again(table: Lakehouse, spark: SparkSession) -> None:
    def both(value: float) -> Callable[[Window], DataFrame]:
        return answering(rows_of(spark, (0, value)).union(rows_of(spark, (0, 2.0), zone="BG")))

    assert table.merge(READINGS, DAY, both(1.0)).total == HourChange(inserted=2)
    assert table.scan(READINGS).where("zone = 'GR'").count() == 1
    assert table.merge(READINGS, DAY, both(3.0)).total == HourChange(updated=1, unchanged=1)
    assert stored(table) == [("BG", 0, 2.0, None), ("GR", 0, 3.0, None)]


def test_merging_into_a_table_that_is_not_there_is_an_error(lakehouse: Lakehouse, spark: SparkSession) -> None:
    with pytest.raises(LakehouseError, match=r"silver\.readings does not exist at "):
        lakehouse.merge(READINGS, DAY, answering(rows_of(spark, (0, 1.0))))


def test_append_returns_its_rows_and_without_rows_makes_no_version(table: Lakehouse, spark: SparkSession) -> None:
    assert table.append(READINGS, rows_of(spark, (0, 1.0), (3, 2.0))).num_rows == 2
    assert table.version(READINGS) == 1
    assert table.append(READINGS, rows_of(spark, (9, 1.0)).limit(0)).num_rows == 0
    assert table.version(READINGS) == 1


# Of an hour each: what is stored, what is merged, and what the merge says of it.
_DIFFERENCES: list[tuple[tuple[Any, Any], tuple[Any, Any], str]] = [
    ((1.0, None), (1.0, None), "unchanged"),
    ((1.0, None), (1.5, None), "updated"),
    ((None, None), (None, None), "unchanged"),
    ((None, None), (0.0, None), "updated"),
    ((0.0, None), (None, None), "updated"),
    ((1.0, {"AL": 1.0, "BG": 2.0}), (1.0, {"BG": 2.0, "AL": 1.0}), "unchanged"),
    ((1.0, {"AL": 1.0}), (1.0, {"AL": 1.0, "BG": 0.0}), "updated"),
    ((1.0, {"AL": 1.0}), (1.0, {"AL": None}), "updated"),
    ((1.0, {"AL": None}), (1.0, {"AL": None}), "unchanged"),
    ((1.0, {}), (1.0, None), "updated"),
    ((1.0, {}), (1.0, {}), "unchanged"),
]


def test_a_merge_updates_what_differs_null_and_zero_told_apart(table: Lakehouse, spark: SparkSession) -> None:
    befores, afters, changes = zip(*_DIFFERENCES, strict=True)
    # From hour 2 on all are of February: one version.
    table.merge(READINGS, DAY, answering(rows_of(spark, *((2 + n, *before) for n, before in enumerate(befores)))))
    report = table.merge(READINGS, DAY, answering(rows_of(spark, *((2 + n, *after) for n, after in enumerate(afters)))))
    assert report.hours == {T0 + (2 + n) * HOUR: HourChange(**{change: 1}) for n, change in enumerate(changes)}
    assert stored(table) == [("GR", 2 + n, *after) for n, after in enumerate(afters)]
    assert table.version(READINGS) == 2


def test_a_merge_reports_hour_by_hour_and_writes_one_version_and_the_changed_months(
    table: Lakehouse, spark: SparkSession
) -> None:
    # T0 is 22:00 of 31 January: hours 0 and 1 lie in January, from 2 on in February.
    first = table.merge(READINGS, DAY, answering(rows_of(spark, (0, 1.0), (1, 2.0), (2, 3.0), (20, 4.0))))
    assert first.total == HourChange(inserted=4)
    assert table.version(READINGS) == 1
    kept = {uri for uri in files(table) if "2024-02" in uri}

    second = table.merge(READINGS, DAY, answering(rows_of(spark, (0, 1.0), (1, 9.0), (2, 3.0), (20, 4.0))))
    assert second.hours == {
        T0: HourChange(unchanged=1),
        T0 + HOUR: HourChange(updated=1),
        T0 + 2 * HOUR: HourChange(unchanged=1),
        T0 + 20 * HOUR: HourChange(unchanged=1),
    }
    assert table.version(READINGS) == 2
    assert {uri for uri in files(table) if "2024-02" in uri} == kept, "an untouched month keeps its files"
    assert stored(table) == [("GR", 0, 1.0, None), ("GR", 1, 9.0, None), ("GR", 2, 3.0, None), ("GR", 20, 4.0, None)]


@OF_NO_ENGINE
def test_a_long_merge_goes_in_parts_as_long_as_its_zones_admit(
    table: Lakehouse, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Room for 1,500 hours of one zone, or 30 of the fifty that are expected where nobody says.
    monkeypatch.setattr(Lakehouse, "_cells", 1500 * len(READINGS.columns))
    asked: list[Window] = []

    def every_hour(part: Window) -> DataFrame:
        asked.append(part)
        first = (part.start - T0) // HOUR
        return rows_of(spark, *((first + number, 1.0) for number in range(part.duration // HOUR)))

    turns = [datetime(2024, month, 1, tzinfo=timezone.utc) for month in (2, 4, 6)]
    report = table.merge(READINGS, Window(turns[0], turns[-1]), every_hour, lambda: 1)
    assert asked == [Window(*pair) for pair in itertools.pairwise(turns)]
    assert report.total == HourChange(inserted=(turns[-1] - turns[0]) // HOUR)
    assert table.version(READINGS) == len(asked)


@OF_NO_ENGINE
def test_a_short_merge_asks_nobody_how_many_zones_there_are(table: Lakehouse, spark: SparkSession) -> None:
    table.merge(READINGS, DAY, answering(rows_of(spark, (0, 1.0))), lambda: pytest.fail("a query for nothing"))


def test_zones_are_counted_once_each(table: Lakehouse, spark: SparkSession) -> None:
    rows = rows_of(spark, (0, 1.0), (1, 2.0)).union(rows_of(spark, (0, 1.0), zone="BG"))
    assert table.zones(rows) == 2
    assert table.zones(rows.limit(0)) == 0


@OF_NO_ENGINE
def test_rows_outside_the_window_and_rows_not_computed_stay(table: Lakehouse, spark: SparkSession) -> None:
    table.merge(READINGS, DAY, answering(rows_of(spark, (2, 1.0), (3, 2.0), (10, 3.0))))
    few = Window(T0 + 2 * HOUR, T0 + 4 * HOUR)
    report = table.merge(READINGS, few, answering(rows_of(spark, (3, 7.0), (10, 9.0))))
    assert report.total == HourChange(updated=1)
    assert stored(table) == [("GR", 2, 1.0, None), ("GR", 3, 7.0, None), ("GR", 10, 3.0, None)]


def test_reads_are_half_open_and_by_month(table: Lakehouse, spark: SparkSession) -> None:
    table.append(READINGS, rows_of(spark, *((number, 1.0) for number in range(24))))
    window = Window(T0 + HOUR, T0 + 4 * HOUR)
    hours = [row.datetime.replace(tzinfo=timezone.utc) for row in table.scan_hours(READINGS, window).collect()]
    assert sorted(hours) == [T0 + HOUR, T0 + 2 * HOUR, T0 + 3 * HOUR]
    assert table.scan_hours(READINGS, window, version=0).count() == 0


def test_a_writer_that_lost_a_race_computes_again_from_fresh_input(
    warehouse: Path, table: Lakehouse, spark: SparkSession
) -> None:
    table.merge(READINGS, DAY, answering(rows_of(spark, (2, 1.0))))
    # Both writers read 10; the other commits 11 between our reading and our commit.
    truth = {"value": 10.0}
    calls = []

    def compute(part: Window) -> DataFrame:
        mine = rows_of(spark, (2, truth["value"]))
        calls.append(truth["value"])
        if len(calls) == 1:
            truth["value"] = 11.0
            open_folders(spark, warehouse).merge(READINGS, part, answering(rows_of(spark, (2, 11.0), (3, 5.0))))
        return mine

    report = table.merge(READINGS, Window(T0 + 2 * HOUR, T0 + 4 * HOUR), compute)
    assert calls == [10.0, 11.0]
    assert report.retries == 1
    assert report.total == HourChange(unchanged=1), "the second attempt found the winner's row"
    assert stored(table) == [("GR", 2, 11.0, None), ("GR", 3, 5.0, None)]


@OF_NO_ENGINE
def test_a_race_over_the_same_new_row_inserts_it_once(warehouse: Path, table: Lakehouse, spark: SparkSession) -> None:
    raced = []

    def compute(part: Window) -> DataFrame:
        if not raced:
            raced.append(True)
            open_folders(spark, warehouse).merge(READINGS, part, answering(rows_of(spark, (2, 1.0))))
        return rows_of(spark, (2, 1.0))

    table.merge(READINGS, Window(T0 + 2 * HOUR, T0 + 3 * HOUR), compute)
    assert stored(table) == [("GR", 2, 1.0, None)]


@OF_NO_ENGINE
def test_a_writer_that_always_loses_gives_up_having_written_nothing_stale(
    warehouse: Path, table: Lakehouse, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lakehouse_module, "_ATTEMPTS", 2)
    turns = []

    def compute(part: Window) -> DataFrame:
        turns.append(float(len(turns)))
        other = open_folders(spark, warehouse)
        other.merge(READINGS, part, answering(rows_of(spark, (2, turns[-1]))))
        return rows_of(spark, (2, -1.0))

    with pytest.raises(WriteConflictError, match=r"silver\.readings.*2 times.*pool of 1"):
        table.merge(READINGS, Window(T0 + 2 * HOUR, T0 + 3 * HOUR), compute)
    assert stored(table) == [("GR", 2, 1.0, None)]


def test_a_key_that_is_stored_twice_does_not_stop_a_merge(table: Lakehouse, spark: SparkSession) -> None:
    table.append(READINGS, rows_of(spark, (2, 1.0), (2, 1.0)))
    assert table.merge(READINGS, DAY, answering(rows_of(spark, (2, 1.0)))).total == HourChange(unchanged=1)
    assert table.merge(READINGS, DAY, answering(rows_of(spark, (2, 5.0), (3, 6.0)))).total.inserted == 1
    assert stored(table) == [("GR", 2, 5.0, None), ("GR", 2, 5.0, None), ("GR", 3, 6.0, None)]


def test_a_rebuild_leaves_exactly_what_is_computed(table: Lakehouse, spark: SparkSession) -> None:
    # Wrong, right, too many, twice; hour 3 is missing; 0 and 20 lie beside the window.
    table.append(READINGS, rows_of(spark, (0, 9.0), (2, 9.0), (4, 4.0), (5, 5.0), (6, 6.0), (6, 6.0), (20, 9.0)))
    window = Window(T0 + 2 * HOUR, T0 + 20 * HOUR)
    truth = answering(rows_of(spark, (2, 2.0), (3, 3.0), (4, 4.0), (6, 6.0)))
    counted = {
        T0 + 2 * HOUR: HourDifference(rows=1, wrong=1),
        T0 + 3 * HOUR: HourDifference(rows=1, missing=1),
        T0 + 4 * HOUR: HourDifference(rows=1),
        T0 + 5 * HOUR: HourDifference(surplus=1),
        T0 + 6 * HOUR: HourDifference(rows=1, duplicate=1),
    }
    assert table.rebuild(READINGS, window, truth, dry_run=True).differences.hours == counted
    assert table.version(READINGS) == 1
    assert table.rebuild(READINGS, window, truth).differences.hours == counted
    right = ((0, 9.0), (2, 2.0), (3, 3.0), (4, 4.0), (6, 6.0), (20, 9.0))
    assert stored(table) == [("GR", number, value, None) for number, value in right]
    assert table.rebuild(READINGS, window, truth).differences.total == HourDifference(rows=4)
    assert table.version(READINGS) == 2


@OF_NO_ENGINE
def test_a_rebuild_that_computes_nothing_empties_its_window(table: Lakehouse, spark: SparkSession) -> None:
    table.append(READINGS, rows_of(spark, (1, 1.0), (2, 2.0), (3, 3.0)))
    two = Window(T0 + 2 * HOUR, T0 + 4 * HOUR)
    assert table.rebuild(READINGS, two, answering(rows_of(spark, (9, 1.0)))).differences.total.surplus == 2
    assert stored(table) == [("GR", 1, 1.0, None)]


def test_a_rebuild_that_lost_a_race_computes_again_and_keeps_the_winners_row(
    warehouse: Path, table: Lakehouse, spark: SparkSession
) -> None:
    table.append(READINGS, rows_of(spark, (2, 9.0)))
    truth = [rows_of(spark, (2, 2.0)), rows_of(spark, (2, 2.0), (3, 3.0))]
    calls = []

    def compute(part: Window) -> DataFrame:
        calls.append(part)
        if len(calls) == 1:
            open_folders(spark, warehouse).merge(READINGS, part, answering(truth[1]))
        return truth[len(calls) - 1]

    report = table.rebuild(READINGS, Window(T0 + 2 * HOUR, T0 + 4 * HOUR), compute)
    assert (len(calls), report.retries) == (2, 1)
    assert report.differences.total == HourDifference(rows=2), "the winner has repaired it"
    assert stored(table) == [("GR", 2, 2.0, None), ("GR", 3, 3.0, None)]


def test_a_changed_contract_is_rebuilt_in_one_version_of_the_whole_table_or_not_at_all(
    table: Lakehouse, spark: SparkSession
) -> None:
    columns = (*READINGS.columns[:2], Column("more", "double", "Another"), *READINGS.columns[3:])
    changed = replace(READINGS, columns=columns)
    table.append(READINGS, rows_of(spark, (0, 1.0, {"AL": 1.0}), (20, 2.0)))

    def compute(part: Window) -> DataFrame:
        rows = rows_of(spark, (0, 7.0, {"AL": 5.0}), (20, 8.0), (21, 9.0)).withColumnRenamed("value", "more")
        if part.start.month == 1 and not raced:
            raced.append(table.append(READINGS, rows_of(spark, (19, 3.0))))
        return answering(rows)(part)

    raced: list[Any] = [None]
    with pytest.raises(ContractChangedError, match=r'not all of it.*start: "2024-01-31T22:00Z", end: "2024-02-01T19:0'):
        table.rebuild(changed, Window(T0, T0 + 20 * HOUR), compute)
    assert table.rebuild(changed, DAY, compute, dry_run=True).differences.total.missing == 1
    assert table.version(READINGS) == 1

    raced.clear()
    report = table.rebuild(changed, DAY, compute)
    assert report.differences.total == HourDifference(rows=3, wrong=1, missing=1, surplus=1), "of the columns of both"
    assert report.contract == ("column more is missing", "column value is not in the contract")
    assert (report.retries, table.version(READINGS)) == (1, 3), "a row that came meanwhile is not lost sight of"
    rows = DeltaTable(table.location(READINGS)).to_pyarrow_table().sort_by("datetime").to_pydict()
    assert rows["more"] == [7.0, 8.0, 9.0]
    assert sorted(DeltaTable(table.location(READINGS), version=1).to_pyarrow_table()["value"].to_pylist()) == [1.0, 2.0]


def test_bronze_is_never_rebuilt(lakehouse: Lakehouse, spark: SparkSession) -> None:
    with pytest.raises(LakehouseError, match=r"bronze\.power_data cannot be rebuilt: all else is rebuilt from it"):
        lakehouse.rebuild(all_tables(("GR",))[0], DAY, answering(rows_of(spark, (0, 1.0))))


@OF_NO_ENGINE
def test_many_writers_at_once_lose_and_double_nothing(warehouse: Path, table: Lakehouse, spark: SparkSession) -> None:
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            lakehouse = open_folders(spark, warehouse)
            lakehouse.merge(READINGS, DAY, answering(rows_of(spark, (2, 0.0), (3 + number, float(number)))))
        except BaseException as error:  # noqa: BLE001 a thread must tell the test
            failures.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert stored(table) == [("GR", 2, 0.0, None), *(("GR", 3 + n, float(n), None) for n in range(4))]


def test_creators_at_once_make_one_table(warehouse: Path, lakehouse: Lakehouse, spark: SparkSession) -> None:
    at_once = 4 if is_jvm(spark) else 12
    with ThreadPoolExecutor(at_once) as creators:
        list(creators.map(lambda _: open_folders(spark, warehouse).create(READINGS), range(at_once)))
    assert lakehouse.schema_differences(READINGS) == []


def test_what_a_killed_writer_left_behind_is_not_read(table: Lakehouse, spark: SparkSession) -> None:
    table.merge(READINGS, DAY, answering(rows_of(spark, (2, 1.0))))
    # Data files without a commit, and a commit half written under the name writers give before they publish it.
    orphan = Path(table.location(READINGS)) / "year_month=2024-02" / "part-00000-killed.snappy.parquet"
    orphan.write_bytes(b"PAR1 half a file")
    (Path(table.location(READINGS)) / "_delta_log" / "_commit_0f0f.json.tmp").write_text('{"add":{"pa')
    assert table.merge(READINGS, DAY, answering(rows_of(spark, (2, 1.0)))).total == HourChange(unchanged=1)
    assert stored(table) == [("GR", 2, 1.0, None)]


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


def test_bronze_refuses_that_somebody_deletes(lakehouse: Lakehouse, spark: SparkSession) -> None:
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


def test_writers_take_turns_so_that_nobody_computes_for_nothing(
    warehouse: Path, lakehouse: Lakehouse, spark: SparkSession
) -> None:
    lakehouse.create(READINGS)
    computing = []

    def write(number: int) -> int:
        def compute(_: Window) -> DataFrame:
            computing.append(number)
            time.sleep(0.2)
            assert computing[-1] == number, "two writers computed at the same time"
            return rows_of(spark, (number, 1.0))

        return open_folders(spark, warehouse).merge(READINGS, Window(T0, T0 + HOUR), compute).retries

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(write, range(3))) == [0, 0, 0]
    assert len(computing) == 3


def test_a_turn_that_cannot_be_had_is_not_waited_for_for_ever(
    warehouse: Path, lakehouse: Lakehouse, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakehouse.create(READINGS)
    monkeypatch.setattr("emaps_dagster.lakehouse.delta_rs._LONGEST_WAIT_SECONDS", 0.1)
    other = (
        "from filelock import FileLock; import sys; FileLock(sys.argv[1]).acquire(); print('held', flush=True); input()"
    )
    lock = warehouse / "silver" / ".readings.lock"
    with subprocess.Popen(
        [sys.executable, "-c", other, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        report = lakehouse.merge(READINGS, Window(T0, T0 + HOUR), lambda _: rows_of(spark, (0, 1.0)))
        holder.communicate("\n")
    assert report.total.inserted == 1
