"""Numbers of each hour for Dagster's pages: they describe and judge nothing."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def hourly_summary(rows: DataFrame) -> dict[datetime, dict[str, Any]]:
    """Estimated rows of each hour and their share, and the mean carbon intensity over zones (gCO2eq/kWh)."""
    estimated = F.coalesce("is_estimated_power", F.lit(False)) | F.coalesce("is_estimated_carbon", F.lit(False))
    grouped = rows.groupBy("datetime").agg(
        F.count(F.when(estimated, True)).alias("estimated"),
        F.count(F.lit(1)).alias("rows"),
        F.avg("carbon_intensity").alias("carbon_intensity_mean"),
    )
    return {
        row["datetime"].astimezone(timezone.utc): {
            "estimated": row["estimated"],
            "estimated_share": round(row["estimated"] / row["rows"], 3),
            **(
                {"carbon_intensity_mean": round(row["carbon_intensity_mean"], 3)}
                if row["carbon_intensity_mean"] is not None
                else {}
            ),
        }
        for row in grouped.toArrow().to_pylist()
    }
