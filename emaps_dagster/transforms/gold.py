"""silver.energy_data to gold.ml_features: time, lag and rolling features by time, never by row.

Each row of silver is copied to the hours whose window contains it, so gaps never shift a row to another hour. Window
functions on a grid of hours give the same result and take the engine longer (docs/adr/0010). The key columns of a few
hours pass in arrays, those of many in columns (carriers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.tables import count_column, key_columns, lag_column, ml_features, rolling_column
from emaps_dagster.contracts.windows import HOUR, LOOKBACK
from emaps_dagster.contracts.zones import neighbours_of, zone_column
from emaps_dagster.transforms.carriers import Apart, Carrier, InArray
from emaps_dagster.transforms.time_features import local_time, time_features, with_local_time
from emaps_dagster.transforms.timestamps import in_hours, instant
from emaps_dagster.transforms.wanted import OWN_COLUMNS

# Sums are BIGINT in micro-units and exact, so a mean does not depend on the start of the computed window. A float
# sum would, in its last bits, and every re-merge would rewrite rows. 10^6 preserves a watt of a megawatt and
# leaves room for 24 values of 10^9, the largest that bronze admits, and for their count in the last five bits.
_MICRO = 1_000_000
_DIRECTIONS = ("import", "export")
# Steps of the 24-hour sum of many hours: six sums of four hours give the same sum, to the last bit, with ten copies of
# each row instead of 24.
_STEPS = (4, 24)
_MANY = timedelta(days=31)
_KEY = ["zone", "datetime"]


def values(silver: DataFrame, zone_keys: tuple[str, ...], *more: str) -> DataFrame:
    """The key columns of silver's rows, flows flattened, and `OWN_COLUMNS`."""
    names = [column.name for column in key_columns(zone_keys)]
    return with_flows(silver, zone_keys).select(*more, "zone", "datetime", *names, *OWN_COLUMNS)


def with_flows(rows: DataFrame, zone_keys: tuple[str, ...]) -> DataFrame:
    """Adds the flow of each neighbour of the zones, from the maps import_by_zone and export_by_zone."""
    flows = {
        f"{direction}_{zone_column(neighbour)}": _entry(direction, neighbour)
        for direction in _DIRECTIONS
        for neighbour in neighbours_of(zone_keys)
    }
    # Splits each map once: a key lookup reads the whole map, for each of fifty columns.
    parts = {
        f"_{direction}_{part}": take(f"{direction}_by_zone")
        for direction in _DIRECTIONS
        for part, take in (("zones", F.map_keys), ("values", F.map_values))
    }
    return rows.select("*", *(part.alias(name) for name, part in parts.items())).select(
        "*", *(flow.alias(name) for name, flow in flows.items())
    )


def _entry(direction: str, neighbour: str) -> Column:
    """The flow of one neighbour; null for an absent one, as position 0 is in no array."""
    place = F.array_position(f"_{direction}_zones", neighbour) - 1
    return F.get(f"_{direction}_values", place.cast("int"))


def is_estimated() -> Column:
    """Whether a row's power or carbon is known to be estimated."""
    return F.coalesce("is_estimated_power", F.lit(False)) | F.coalesce("is_estimated_carbon", F.lit(False))


def pack_fixed_point(value: Column) -> Column:
    """Encodes a value as micro-units times 32 plus one, so that one BIGINT sum of up to 24 values also counts them."""
    micro = F.round(value * F.lit(float(_MICRO))).cast("bigint")
    return F.shiftleft(micro, 5) + F.lit(1).cast("bigint")


def unpack_mean(total: Column) -> Column:
    """Decodes the mean from a sum of packed values; null without values."""
    return F.shiftright(total, 5).cast("double") / (_count(total).cast("double") * F.lit(float(_MICRO)))


def values_in(total: Column) -> Column:
    """Decodes the number of values from a sum of packed values; 0 without values."""
    return F.coalesce(_count(total), F.lit(0).cast("bigint")).cast("int")


def _count(total: Column) -> Column:
    return total.bitwiseAND(F.lit(31).cast("bigint"))


def _row_features(start: datetime, end: datetime) -> dict[str, Column]:
    """The columns that are computed from others of their row, by name.

    The contract names the inputs of each (`Column.inputs`); rows as known are computed with these inputs alone.
    """
    return {**time_features(start, end), "year_month": F.date_format("datetime", "yyyy-MM")}


def with_row_features(rows: DataFrame, columns: Collection[str], start: datetime, end: datetime) -> DataFrame:
    """Selects these columns of gold from the values, lags and means of [start, end), and computes the rest of them."""
    return _completed(with_local_time(rows), columns, start, end)


def _completed(rows: DataFrame, columns: Collection[str], start: datetime, end: datetime) -> DataFrame:
    made = _row_features(start, end)
    return rows.select(*(made[name].alias(name) if name in made else name for name in columns))


