"""Several writers of a table: none writes anything stale, nothing is lost or stored twice."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.errors import WriteConflictError
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse import storage as lakehouse_module
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.comparison import HourDifference
from emaps_dagster.lakehouse.reports import HourChange
from emaps_dagster_tests.support.engines import is_jvm, open_folders
from emaps_dagster_tests.support.readings import DAY, OF_NO_ENGINE, READINGS, T0, answering, rows_of, stored

pytestmark = pytest.mark.both_engines


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


@pytest.mark.jvm_long("a merge that lost a race runs there")
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


@pytest.mark.jvm_long("the lock is the same code for both engines")
def test_writers_wait_for_the_lock_so_that_none_computes_for_nothing(
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


@pytest.mark.jvm_long("the lock is the same code for both engines")
def test_a_lock_that_stays_held_is_not_waited_for_for_ever(
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
