"""Bronze to gold.ml_features as it was known: at one moment, or for each row a delay after its hour.

Selects the record that each row saw; silver.py and gold.py do the parsing, joins, means and calendar.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from emaps_dagster.contracts.tables import count_column, key_columns, lag_column, rolling_column
from emaps_dagster.contracts.windows import HOUR, LOOKBACK
from emaps_dagster.transforms.gold import (
    OWN_COLUMNS,
    features,
    is_estimated,
    pack_fixed_point,
    unpack_mean,
    values,
    values_in,
    with_calendar,
)
from emaps_dagster.transforms.silver import INGESTION_ORDER, drop_repeated_content, energy_data
from emaps_dagster.transforms.timestamps import instant

# The hour of the gold row that saw a record; up to 24 rows see one record.
_ROW = "row_hour"


def features_as_of(
    power: DataFrame,
    carbon: DataFrame,
    zone_keys: tuple[str, ...],
    start: datetime,
    end: datetime,
    moment: datetime,
    *,
    mix: DataFrame | None = None,
) -> DataFrame:
    """The gold rows of [start, end), computed from the responses ingested by a moment.

    Args:
        power: rows of bronze.power_data; all that overlap [start - 23 h, end) must be there.
        carbon: rows of bronze.carbon_data, likewise.
        zone_keys: the configured zones, which decide the flow columns.
        start: first hour wanted, UTC.
        end: end of the last hour wanted, UTC.
        moment: responses ingested at or before it count, later ones do not.
        mix: rows of bronze.mix_data, likewise; None without the table.
    """
    by_then = F.col("ingested_at") <= instant(moment)
    known_mix = None if mix is None else mix.where(by_then)
    silver = energy_data(power.where(by_then), carbon.where(by_then), start - LOOKBACK, end, mix=known_mix)
    return features(silver, zone_keys, start, end)


def features_known_at(
    power: DataFrame,
    carbon: DataFrame,
    zone_keys: tuple[str, ...],
    start: datetime,
    end: datetime,
    delay: timedelta,
    *,
    mix: DataFrame | None = None,
) -> DataFrame:
    """The gold rows of [start, end), each computed from the responses ingested by its datetime + 1 h + delay.

    Each equals its row of `features_as_of` at that moment, to the last bit. One query computes all rows: every
    record is copied to the rows that saw it, so each (row, zone, datetime) has exactly one record.

    Args: as `features_as_of`, and
        delay: how long after the end of its hour a row is made.
    """

    def seen_by_rows(records: DataFrame, content: list[str]) -> DataFrame:
        oldest_first = Window.partitionBy("zone", "datetime").orderBy(*INGESTION_ORDER)
        replaced_at = F.lead("ingested_at").over(oldest_first)
        # The rows of a record's own hour and of the 23 after it see the record: from the first row made when the
        # record is known to the last one made before the next record of the hour is known.
        first = F.greatest(F.col("datetime"), instant(start), _first_row("ingested_at", delay))
        last = F.least(F.col("datetime") + F.lit(LOOKBACK), instant(end - HOUR))
        return (
            drop_repeated_content(records, content)
            .withColumn("_replaced_at", replaced_at)
            .withColumn("_first", first)
            .withColumn("_last", F.coalesce(F.least(last, _first_row("_replaced_at", delay) - F.lit(HOUR)), last))
            .where(F.col("_first") <= F.col("_last"))
            .withColumn(_ROW, F.explode(F.sequence("_first", "_last", F.expr("INTERVAL 1 HOUR"))))
            .select(_ROW, "zone", "datetime", "ingested_at", *content)
        )

    silver = energy_data(power, carbon, start - LOOKBACK, end, mix=mix, pick=seen_by_rows, more_keys=(_ROW,))
    names = [column.name for column in key_columns(zone_keys)]
    own, previous = F.col("datetime") == F.col(_ROW), F.col("datetime") == F.col(_ROW) - F.lit(HOUR)

    def at(where: Column, name: str) -> Column:
        # The group has at most one such row, so the aggregate returns its value.
        return F.max(F.when(where, F.col(name)))

    rows = (
        values(silver, zone_keys, _ROW)
        .groupBy(F.col("zone"), F.col(_ROW))
        .agg(
            F.count(F.when(own, True)).alias("_own"),
            *(at(own, name).alias(name) for name in (*names, *OWN_COLUMNS)),
            *(at(previous, name).alias(lag_column(name)) for name in names),
            *(F.sum(pack_fixed_point(name)).alias(f"_sum_{name}") for name in names),
            F.count(F.lit(1)).cast("int").alias("hours_observed_24h"),
            F.count(F.when(is_estimated(), True)).cast("int").alias("hours_estimated_24h"),
        )
        # Gold had no row for an hour that was not known yet.
        .where(F.col("_own") > 0)
        .withColumnRenamed(_ROW, "datetime")
        .select(
            "*",
            *(unpack_mean(F.col(f"_sum_{name}")).alias(rolling_column(name)) for name in names),
            *(values_in(F.col(f"_sum_{name}")).alias(count_column(name)) for name in names),
        )
    )
    return with_calendar(rows, zone_keys, start, end)


def first_ingested(
    power: DataFrame, carbon: DataFrame, start: datetime, end: datetime, *, mix: DataFrame | None = None
) -> DataFrame:
    """Ingestion time of the first record of each hour of [start, end), by feed.

    Args: as `features_as_of`.

    Returns:
        zone, datetime, ingested_at_power, ingested_at_carbon; null for a feed that has no record of the hour.
    """

    def earliest(records: DataFrame, content: list[str]) -> DataFrame:
        oldest_first = Window.partitionBy("zone").orderBy("datetime", *INGESTION_ORDER)
        return (
            records.withColumn("_hour_before", F.lag("datetime").over(oldest_first))
            .where(~F.col("_hour_before").eqNullSafe(F.col("datetime")))
            .select("zone", "datetime", "ingested_at", *content)
        )

    rows = energy_data(power, carbon, start, end, mix=mix, pick=earliest)
    return rows.select("zone", "datetime", "ingested_at_power", "ingested_at_carbon")


def _first_row(moment: str, delay: timedelta) -> Column:
    """The first hour whose row is made at or after a moment: hour + 1 h + delay >= moment."""
    return F.date_trunc("hour", F.col(moment) - F.lit(delay) - F.expr("INTERVAL 1 MICROSECOND"))
