"""Maintenance: fewer files, the same rows, versions readable as long as promised, writers at work undisturbed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.errors import LakehouseError
from emaps_dagster.contracts.tables import POWER_DATA
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.reports import HourChange, Size
from emaps_dagster_tests.support.builders import frame, utc
from emaps_dagster_tests.support.engines import is_jvm
from emaps_dagster_tests.support.readings import DAY, READINGS, T0, answering, rows_of

pytestmark = pytest.mark.both_engines
# Writers of Spark among compactions: test_delta_spark.py.
OF_NO_ENGINE = pytest.mark.embedded_alone(reason="what it shows is the same code for both engines")

WEEK = timedelta(days=7)
TWO = Window(T0 + 2 * HOUR, T0 + 4 * HOUR)


def values(lakehouse: Lakehouse, *, version: int | None = None) -> list[tuple[int, float]]:
    rows = lakehouse.scan(READINGS, version=version).select("datetime", "value").toArrow().to_pylist()
    return sorted(((row["datetime"] - T0) // HOUR, row["value"]) for row in rows)


def three_versions(lakehouse: Lakehouse, spark: SparkSession) -> None:
    """Hour 2, then 2 revised, then 3 beside it."""
    lakehouse.create(READINGS)
    for rows in (((2, 1.0),), ((2, 5.0),), ((2, 5.0), (3, 2.0))):
        lakehouse.merge(READINGS, TWO, answering(rows_of(spark, *rows)))


@pytest.fixture
def table(begun_with: Callable[..., Lakehouse]) -> Lakehouse:
    return begun_with(three_versions)


def test_small_files_are_put_together_once_and_what_was_is_readable_for_the_retention(
    table: Lakehouse, spark: SparkSession
) -> None:
    report = table.maintain(READINGS, retain=WEEK)
    assert (report.before.files, report.after.files, report.files_removed) == (2, 1, 0)
    assert 0 < report.after.bytes < report.before.bytes
    assert values(table) == [(2, 5.0), (3, 2.0)]
    assert [values(table, version=version) for version in (1, 2)] == [[(2, 1.0)], [(2, 5.0)]]
    if not is_jvm(spark):
        # Spark's Delta makes one at every tenth version and has no command for it.
        assert list((Path(table.location(READINGS)) / "_delta_log").glob("*.checkpoint.parquet"))
    again = table.maintain(READINGS, retain=WEEK)
    assert again.before == again.after
    assert again.files_removed == 0


@pytest.mark.jvm_long("compaction and retention run there in the test of small files")
def test_what_no_retained_version_needs_goes_from_the_disk(table: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lakehouse, "shortest_retention", timedelta(0))
    time.sleep(0.01)
    # Of four files (2, 2 revised, 3, both together) the last one is the table.
    assert table.maintain(READINGS, retain=timedelta(0)).files_removed == 3
    assert values(table) == [(2, 5.0), (3, 2.0)]
    with pytest.raises(Exception, match=r"(?i)no such file|not found|does not exist|FILE_NOT_EXIST"):
        values(table, version=1)


@pytest.mark.jvm_long("compaction and retention run there in the test of small files")
def test_of_what_killed_writers_left_only_the_old_goes(table: Lakehouse) -> None:
    folder = Path(table.location(READINGS)) / "year_month=2024-02"
    for name, age in (("young", timedelta(hours=20)), ("old", timedelta(hours=30))):
        orphan = folder / f"part-00000-{name}.c000.snappy.parquet"
        orphan.write_bytes(b"PAR1 half a file")
        os.utime(orphan, times=(time.time() - age.total_seconds(),) * 2)
    assert table.maintain(READINGS, retain=timedelta(days=1)).files_removed == 1
    assert [path.name for path in folder.glob("*young*")] != []
    assert [path.name for path in folder.glob("*old*")] == []


@pytest.mark.jvm_long("compaction and retention run there in the test of small files")
def test_append_only_bronze_keeps_every_row(
    lakehouse: Lakehouse, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lakehouse, "shortest_retention", timedelta(0))
    lakehouse.create(POWER_DATA)
    hour = utc(2024, 1, 1)
    for number in range(3):
        row = ("s", "GR", f"{number}", hour + number * HOUR, hour, hour + HOUR, "/v3", f"{number}", None, "2024-01")
        lakehouse.append(POWER_DATA, frame(spark, POWER_DATA, [row]))
    report = lakehouse.maintain(POWER_DATA, retain=timedelta(0))
    assert (report.before.files, report.after.files) == (3, 1)
    known = lakehouse.scan(POWER_DATA).select("raw_json", "ingested_at").toArrow().to_pylist()
    assert sorted((row["raw_json"], row["ingested_at"]) for row in known) == [
        (f"{number}", hour + number * HOUR) for number in range(3)
    ]


@OF_NO_ENGINE
def test_an_empty_table_has_nothing_to_maintain(lakehouse: Lakehouse) -> None:
    lakehouse.create(READINGS)
    report = lakehouse.maintain(READINGS, retain=WEEK)
    assert (report.before, report.after) == (Size(0, 0), Size(0, 0))


@OF_NO_ENGINE
def test_a_retention_that_could_take_files_of_a_run_at_work_is_refused(table: Lakehouse) -> None:
    version = table.version(READINGS)
    with pytest.raises(LakehouseError, match=r"silver\.readings.*23:59:59.*Keep 1 day.*nothing was changed"):
        table.maintain(READINGS, retain=timedelta(days=1) - timedelta(seconds=1))
    assert table.version(READINGS) == version


@OF_NO_ENGINE
def test_a_table_that_is_not_there_cannot_be_maintained(lakehouse: Lakehouse) -> None:
    with pytest.raises(LakehouseError, match=r"silver\.readings does not exist at "):
        lakehouse.maintain(READINGS, retain=WEEK)


@OF_NO_ENGINE
def test_a_merge_that_computes_while_the_table_is_compacted_commits_its_rows(
    table: Lakehouse, spark: SparkSession
) -> None:
    maintained: list[Any] = []

    def compute(part: Window) -> DataFrame:
        if not maintained:
            maintained.append(table.maintain(READINGS, retain=WEEK))
        return rows_of(spark, (2, 7.0), (3, 2.0))

    assert table.merge(READINGS, TWO, compute).total == HourChange(updated=1, unchanged=1)
    assert values(table) == [(2, 7.0), (3, 2.0)]


@OF_NO_ENGINE
def test_compaction_among_writers_loses_and_doubles_nothing(table: Lakehouse, spark: SparkSession) -> None:
    failures: list[BaseException] = []

    def attempt(work: Any) -> None:
        try:
            for number in range(2):
                work(number)
        except BaseException as error:  # noqa: BLE001 a thread must tell the test
            failures.append(error)

    def write(number: int) -> None:
        table.merge(READINGS, DAY, answering(rows_of(spark, (4 + number, float(number)))))

    def maintain(number: int) -> None:
        table.maintain(READINGS, retain=WEEK)

    threads = [threading.Thread(target=attempt, args=(work,)) for work in (write, maintain)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert values(table) == [(2, 5.0), (3, 2.0), (4, 0.0), (5, 1.0)]
