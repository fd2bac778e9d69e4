"""Commits over Spark Connect, as serverless compute makes them: merges without MERGE, lost races, what is refused.

The session is one of the emulated workspace's server; test_databricks_serverless.py runs tasks in an environment of
their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.errors import LakehouseError
from emaps_dagster.contracts.table_contract import Column
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.delta_connect import DeltaConnectLakehouse, catalog_lakehouse
from emaps_dagster.lakehouse.delta_spark import DeltaSparkLakehouse
from emaps_dagster.lakehouse.reports import CommitConflictError, HourChange, MergeReport
from emaps_dagster_tests.lakehouse.test_delta_spark import TWO, changed, commit_merge, values
from emaps_dagster_tests.lakehouse.test_lakehouse import DAY, READINGS, T0, answering, rows_of
from emaps_dagster_tests.support.serverless import connect_to, drop_tables
from harness.databricks_emulator.workspace import Workspace

pytestmark = pytest.mark.long("serverless compute, which is off by default")
WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def spark(workspace_with_serverless: Workspace) -> Iterator[SparkSession]:
    with connect_to(workspace_with_serverless.start_serverless()) as session:
        yield session


@pytest.fixture
def table(spark: SparkSession) -> Iterator[DeltaConnectLakehouse]:
    """Version 1: hour 2 is 1.0."""
    lakehouse = catalog_lakehouse(spark, None)
    assert isinstance(lakehouse, DeltaConnectLakehouse)
    lakehouse.create(READINGS)
    commit_merge(lakehouse, changed(2, 1.0, "inserted"), 0)
    yield lakehouse
    drop_tables(spark)


def everything(lakehouse: DeltaConnectLakehouse) -> list[tuple[Any, ...]]:
    rows = lakehouse.scan(READINGS).toArrow().to_pylist()
    return sorted(
        (r["zone"], (r["datetime"] - T0) // HOUR, r["value"], None if r["flows"] is None else dict(r["flows"]))
        for r in rows
    )


def test_a_merge_updates_inserts_and_keeps_what_did_not_change(
    table: DeltaConnectLakehouse, spark: SparkSession
) -> None:
    table.merge(READINGS, DAY, answering(rows_of(spark, (1, 5.0), (3, None, {"BG": 0.1, "AL": None}), (20, 7.0))))
    # Within the replaced span lie a row of the other month, one of another zone, and one that does not change.
    table.merge(READINGS, DAY, answering(rows_of(spark, (2, 9.0), zone="BG")))
    report = table.merge(
        READINGS, DAY, answering(rows_of(spark, (1, 6.0), (3, None, {"BG": 0.1, "AL": None}), (4, 4.0), (20, 8.0)))
    )
    assert report.total == HourChange(inserted=1, updated=2, unchanged=1)
    assert everything(table) == [
        ("BG", 2, 9.0, None),
        ("GR", 1, 6.0, None),
        ("GR", 2, 1.0, None),
        ("GR", 3, None, {"BG": 0.1, "AL": None}),
        ("GR", 4, 4.0, None),
        ("GR", 20, 8.0, None),
    ]
    version = table.version(READINGS)
    again = table.merge(READINGS, DAY, answering(rows_of(spark, (1, 6.0), (20, 8.0))))
    assert (again.total, table.version(READINGS)) == (HourChange(unchanged=2), version)


def test_a_key_that_is_stored_twice_is_updated_twice_as_by_merge(table: DeltaConnectLakehouse) -> None:
    table._append(READINGS, changed(2, 3.0, "inserted"))
    commit_merge(table, changed(2, -1.0, "updated"), 2)
    assert values(table) == [(2, -1.0), (2, -1.0)]


def merges(lakehouse: DeltaSparkLakehouse, version: int) -> None:
    commit_merge(lakehouse, changed(2, -1.0, "updated"), version)


def inserts(lakehouse: DeltaSparkLakehouse, version: int) -> None:
    commit_merge(lakehouse, changed(3, -1.0, "inserted"), version)


def replaces(lakehouse: DeltaSparkLakehouse, version: int) -> None:
    lakehouse._replace(READINGS, TWO, changed(2, -1.0, "updated").drop_columns("_change"), version)


def overwrites(lakehouse: DeltaSparkLakehouse, version: int) -> None:
    lakehouse._overwrite(READINGS, iter([changed(2, -1.0, "updated").drop_columns("_change")]), version)


@pytest.mark.parametrize(
    ("commit", "looks_first"),
    [(merges, True), (merges, False), (inserts, False), (replaces, False), (overwrites, False)],
)
def test_what_was_made_from_a_version_that_is_not_the_latest_is_refused_and_writes_nothing(
    table: DeltaConnectLakehouse,
    commit: Callable[[DeltaSparkLakehouse, int], None],
    looks_first: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # There and back: the row is again as the loser read it, and only the versions tell that it is stale.
    commit_merge(table, changed(2, 5.0, "updated"), 1)
    commit_merge(table, changed(2, 1.0, "updated"), 2)
    if not looks_first:
        # The other writer commits after the look at the history.
        monkeypatch.setattr(DeltaConnectLakehouse, "_refuse_commits", DeltaSparkLakehouse._refuse_commits)
    with pytest.raises(CommitConflictError, match="since version 1, nothing was written"):
        commit(table, 1)
    assert (table.version(READINGS), values(table)) == (3, [(2, 1.0)])


def test_compaction_in_between_is_no_lost_race(table: DeltaConnectLakehouse) -> None:
    commit_merge(table, changed(3, 2.0, "inserted"), 1)
    table._compact(READINGS)
    commit_merge(table, changed(3, 4.0, "updated"), 2)
    assert (table.version(READINGS), values(table)) == (4, [(2, 1.0), (3, 4.0)])


def test_what_a_stranger_inserted_meanwhile_stays(table: DeltaConnectLakehouse, spark: SparkSession) -> None:
    # By SQL, without the mark of our writers, a row that the merge does not compute, in the span that it replaces.
    strangers: list[Any] = []

    def compute(part: Window) -> DataFrame:
        if not strangers:
            insert = "INSERT INTO silver.readings SELECT 'XX', datetime, -9, flows, year_month FROM silver.readings"
            strangers.append(spark.sql(insert).collect())
        return rows_of(spark, (2, 2.0))

    report = table.merge(READINGS, TWO, compute)
    assert report == MergeReport({T0 + 2 * HOUR: HourChange(updated=1)}, 1)
    assert everything(table) == [("GR", 2, 2.0, None), ("XX", 2, -9.0, None)]


def test_writers_that_commit_at_the_same_moment_lose_nothing(
    table: DeltaConnectLakehouse, workspace_with_serverless: Workspace
) -> None:
    ready = threading.Barrier(2, timeout=100)
    reports: list[MergeReport] = []

    def write(number: int) -> None:
        first = iter([True])
        with connect_to(workspace_with_serverless.start_serverless()) as session:

            def compute(part: Window) -> DataFrame:
                if next(first, False):
                    ready.wait()
                # Both change hour 2, and each inserts one.
                return rows_of(session, (2, 5.0), (3 + number, float(number)))

            reports.append(
                catalog_lakehouse(session, None).merge(READINGS, Window(T0 + 2 * HOUR, T0 + 9 * HOUR), compute)
            )

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sum(report.retries for report in reports) == 1
    assert [report.total.inserted for report in reports] == [1, 1]
    assert sum(report.total.updated for report in reports) == 1
    assert values(table) == [(2, 5.0), (3, 0.0), (4, 1.0)]


def test_a_table_is_rebuilt_and_its_changed_contract_overwrites_it(
    table: DeltaConnectLakehouse, spark: SparkSession
) -> None:
    report = table.rebuild(READINGS, DAY, answering(rows_of(spark, (0, 2.0), (3, 7.0))))
    assert report.differences.total.differing == 3
    assert values(table) == [(0, 2.0), (3, 7.0)]
    more = replace(READINGS, columns=(*READINGS.columns, Column("more", "int", "A new column")))

    def compute(part: Window) -> DataFrame:
        return answering(rows_of(spark, (0, 2.0), (3, 8.0)))(part).selectExpr("*", "CAST(7 AS INT) AS more")

    assert table.rebuild(more, DAY, compute).differences.total.differing == 1
    assert table.schema_differences(more) == []
    found = table.scan(more).select("value", "more").toArrow().to_pylist()
    assert sorted((row["value"], row["more"]) for row in found) == [(2.0, 7), (8.0, 7)]


def test_rows_beyond_the_limit_of_a_local_relation_go_in_parts_by_one_commit(
    table: DeltaConnectLakehouse, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    frame_of = DeltaSparkLakehouse._frame

    def counted(self: DeltaSparkLakehouse, session: SparkSession, rows: pa.Table, schema: Any = None) -> DataFrame:
        sent.append(rows.nbytes)
        return frame_of(self, session, rows, schema)

    monkeypatch.setattr(DeltaConnectLakehouse, "_largest_relation_bytes", 200)
    monkeypatch.setattr(DeltaSparkLakehouse, "_frame", counted)
    rows = pa.concat_tables([changed(number, float(number), "inserted") for number in range(3, 15)])
    commit_merge(table, rows, 1)
    assert len(sent) > 2
    assert max(sent) <= 200
    assert table.version(READINGS) == 2
    assert values(table) == [(2, 1.0), *((number, float(number)) for number in range(3, 15))]


def test_maintenance_keeps_a_week_and_refuses_less_by_a_sentence(table: DeltaConnectLakehouse) -> None:
    commit_merge(table, changed(3, 2.0, "inserted"), 1)
    with pytest.raises(LakehouseError) as caught:
        table.maintain(READINGS, retain=timedelta(days=6))
    assert str(caught.value) == (
        "silver.readings cannot be maintained with a retention of 6 days, 0:00:00: serverless compute and Spark "
        "Connect remove no younger files. Keep 7 days, 0:00:00 at least; nothing was changed."
    )
    assert table.version(READINGS) == 2
    report = table.maintain(READINGS, retain=WEEK)
    assert (report.before.files, report.after.files, report.files_removed) == (2, 1, 0)
    assert values(table) == [(2, 1.0), (3, 2.0)]
