"""Bronze to gold.ml_features as it was known: at one moment, or for each row a delay after its hour.

Selects the record that each row saw; ingested_records.py does the parsing, gold.py the means and the calendar.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from emaps_dagster.contracts.tables import count_column, lag_column, rolling_column
from emaps_dagster.contracts.windows import HOUR, LOOKBACK
from emaps_dagster.contracts.windows import Window as Hours
from emaps_dagster.transforms.gold import pack_fixed_point, unpack_mean, values_in, with_row_features
from emaps_dagster.transforms.ingested_records import FeedRecords, feeds
from emaps_dagster.transforms.silver import INGESTION_ORDER
from emaps_dagster.transforms.timestamps import instant
from emaps_dagster.transforms.wanted import Wanted, wanted

# The hour of the gold row that saw a record; up to 24 rows see one record.
_ROW = "row_hour"
# Rows of a feed, and the names of their columns besides the keys: to request them costs an analysis by the engine.
_Side = tuple[DataFrame, list[str]]


def features_as_of(
    power: DataFrame,
    carbon: DataFrame,
    zone_keys: tuple[str, ...],
    start: datetime,
    end: datetime,
    moment: datetime,
    columns: Collection[str] | None = None,
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
        columns: the columns wanted besides `zone` and `datetime`, default all of gold; nothing else is parsed.
        mix: rows of bronze.mix_data, as power; None without the table, or without rows, which costs less.
    """
    by_then = F.col("ingested_at") <= instant(moment)

    def seen(feed: FeedRecords) -> DataFrame:
        last = _last_records(feed.where(by_then), Hours(start - LOOKBACK, end))
        first, until = F.greatest(F.col("datetime"), instant(start)), _last_row(end)
        return _to_rows(last.withColumn("_first", first).withColumn("_last", until), feed)

    needed = wanted(zone_keys, columns)
    sides = feeds(power, carbon, mix, zone_keys, needed.of_silver)
    return _gold_rows([_rows_of_feed(feed, seen(feed), needed) for feed in sides], needed, start, end)


def features_known_at(
    power: DataFrame,
    carbon: DataFrame,
    zone_keys: tuple[str, ...],
    start: datetime,
    end: datetime,
    delay: timedelta,
    columns: Collection[str] | None = None,
    *,
    mix: DataFrame | None = None,
) -> DataFrame:
    """The gold rows of [start, end), each computed from the responses ingested by its datetime + 1 h + delay.

    Each equals its row of `features_as_of` at that moment, to the last bit. One query computes all rows: a row sees
    one record of an hour, so all records of an hour are together copied to at most 24 rows.

    Args: as `features_as_of`, and
        delay: how long after the end of its hour a row is made.
    """
    needed = wanted(zone_keys, columns)
    sides = [
        _rows_of_feed(feed, _seen_by_rows(feed, start, end, delay), needed)
        for feed in feeds(power, carbon, mix, zone_keys, needed.of_silver)
    ]
    return _gold_rows(sides, needed, start, end)


def first_ingested(
    power: DataFrame, carbon: DataFrame, start: datetime, end: datetime, *, mix: DataFrame | None = None
) -> DataFrame:
    """Ingestion time of the first record of each hour of [start, end), by feed.

    Args: as `features_as_of`.

    Returns:
        zone, datetime, ingested_at_power, ingested_at_carbon; null for a feed that has no record of the hour.
    """
    of_power, of_carbon = (
        (
            feed.ingested(Hours(start, end))
            .groupBy(F.col("zone"), F.col("datetime"))
            .agg(F.min("ingested_at").alias(f"ingested_at_{feed.name}")),
            [f"ingested_at_{feed.name}"],
        )
        for feed in feeds(power, carbon, mix, (), ())
    )
    return _joined(of_power, of_carbon, ["zone", "datetime"])


def _gold_rows(sides: list[_Side], needed: Wanted, start: datetime, end: datetime) -> DataFrame:
    """The rows of [start, end) from what each of them takes from either feed.

    Each feed is summed before the two are joined: joined records would be 24 times as many, and twice as wide.
    """
    made = {
        **{rolling_column(name): unpack_mean(F.col(f"_sum_{name}")) for name in needed.sums},
        **{count_column(name): values_in(F.col(f"_sum_{name}")) for name in needed.sums},
    }
    if needed.counts_observed:
        made["hours_observed_24h"] = _in_either("_hours")
    if needed.counts_estimated:
        made["hours_estimated_24h"] = _in_either("_estimated")
    rows = (
        _joined(sides[0], sides[1], ["zone", _ROW])
        # Gold had no row for an hour that was not known yet.
        .where((F.coalesce("_own_power", F.lit(0)) + F.coalesce("_own_carbon", F.lit(0))) > 0)
        .withColumnRenamed(_ROW, "datetime")
        .select("*", *(column.alias(name) for name, column in made.items()))
    )
    return with_row_features(rows, needed.columns, start, end)


def _oldest_first() -> WindowSpec:
    # The position comes last: of the records of an hour in one response, that decides between equal times.
    return Window.partitionBy("zone").orderBy("datetime", *INGESTION_ORDER, "position")


