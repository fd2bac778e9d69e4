"""Numbers of each hour for Dagster's pages: they describe and judge nothing."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_MEANS = {"carbon_intensity_mean": "carbon_intensity", "consumption_mean": "consumption_total"}


def hourly_summary(rows: DataFrame) -> dict[datetime, dict[str, Any]]:
    """Estimated rows of each hour, their share, and what is plotted over time: gCO2eq/kWh and MW, means over zones."""
    estimated = F.coalesce("is_estimated_power", F.lit(False)) | F.coalesce("is_estimated_carbon", F.lit(False))
    grouped = rows.groupBy("datetime").agg(
        F.count(F.when(estimated, True)).alias("estimated"),
        F.count(F.lit(1)).alias("rows"),
        *(F.avg(column).alias(name) for name, column in _MEANS.items()),
    )
    return {
        row["datetime"].astimezone(timezone.utc): {
            "estimated": row["estimated"],
            "estimated_share": round(row["estimated"] / row["rows"], 3),
            **{name: round(row[name], 3) for name in _MEANS if row[name] is not None},
        }
        for row in grouped.toArrow().to_pylist()
    }
