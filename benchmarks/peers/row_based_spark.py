"""Bronze to silver and gold by the method this project began with, on Spark's JVM and its own Delta.

Read the bodies, keep the latest of each hour, lag and average by row over a look-back of 48 hours, MERGE every row
whether it changed or not. Quick to write, and wrong where an hour is missing or late (docs/why.md); columns are ours.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import (
    ENERGY_DATA,
    count_column,
    key_columns,
    lag_column,
    ml_features,
    rolling_column,
)
from emaps_dagster.transforms.gold import is_estimated, values, with_row_features
from emaps_dagster.transforms.silver import energy_data

LOOKBACK = timedelta(hours=48)


def run(
    spark: SparkSession, warehouse: Path, zones: tuple[str, ...], start: datetime, end: datetime, target: Path
) -> None:
    """A backfill or a tick of [start, end), the same code; tables that do not exist are made."""
    first = start - LOOKBACK
    power, carbon = (_bodies(spark, warehouse / "bronze" / name, first, end) for name in ("power_data", "carbon_data"))
    _merge(spark, target, ENERGY_DATA, energy_data(power, carbon, first, end, pick=_latest))
    silver = spark.read.format("delta").load(str(target / "silver" / "energy_data"))
    recent = silver.where((F.col("datetime") >= F.lit(first)) & (F.col("datetime") < F.lit(end)))
    _merge(spark, target, ml_features(zones), _by_rows(recent, zones, first, end))


def _bodies(spark: SparkSession, path: Path, start: datetime, end: datetime) -> DataFrame:
    bodies = spark.read.format("delta").load(str(path))
    return bodies.where((F.col("window_start") < F.lit(end)) & (F.col("window_end") > F.lit(start)))


def _latest(records: DataFrame, content: list[str]) -> DataFrame:
    newest_first = Window.partitionBy("zone", "datetime").orderBy(F.col("ingested_at").desc())
    ranked = records.withColumn("_rank", F.row_number().over(newest_first))
    return ranked.where(F.col("_rank") == 1).select("zone", "datetime", "ingested_at", *content)


def _by_rows(silver: DataFrame, zones: tuple[str, ...], start: datetime, end: datetime) -> DataFrame:
    names = [column.name for column in key_columns(zones)]
    by_row = Window.partitionBy("zone").orderBy("datetime")
    last_24 = by_row.rowsBetween(-23, 0)
    rows = values(silver, zones).select(
        "*",
        *(F.lag(name, 1).over(by_row).alias(lag_column(name)) for name in names),
        *(F.avg(name).over(last_24).alias(rolling_column(name)) for name in names),
        *(F.count(name).over(last_24).cast("int").alias(count_column(name)) for name in names),
        F.count(F.lit(1)).over(last_24).cast("int").alias("hours_observed_24h"),
        F.count(F.when(is_estimated(), True)).over(last_24).cast("int").alias("hours_estimated_24h"),
    )
    return with_row_features(rows, ml_features(zones).column_names, start, end)


def _merge(spark: SparkSession, target: Path, table: Table, rows: DataFrame) -> None:
    path = str(target / table.layer / table.name)
    if not DeltaTable.isDeltaTable(spark, path):
        # The schema is that of the rows; partitions as ours, so that both can leave months alone.
        rows.limit(0).write.format("delta").partitionBy(table.partition).save(path)
    (
        DeltaTable.forPath(spark, path)
        .alias("t")
        .merge(rows.alias("s"), "t.zone = s.zone AND t.datetime = s.datetime")
        .whenMatchedUpdateAll()
        .whenNotMatchedInsertAll()
        .execute()
    )