def _last_records(feed: FeedRecords, hours: Hours) -> DataFrame:
    """The last ingested record of each zone and hour."""
    next_hour = F.lead("datetime").over(_oldest_first())
    return (
        feed.last_ingested(hours)
        .withColumn("_next_hour", next_hour)
        .where(~F.col("_next_hour").eqNullSafe(F.col("datetime")))
    )


def _seen_by_rows(feed: FeedRecords, start: datetime, end: datetime, delay: timedelta) -> DataFrame:
    """Each record once for each row of [start, end) that saw it, as `_to_rows`.

    From the first row made when the record is known to the last one made before the next record of its hour is known.
    """
    # One sort for both; a window of its own for each hour would cost an engine more than the rest.
    is_same_hour = F.lead("datetime").over(_oldest_first()) == F.col("datetime")
    replaced_at = F.when(is_same_hour, F.lead("ingested_at").over(_oldest_first()))
    first = F.greatest(F.col("datetime"), instant(start), _first_row("ingested_at", delay))
    last = F.coalesce(F.least(_last_row(end), _first_row("_replaced_at", delay) - F.lit(HOUR)), _last_row(end))
    return _to_rows(
        feed.ingested(Hours(start - LOOKBACK, end))
        .select("zone", "datetime", "ingested_at", *feed.fields.content, replaced_at.alias("_replaced_at"))
        .withColumn("_first", first)
        .withColumn("_last", last),
        feed,
    )


def _to_rows(seen: DataFrame, feed: FeedRecords) -> DataFrame:
    """Each record once for each row from its `_first` to its `_last`: row_hour, zone, datetime and the fields."""
    return seen.where(F.col("_first") <= F.col("_last")).select(
        F.explode(F.sequence("_first", "_last", F.expr("INTERVAL 1 HOUR"))).alias(_ROW),
        "zone",
        "datetime",
        *feed.fields.content,
    )


def _last_row(end: datetime) -> Column:
    """The last row before `end` whose window reaches back to a record."""
    return F.least(F.col("datetime") + F.lit(LOOKBACK), instant(end - HOUR))


def _rows_of_feed(feed: FeedRecords, seen: DataFrame, needed: Wanted) -> _Side:
    """What each row takes from one feed: its own values, lags, sums, and which hours there were.

    Hours are bits of an integer, the row's own the lowest, so that the hours of both feeds are the bits of either.
    """
    own, previous = F.col("datetime") == F.col(_ROW), F.col("datetime") == F.col(_ROW) - F.lit(HOUR)
    bit = F.call_function(
        "shiftleft", F.lit(1), ((F.unix_seconds(_ROW) - F.unix_seconds("datetime")) / F.lit(3600)).cast("int")
    )
    is_estimated = f"is_estimated_{feed.name}"

    def at(where: Column, name: str) -> Column:
        # The group has at most one such row, so the aggregate returns its value.
        return F.max(F.when(where, F.col(name)))

    def of_feed(names: Collection[str]) -> list[str]:
        return [name for name in names if name in feed.fields.content]

    columns = {
        f"_own_{feed.name}": F.count(F.when(own, True)),
        **{name: at(own, name) for name in of_feed((*needed.values, *needed.own))},
        **{lag_column(name): at(previous, name) for name in of_feed(needed.lags)},
        **{f"_sum_{name}": F.sum(pack_fixed_point(F.col(name))) for name in of_feed(needed.sums)},
    }
    if needed.counts_observed:
        columns[f"_hours_{feed.name}"] = F.bit_or(bit)
    if needed.counts_estimated:
        columns[f"_estimated_{feed.name}"] = F.bit_or(F.when(F.col(is_estimated), bit))
    # By columns: pyspark resolves names of keys by the schema, for which the engine analyses the plan once more.
    return seen.groupBy(F.col("zone"), F.col(_ROW)).agg(*(column.alias(name) for name, column in columns.items())), [
        *columns
    ]


def _joined(power: _Side, carbon: _Side, keys: list[str]) -> DataFrame:
    """The rows of both feeds side by side; a row that only one feed has is there too."""
    joined = (
        power[0]
        .alias("power")
        .join(
            carbon[0].alias("carbon"), [F.col(f"power.{key}") == F.col(f"carbon.{key}") for key in keys], "full_outer"
        )
    )
    return joined.select(
        *(F.coalesce(f"power.{key}", f"carbon.{key}").alias(key) for key in keys),
        *(F.col(f"power.{name}") for name in power[1]),
        *(F.col(f"carbon.{name}") for name in carbon[1]),
    )


def _in_either(name: str) -> Column:
    """Number of bits that are set for one of the feeds."""
    both = F.coalesce(f"{name}_power", F.lit(0)).bitwiseOR(F.coalesce(f"{name}_carbon", F.lit(0)))
    return F.bit_count(both).cast("int")


def _first_row(moment: str, delay: timedelta) -> Column:
    """The first hour whose row is made at or after a moment: hour + 1 h + delay >= moment."""
    return F.date_trunc("hour", F.col(moment) - F.lit(delay) - F.expr("INTERVAL 1 MICROSECOND"))
