"""Commits by Spark's own Delta: which of two writers wins, who came between, and tables of a catalog."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import POWER_DATA
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.delta_spark import DeltaSparkLakehouse
from emaps_dagster.lakehouse.locations import Commit, LocalFolders, UnityCatalog
from emaps_dagster.lakehouse.reports import CommitConflictError, HourChange, MergeReport
from emaps_dagster_tests.support.builders import frame
from emaps_dagster_tests.support.readings import DAY, READINGS, T0, answering, rows_of

pytestmark = pytest.mark.parametrize("spark", ["jvm"], indirect=True)

TWO = Window(T0 + 2 * HOUR, T0 + 4 * HOUR)
MONTH = ["2024-02"]
_ANOTHER_COMMIT = pytest.mark.long("one guard holds for all commits")


def values(lakehouse: Lakehouse, table: Table = READINGS, *, version: int | None = None) -> list[tuple[int, float]]:
    rows = lakehouse.scan(table, version=version).select("datetime", "value").toArrow().to_pylist()
    return sorted(((row["datetime"] - T0) // HOUR, row["value"]) for row in rows)


def changed(number: int, value: float, change: str) -> pa.Table:
    """A row of February as a merge hands it to be committed."""
    row = {"zone": "GR", "datetime": T0 + number * HOUR, "value": value, "flows": None, "year_month": "2024-02"}
    return conform(pa.Table.from_pylist([row]), READINGS).append_column("_change", pa.array([change]))


def commit_merge(lakehouse: Lakehouse, rows: pa.Table, version: int) -> None:
    """Commit rows of `changed`, computed from the version."""
    stored = conform(lakehouse._rows(READINGS, DAY, version, MONTH, ()), READINGS)
    lakehouse._merge(READINGS, MONTH, rows, version, stored)


def merges(lakehouse: Lakehouse, version: int) -> None:
    commit_merge(lakehouse, changed(2, -1.0, "updated"), version)


def replaces(lakehouse: Lakehouse, version: int) -> None:
    lakehouse._replace(READINGS, TWO, conform(changed(2, -1.0, "updated"), READINGS), version)


def overwrites(lakehouse: Lakehouse, version: int) -> None:
    lakehouse._overwrite(READINGS, iter([conform(changed(2, -1.0, "updated"), READINGS)]), version)


def one_row(lakehouse: Lakehouse, spark: SparkSession) -> None:
    """Version 1: hour 2 is 1.0."""
    lakehouse.create(READINGS)
    lakehouse.merge(READINGS, DAY, answering(rows_of(spark, (2, 1.0))))


@pytest.fixture
def table(begun_with: Callable[..., Lakehouse]) -> Lakehouse:
    return begun_with(one_row)


@pytest.fixture
def delta_rs(spark: SparkSession, warehouse: Path) -> FolderLakehouse:
    """The embedded engine's way to commit to the same folders; committing needs no session."""
    return FolderLakehouse(spark, warehouse)


@pytest.mark.parametrize(
    ("commit", "other"),
    [
        (merges, "spark"),
        (merges, "delta-rs"),
        pytest.param(replaces, "delta-rs", marks=_ANOTHER_COMMIT),
        pytest.param(overwrites, "delta-rs", marks=_ANOTHER_COMMIT),
    ],
)
def test_what_was_made_from_a_version_that_is_not_the_latest_is_refused_and_writes_nothing(
    table: Lakehouse, delta_rs: FolderLakehouse, commit: Callable[[Lakehouse, int], None], other: str
) -> None:
    # There and back: the row is again as the loser read it, and only the versions tell that it is stale.
    winner: Lakehouse = table if other == "spark" else delta_rs
    commit_merge(winner, changed(2, 5.0, "updated"), 1)
    commit_merge(winner, changed(2, 1.0, "updated"), 2)
    with pytest.raises(CommitConflictError, match="since version 1, nothing was written"):
        commit(table, 1)
    assert (table.version(READINGS), values(table)) == (3, [(2, 1.0)])
    commit(table, 3)
    assert (table.version(READINGS), values(table)) == (4, [(2, -1.0)])


@pytest.mark.long("by the lock and the guard of the tests around it")
def test_delta_rs_refuses_what_was_made_before_a_commit_of_spark(table: Lakehouse, delta_rs: FolderLakehouse) -> None:
    commit_merge(table, changed(2, 5.0, "updated"), 1)
    with pytest.raises(CommitConflictError):
        merges(delta_rs, 1)
    assert values(table) == [(2, 5.0)]


def test_a_row_that_another_inserted_first_is_not_inserted_again(table: Lakehouse) -> None:
    commit_merge(table, changed(3, 2.0, "inserted"), 1)
    with pytest.raises(CommitConflictError):
        commit_merge(table, changed(3, 2.0, "inserted"), 1)
    assert values(table) == [(2, 1.0), (3, 2.0)]


def test_what_a_stranger_changed_meanwhile_is_computed_again_and_healed(table: Lakehouse, spark: SparkSession) -> None:
    # By SQL, without the mark of our writers: only the history tells.
    where = table.place.name(READINGS)  # type: ignore[attr-defined]
    strangers: list[Any] = []

    def compute(part: Window) -> DataFrame:
        if not strangers:
            strangers.append(spark.sql(f"UPDATE {where} SET value = -9 WHERE zone = 'GR'").collect())
        return rows_of(spark, (2, 1.0), (3, 2.0))

    report = table.merge(READINGS, TWO, compute)
    assert report == MergeReport({T0 + 2 * HOUR: HourChange(updated=1), T0 + 3 * HOUR: HourChange(unchanged=1)}, 1)
    assert values(table) == [(2, 1.0), (3, 2.0)]


