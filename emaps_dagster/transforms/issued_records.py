"""Selects the records of bronze that forecasts see: at each issue time the latest one of each hour of its lookback.

The order of records is silver's; training_rows.py computes the features.
"""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from emaps_dagster.contracts import windows
from emaps_dagster.contracts.forecast_plan import ForecastPlan
from emaps_dagster.contracts.tables import ENERGY_DATA
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.silver import (
    INGESTION_ORDER,
    RecordSelector,
    drop_repeated_content,
    latest_records,
)
from emaps_dagster.transforms.timestamps import instant

_FLOWS = ("import", "export")


def seen_at_issues(issues: DataFrame, origins: windows.Window, plan: ForecastPlan) -> RecordSelector:
    """Selects for each issue time the record of each hour that was the latest then.

    Args:
        issues: zone, issued_at and origin.
        origins: the hours of all origins.
        plan: the features, which decide the content that is read.
    """

    def pick(records: DataFrame, content: list[str]) -> DataFrame:
        oldest_first = Window.partitionBy("zone", "datetime").orderBy(*INGESTION_ORDER)
        wanted, columns = _content(plan, content)
        versions = drop_repeated_content(records, wanted).withColumn(
            "_replaced_at", F.lead("ingested_at").over(oldest_first)
        )
        # An issue time lies at most two hours after the start of its origin.
        first = F.date_trunc("hour", "ingested_at") - F.lit(HOUR)
        last = F.date_trunc("hour", "_replaced_at") - F.lit(HOUR)
        spread = _spread(versions, origins, plan, first, last)
        return (
            spread.join(issues, on=["zone", "origin"], how="inner")
            .where(F.col("ingested_at") <= F.col("issued_at"))
            .where(F.col("_replaced_at").isNull() | (F.col("issued_at") < F.col("_replaced_at")))
            .select("issued_at", "zone", "datetime", "ingested_at", *columns)
        )

    return pick


def latest_of_issues(issues: DataFrame, origins: windows.Window, plan: ForecastPlan) -> RecordSelector:
    """Selects for each issue time the record of each hour that is the latest today; arguments as `seen_at_issues`."""

    def pick(records: DataFrame, content: list[str]) -> DataFrame:
        wanted, columns = _content(plan, content)
        spread = _spread(latest_records(records, wanted), origins, plan)
        joined = spread.join(issues, on=["zone", "origin"], how="inner")
        return joined.select("issued_at", "zone", "datetime", "ingested_at", *columns)

    return pick


def _content(plan: ForecastPlan, content: list[str]) -> tuple[list[str], list[Column]]:
    """The content columns of a feed that the plan reads, and all of them with nulls in place of the others."""
    read = {"is_estimated", *plan.base_columns, "production_total", "carbon_intensity"}
    read |= {f"{flow}_by_zone" for flow in _FLOWS if any(name.startswith(f"{flow}_") for name in plan.base_columns)}
    types = {column.name: column.type for column in ENERGY_DATA.columns}
    entries = "array<struct<key:string,value:double>>"

    def absent(name: str) -> Column:
        type_ = entries if name.endswith("_by_zone") else types.get(name) or types[f"{name}_power"]
        return F.lit(None).cast(type_).alias(name)

    wanted = [name for name in content if name in read]
    return wanted, [F.col(name) if name in read else absent(name) for name in content]


def _spread(
    records: DataFrame,
    origins: windows.Window,
    plan: ForecastPlan,
    first: Column | None = None,
    last: Column | None = None,
) -> DataFrame:
    """Copies each record to the origins whose lookback contains its hour, within some bounds."""
    begin = F.greatest(F.col("datetime"), instant(origins.start))
    end = F.least(F.col("datetime") + F.lit(timedelta(hours=plan.lookback - 1)), instant(origins.end - HOUR))
    return (
        records.withColumn("_first", begin if first is None else F.greatest(begin, first))
        .withColumn("_last", end if last is None else F.least(end, last))
        .where(F.col("_first") <= F.col("_last"))
        .withColumn("origin", F.explode(F.sequence("_first", "_last", F.expr("INTERVAL 1 HOUR"))))
    )
