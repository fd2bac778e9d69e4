"""Hours that held nothing: what the engine writes is the contract's and told to the log; if it loses it is not read."""

from __future__ import annotations

from datetime import timezone
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from emaps_dagster.contracts.errors import LakehouseError
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.reports import HourChange
from emaps_dagster_tests.support.engines import open_folders
from emaps_dagster_tests.support.readings import DAY, READINGS, T0, answering, files, rows_of, stored


@pytest.fixture
def table(lakehouse: Lakehouse) -> Lakehouse:
    lakehouse.create(READINGS)
    return lakehouse


def on_disk(lakehouse: Lakehouse) -> set[str]:
    """Whatever lies in the table's folder beside its log."""
    folder = Path(lakehouse.location(READINGS))
    return {str(p) for p in folder.rglob("*") if "_delta_log" not in p.parts and not p.name.startswith("year_month=")}


def test_a_month_is_a_file_whose_keys_the_log_names(table: Lakehouse, spark: SparkSession) -> None:
    flows = {"BG": 2.5, "AL": None}
    rows = rows_of(spark, (0, 1.0), (1, None), (2, 3.0, flows)).union(rows_of(spark, (3, -0.5), zone="BG"))
    assert table.merge(READINGS, DAY, answering(rows)).total == HourChange(inserted=4)
    assert stored(table) == [("BG", 3, -0.5, None), ("GR", 0, 1.0, None), ("GR", 1, None, None), ("GR", 2, 3.0, flows)]
    delta = DeltaTable(table.location(READINGS))
    told = pa.table(delta.get_add_actions(flatten=True)).sort_by("partition.year_month").to_pylist()
    assert [(add["partition.year_month"], add["num_records"]) for add in told] == [("2024-01", 2), ("2024-02", 2)]
    assert [(add["min.zone"], add["max.zone"]) for add in told] == [("GR", "GR"), ("BG", "GR")]
    assert [
        tuple((add[f"{end}.datetime"].replace(tzinfo=timezone.utc) - T0) // HOUR for end in ("min", "max"))
        for add in told
    ] == [(0, 1), (2, 3)]
    assert on_disk(table) == files(table)
    assert delta.history(1)[0]["operation"] == "WRITE"


def test_what_is_not_the_contracts_is_refused_and_leaves_nothing(table: Lakehouse, spark: SparkSession) -> None:
    rows = rows_of(spark, (0, 1.0), (3, 2.0))
    for wrong, told in (
        (rows.withColumn("value", F.lit(1)), "column value is int, must be double"),
        (rows.withColumn("zone", F.when(F.col("value") > 1.0, F.col("zone"))), "column zone holds nulls"),
    ):
        with pytest.raises(LakehouseError, match=rf"silver\.readings: .*{told}.* Nothing was written"):
            table.merge(READINGS, DAY, answering(wrong))
        assert (table.version(READINGS), on_disk(table)) == (0, set())


def test_a_plan_that_fails_midway_leaves_nothing(table: Lakehouse, spark: SparkSession) -> None:
    rows = rows_of(spark, (0, 1.0), (3, 2.0))
    failing = rows.withColumn("value", F.when(F.col("value") > 1.0, F.raise_error(F.lit("no"))).otherwise(1.0))
    with pytest.raises(Exception, match="no"):
        table.merge(READINGS, DAY, answering(failing))
    assert (table.version(READINGS), on_disk(table)) == (0, set())


def test_who_loses_the_race_computes_again(warehouse: Path, table: Lakehouse, spark: SparkSession) -> None:
    raced: list[int] = []

    def compute(part: Window) -> DataFrame:
        if not raced:
            raced.append(1)
            open_folders(spark, warehouse).merge(READINGS, part, answering(rows_of(spark, (2, 1.0))))
        return rows_of(spark, (2, 5.0), (3, 6.0))

    assert table.merge(READINGS, Window(T0 + 2 * HOUR, T0 + 4 * HOUR), compute).retries == 1
    assert stored(table) == [("GR", 2, 5.0, None), ("GR", 3, 6.0, None)]
    # Its files stay until maintenance, as those of every loser: none is read, and the folder of the batch is gone.
    assert {Path(path).parent.name for path in on_disk(table) - files(table)} == {"year_month=2024-02"}


def test_nothing_computed_makes_no_version(table: Lakehouse, spark: SparkSession) -> None:
    assert table.merge(READINGS, DAY, answering(rows_of(spark, (0, 1.0)).limit(0))).total == HourChange()
    assert (table.version(READINGS), on_disk(table)) == (0, set())