def features(silver: DataFrame, zone_keys: tuple[str, ...], start: datetime, end: datetime) -> DataFrame:
    """The gold rows of [start, end), each a pure function of silver's rows in [datetime - 23 h, datetime].

    Args:
        silver: rows of silver.energy_data; all of [start - 23 h, end) must be there, as context.
        zone_keys: the configured zones, which decide the flow columns.
        start: first hour, UTC.
        end: end of the last hour, UTC.

    Returns:
        One row for each (zone, datetime) in silver, as `tables.ml_features(zone_keys)`.
    """
    names = tuple(column.name for column in key_columns(zone_keys))
    is_many = end - start > _MANY
    carrier, gather = (Apart(names), _by_joins) if is_many else (InArray(names), _in_one_pass)
    in_context = in_hours(start - LOOKBACK, end)
    observed = values(silver.where(in_context), zone_keys).select(
        *_KEY, *carrier.carried(map(F.col, names), "value"), *OWN_COLUMNS
    )
    rows, of_sums = carrier.unpacked(gather(observed, carrier, start), "sum", {"mean": unpack_mean, "count": values_in})
    groups: dict[Callable[[str], str], list[Column]] = {
        str: carrier.values("value"),
        lag_column: carrier.values("lag"),
        rolling_column: of_sums["mean"],
        count_column: of_sums["count"],
    }
    named = rows.select(
        *_KEY,
        local_time(),
        *OWN_COLUMNS,
        F.col("_observed").cast("int").alias("hours_observed_24h"),
        F.col("_estimated").cast("int").alias("hours_estimated_24h"),
        *(
            value.alias(column(name))
            for column, of_names in groups.items()
            for name, value in zip(names, of_names, strict=True)
        ),
    )
    return _completed(named, ml_features(zone_keys).column_names, start, end)


def _in_one_pass(observed: DataFrame, carrier: Carrier, start: datetime) -> DataFrame:
    """Values, lags and sums of each hour from `start` on: every row is copied to its 24 hours, then grouped.

    For few hours: one read and no join are the shortest plan.
    """
    own, lags = carrier.columns("value"), carrier.columns("lag")
    copies = observed.select(
        *_KEY, *own, *OWN_COLUMNS, *_summed(carrier), F.posexplode(_served(24, 1))
    ).withColumnsRenamed({"pos": "_later", "col": "_hour"})

    def copied(later: int, names: Iterable[str], results: Iterable[str]) -> list[Column]:
        return [
            F.first(F.when(F.col("_later") == later, F.col(name)), ignorenulls=True).alias(result)
            for name, result in zip(names, results, strict=True)
        ]

    return (
        copies.where(F.col("_hour") >= instant(start))
        .groupBy(F.col("zone"), F.col("_hour").alias("datetime"))
        .agg(
            F.min("_later").alias("_nearest"),
            *copied(0, own, own),
            *copied(1, own, lags),
            *copied(0, OWN_COLUMNS, OWN_COLUMNS),
            *_totals(carrier),
        )
        .where("_nearest = 0")
    )


def _by_joins(observed: DataFrame, carrier: Carrier, start: datetime) -> DataFrame:
    """Values, lags and sums of each hour from `start` on: fewer copies of each row, for many hours."""
    rows = observed.where(F.col("datetime") >= instant(start))
    rows = _beside(rows, _hour_before(observed, carrier), "lag")
    return _beside(rows, _last_24_hours(observed, carrier), "day")


def _beside(rows: DataFrame, other: DataFrame, name: str) -> DataFrame:
    """Left join by the key. A join by names of columns would be more steps of a plan."""
    renamed = other.withColumnsRenamed({key: f"_{name}_{key}" for key in _KEY})
    return rows.join(renamed, [F.col(key) == F.col(f"_{name}_{key}") for key in _KEY], how="left")


def _hour_before(observed: DataFrame, carrier: Carrier) -> DataFrame:
    """Lags of each hour: the values of the hour before."""
    following = F.col("datetime") + F.lit(HOUR)
    return observed.select("zone", following.alias("datetime"), *carrier.carried(carrier.values("value"), "lag"))


def _last_24_hours(observed: DataFrame, carrier: Carrier) -> DataFrame:
    """Packed sums of each hour over itself and the 23 hours before."""
    sums = observed.select(*_KEY, *_summed(carrier))
    every = 1
    for hours in _STEPS:
        sums = _sums(sums, carrier, hours=hours, every=every)
        every = hours
    return sums


def _sums(rows: DataFrame, carrier: Carrier, *, hours: int, every: int) -> DataFrame:
    """Sums for each hour over its own row and earlier ones, `every` hours apart, within `hours` hours."""
    served = F.explode(_served(hours, every)).alias("datetime")
    spread = rows.select("zone", served, *carrier.columns("sum"), "_observed", "_estimated")
    return spread.groupBy(*map(F.col, _KEY)).agg(*_totals(carrier))


def _served(hours: int, every: int) -> Column:
    """The hours, `every` hours apart, whose last `hours` hours hold `datetime`."""
    last = F.col("datetime") + F.lit((hours - every) * HOUR)
    return F.sequence("datetime", last, F.expr(f"INTERVAL {every} HOUR"))


def _summed(carrier: Carrier) -> list[Column]:
    """What a row adds to the sums of the hours that it serves."""
    return [
        *carrier.mapped("value", pack_fixed_point, "sum"),
        F.lit(1).cast("bigint").alias("_observed"),
        is_estimated().cast("bigint").alias("_estimated"),
    ]


def _totals(carrier: Carrier) -> list[Column]:
    return [
        *carrier.carried(map(F.sum, carrier.values("sum")), "sum"),
        *(F.sum(name).alias(name) for name in ("_observed", "_estimated")),
    ]
