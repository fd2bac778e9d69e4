"""Numbers of each hour for Dagster's pages; they are descriptive, no check uses them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.windows import Window
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.transforms.gold import is_estimated

_MEANS = {"carbon_intensity_mean": "carbon_intensity", "consumption_mean": "consumption_total"}


def numbers_by_hour(rows: DataFrame) -> DataFrame:
    """Per hour: the number of rows, of estimated rows, and the means over zones that Dagster plots."""
    # Grouped by Column: for a bare name Spark Connect first requests the schema from the engine.
    return rows.groupBy(F.col("datetime")).agg(
        F.count(F.when(is_estimated(), True)).alias("estimated"),
        F.count(F.lit(1)).alias("rows"),
        *(F.avg(column).alias(name) for name, column in _MEANS.items()),
    )


def hourly_summary(numbers: pa.Table) -> dict[datetime, dict[str, Any]]:
    """`numbers_by_hour` as metadata: estimated rows and their share, means in gCO2eq/kWh and MW."""
    return {
        row["datetime"].astimezone(timezone.utc): {
            "estimated": row["estimated"],
            "estimated_share": round(row["estimated"] / row["rows"], 3),
            **{name: round(row[name], 3) for name in _MEANS if row[name] is not None},
        }
        for row in numbers.to_pylist()
    }


def numbers_of(lakehouse: Lakehouse, table: Table, window: Window) -> dict[datetime, dict[str, Any]]:
    """The summary of each hour of a stored table, for Dagster's pages."""
    return hourly_summary(lakehouse.collect(numbers_by_hour(lakehouse.scan_hours(table, window))))
