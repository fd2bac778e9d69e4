"""What a merge or a rebuild writes, what it reports, and what it leaves alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.errors import ContractChangedError, LakehouseError
from emaps_dagster.contracts.table_contract import Column
from emaps_dagster.contracts.tables import all_tables
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.comparison import HourDifference
from emaps_dagster.lakehouse.reports import HourChange
from emaps_dagster_tests.support.engines import is_jvm
from emaps_dagster_tests.support.readings import DAY, OF_NO_ENGINE, READINGS, T0, answering, files, rows_of, stored

pytestmark = pytest.mark.both_engines


@pytest.mark.jvm_long("merges of fewer rows run there")
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


def test_a_merge_updates_what_differs_null_and_zero_distinguished(table: Lakehouse, spark: SparkSession) -> None:
    befores, afters, changes = zip(*_DIFFERENCES, strict=True)
    # From hour 2 on all are of February: one version.
    table.merge(READINGS, DAY, answering(rows_of(spark, *((2 + n, *before) for n, before in enumerate(befores)))))
    report = table.merge(READINGS, DAY, answering(rows_of(spark, *((2 + n, *after) for n, after in enumerate(afters)))))
    assert report.hours == {T0 + (2 + n) * HOUR: HourChange(**{change: 1}) for n, change in enumerate(changes)}
    assert stored(table) == [("GR", 2 + n, *after) for n, after in enumerate(afters)]
    assert table.version(READINGS) == 2


@pytest.mark.jvm_long("merges of fewer rows run there")
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
    # Room for 1,500 hours of one zone, or 30 of the fifty that are expected where nobody says: a row has four values,
    # and a map that counts as eight.
    monkeypatch.setattr(Lakehouse, "_cells", 1500 * (4 + 8))
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
def test_a_short_merge_does_not_count_how_many_zones_there_are(table: Lakehouse, spark: SparkSession) -> None:
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


def test_months_too_large_for_memory_and_other_columns_are_merged_by_delta(
    table: Lakehouse, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def revised(value: float) -> tuple[list[Any], str]:
        rows = rows_of(spark, (0, value), (2, value), (3, 2.0))
        assert table.merge(READINGS, DAY, answering(rows)).total.updated == 2
        return stored(table), DeltaTable(table.location(READINGS)).history(1)[0]["operation"]

    table.merge(READINGS, DAY, answering(rows_of(spark, (0, 1.0), (2, 1.0), (3, 2.0))))
    expected = [("GR", 0, 5.0, None), ("GR", 2, 5.0, None), ("GR", 3, 2.0, None)]
    small, large = ("MERGE", "MERGE") if is_jvm(spark) else ("WRITE", "MERGE")
    assert revised(5.0) == (expected, small)
    # There is room for January's row, and not for both of February, which is written last.
    monkeypatch.setattr(Lakehouse, "_cells", len(READINGS.columns))
    assert revised(6.0) == ([(*row[:2], row[2] + (row[2] == 5.0), None) for row in expected], large)
    monkeypatch.undo()
    if not is_jvm(spark):
        DeltaTable(table.location(READINGS)).alter.add_columns([Field("of_a_stranger", PrimitiveType("double"))])
        assert revised(5.0) == (expected, large)


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