@pytest.mark.long("by the lock and the guard of the tests around it")
def test_compaction_in_between_is_no_lost_race_and_hides_none(table: Lakehouse) -> None:
    commit_merge(table, changed(3, 2.0, "inserted"), 1)
    table._compact(READINGS)
    # One writer has read version 2, before the compaction, another version 3, after it: of the same rows.
    commit_merge(table, changed(3, 4.0, "updated"), 2)
    assert (table.version(READINGS), values(table)) == (4, [(2, 1.0), (3, 4.0)])
    with pytest.raises(CommitConflictError, match="since version 3, nothing was written"):
        commit_merge(table, changed(3, 5.0, "updated"), 3)
    assert (table.version(READINGS), values(table)) == (4, [(2, 1.0), (3, 4.0)])


@pytest.mark.long("by the lock and the guard of the tests around it")
def test_writers_that_commit_at_the_same_moment_lose_nothing(
    table: Lakehouse, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without turns, each with a session of its own, all having read the same version.
    monkeypatch.setattr(LocalFolders, "table_lock", lambda *_: nullcontext())
    ready = threading.Barrier(3, timeout=100)
    reports: list[MergeReport] = []

    def write(number: int) -> None:
        first = iter([True])

        def compute(part: Window) -> DataFrame:
            if next(first, False):
                ready.wait()
            return rows_of(spark, (3 + number, float(number)))

        lakehouse = DeltaSparkLakehouse(spark, table.place)  # type: ignore[attr-defined]
        reports.append(lakehouse.merge(READINGS, Window(T0 + 2 * HOUR, T0 + 9 * HOUR), compute))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [report.total for report in reports] == [HourChange(inserted=1)] * 3
    assert sum(report.retries for report in reports) >= 2, "of three made from one version one was taken"
    assert values(table) == [(2, 1.0), (3, 0.0), (4, 1.0), (5, 2.0)]


@pytest.fixture(params=[None, "spark_catalog"], ids=["metastore", "catalog"])
def catalog(request: pytest.FixtureRequest, spark: SparkSession) -> Iterator[DeltaSparkLakehouse]:
    yield DeltaSparkLakehouse(spark, UnityCatalog(request.param))
    for layer in ("bronze", "silver"):
        spark.sql(f"DROP SCHEMA IF EXISTS {layer} CASCADE")


def test_a_catalog_has_tables_of_the_contract_by_name(catalog: DeltaSparkLakehouse, spark: SparkSession) -> None:
    assert catalog.version(READINGS) is None
    catalog.create(READINGS)
    catalog.create(READINGS)
    assert catalog.version(READINGS) == 0
    assert catalog.location(READINGS) in ("silver.readings", "spark_catalog.silver.readings")
    fields = {field.name: field for field in spark.table("silver.readings").schema.fields}
    assert {n: (f.dataType.simpleString(), f.nullable, f.metadata["comment"]) for n, f in fields.items()} == {
        column.name: (column.type, column.nullable, column.comment) for column in READINGS.columns
    }
    detail = spark.sql("DESCRIBE DETAIL silver.readings").collect()[0]
    assert (detail["description"], detail["partitionColumns"]) == (READINGS.meaning, ["year_month"])
    assert detail["properties"] == {
        "delta.appendOnly": "false",
        "delta.dataSkippingStatsColumns": "zone,datetime",
    }


def test_the_history_of_a_catalogs_table_is_read_for_its_version_and_for_a_commit_alone(
    catalog: DeltaSparkLakehouse, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []
    history = UnityCatalog.history

    def recorded(place: UnityCatalog, session: SparkSession, table: Table, limit: int) -> list[Commit]:
        limits.append(limit)
        return history(place, session, table, limit)

    monkeypatch.setattr(UnityCatalog, "history", recorded)
    catalog.create(READINGS)
    assert catalog.exists(READINGS)
    assert catalog.read_arrow(READINGS, DAY).num_rows == 0
    assert limits == []
    catalog.merge(READINGS, DAY, answering(rows_of(spark, (2, 1.0))))
    # The version, the commits up to it, and the own one.
    assert limits == [1, 10, 10]


@pytest.mark.parametrize("catalog", ["spark_catalog"], indirect=True)
def test_a_table_of_a_catalog_is_merged_rebuilt_and_maintained(
    catalog: DeltaSparkLakehouse, spark: SparkSession
) -> None:
    catalog.create(READINGS)
    for value in (1.0, 2.0, 2.0):
        catalog.merge(READINGS, DAY, answering(rows_of(spark, (0, value), (2, 5.0))))
    # A version for both months, then one for the month that changed.
    assert (catalog.version(READINGS), values(catalog)) == (2, [(0, 2.0), (2, 5.0)])
    assert values(catalog, version=1) == [(0, 1.0), (2, 5.0)]
    catalog.rebuild(READINGS, DAY, answering(rows_of(spark, (0, 2.0), (3, 7.0))))
    assert values(catalog) == [(0, 2.0), (3, 7.0)]
    report = catalog.maintain(READINGS, retain=timedelta(days=7))
    assert (report.after.files, report.files_removed, values(catalog)) == (2, 0, [(0, 2.0), (3, 7.0)])


def test_append_only_tables_of_a_catalog_refuse_deletes(catalog: DeltaSparkLakehouse, spark: SparkSession) -> None:
    catalog.create(POWER_DATA)
    row = ("s", "GR", "{}", T0, T0, T0 + HOUR, "/v3", "00", None, "2024-01")
    catalog.append(POWER_DATA, frame(spark, POWER_DATA, [row]))
    with pytest.raises(Exception, match=r"(?i)append"):
        spark.sql("DELETE FROM bronze.power_data")
    assert catalog.scan(POWER_DATA).count() == 1
