"""bronze.mix_data to power records: puts the signals of one hour and one version together.

The signals of an hour are requested one after the other, and the provider may publish a new version in between. All
carry the time of update of their version, so a record is made only of signals with equal `updatedAt` (docs/adr/0019).
"""

from __future__ import annotations

from datetime import datetime
from functools import reduce
from operator import and_, or_

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from emaps_dagster.contracts.signals import (
    CARBON_FREE,
    FLOWS,
    MIX,
    NEEDED_SIGNALS,
    RENEWABLE,
    STORAGE_KEYS,
    TRACED_MIX,
)
from emaps_dagster.contracts.tables import IS_SUPERSEDED
from emaps_dagster.contracts.zones import MODE_KEYS, Feed, mode_column
from emaps_dagster.transforms.numbers import number
from emaps_dagster.transforms.records import POWER_MAPS, POWER_NUMBERS, parsed_records, sorted_map, source_of

_STORAGE = "struct<charge:double,discharge:double>"
_PLAIN = tuple(key for key in MODE_KEYS if key not in STORAGE_KEYS.values())
_MIX = ",".join(
    [
        *(f"`{key}`:double" for key in _PLAIN),
        *(f"`{key}`:{_STORAGE}" for key in STORAGE_KEYS),
        "flows:struct<exports:double,imports:double>",
    ]
)
_VERSION = "datetime:string,updatedAt:string"
_RECORD = (
    f"{_VERSION},createdAt:string,isEstimated:boolean,estimationMethod:string,"
    f"mix:struct<{_MIX}>,import:map<string,double>,export:map<string,double>,value:double"
)
_MICRO = 1_000_000
_ORDER = ("ingested_at", "payload_sha256")
# The modes in the order of the arrays: those that are one number, then the storages.
_MODES = tuple(mode_column(key) for key in (*_PLAIN, *STORAGE_KEYS.values()))
# What each signal contributes, in the order of its array `numbers`.
_CONTRIBUTED: dict[str, tuple[str, ...]] = {
    MIX.name: (*(f"production_{mode}" for mode in _MODES), "production_total", "import_total", "export_total"),
    TRACED_MIX.name: (*(f"consumption_{mode}" for mode in _MODES), "consumption_total"),
    RENEWABLE.name: ("renewable_percentage",),
    CARBON_FREE.name: ("fossil_free_percentage",),
}
# What is read of the last record of each signal.
_PARTS = {
    MIX.name: ("source", "numbers", "is_estimated", "estimation_method"),
    TRACED_MIX.name: ("numbers",),
    FLOWS.name: tuple(POWER_MAPS),
    RENEWABLE.name: ("numbers", "created_at"),
    CARBON_FREE.name: ("numbers", "created_at"),
}


def mix_records(mix: DataFrame, start: datetime, end: datetime) -> DataFrame:
    """The power records of [start, end), one for each response that completes or changes a version of an hour.

    Args:
        mix: rows of bronze.mix_data; all that overlap the window must be there.
        start: first hour, UTC.
        end: end of the last hour, UTC.

    Returns:
        The columns of silver's power records. `ingested_at` is that of the last response of the version: the moment
        since when the record is known.
    """
    # A version belongs to one hour. By day, because an engine's partitions cost more than the rows of an hour, and the
    # time of the last value in a long partition grows with the square of its rows.
    same_version = Window.partitionBy("zone", "_day").orderBy("datetime", "updated_at", *_ORDER)
    until_now = same_version.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    version = ("datetime", "updated_at")

    def latest(signal: Feed) -> Column:
        # The window spans a day, so what it finds may belong to an earlier version or hour.
        part = F.when(F.col("signal") == signal.name, F.struct(*version, *_PARTS[signal.name]))
        return F.last(part, ignorenulls=True).over(until_now).alias(f"_{signal.name}")

    seen = observations(mix, start, end).withColumn("_day", F.to_date("datetime"))
    parts = seen.select("zone", *version, *_ORDER, "position", *map(latest, (*NEEDED_SIGNALS, RENEWABLE, CARBON_FREE)))

    def is_of_version(signal: Feed) -> Column:
        same = reduce(and_, (F.col(f"_{signal.name}.{name}") == F.col(name) for name in version))
        return F.col(f"_{signal.name}").isNotNull() & F.coalesce(same, F.lit(False))

    complete = parts.where(reduce(and_, map(is_of_version, NEEDED_SIGNALS)))

    def field(signal: Feed, name: str) -> Column:
        value = F.col(f"_{signal.name}.{name}")
        # Not of a struct that is null otherwise: Sail reads the fields of a null struct as they were.
        return value if signal in NEEDED_SIGNALS else F.when(is_of_version(signal), value)

    numbers = {signal: f"_numbers_{signal.name}" for signal in (MIX, TRACED_MIX, RENEWABLE, CARBON_FREE)}
    # Each array is taken out of its struct once: engines analyse a path for each of 45 columns slowly.
    taken = complete.select(
        "zone",
        "datetime",
        *_ORDER,
        "position",
        field(MIX, "source").alias("source"),
        *(field(signal, "numbers").alias(name) for signal, name in numbers.items()),
        *(field(FLOWS, name).alias(name) for name in POWER_MAPS),
        field(MIX, "is_estimated").alias("is_estimated"),
        field(MIX, "estimation_method").alias("estimation_method"),
        "updated_at",
        F.coalesce(field(RENEWABLE, "created_at"), field(CARBON_FREE, "created_at")).alias("created_at"),
    )
    places = {name: (signal, at) for signal in numbers for at, name in enumerate(_CONTRIBUTED[signal.name])}
    of_power = (
        F.get(numbers[places[name][0]], F.lit(places[name][1])).alias(name) if name in places else F.col(name)
        for name in POWER_NUMBERS
    )
    return taken.select("zone", "datetime", *_ORDER, "position", "source", *of_power, *POWER_MAPS, *_PROVENANCE)


_PROVENANCE = ("is_estimated", "estimation_method", "updated_at", "created_at")


def observations(mix: DataFrame, start: datetime, end: datetime) -> DataFrame:
    """One row for each signal, response and hour of [start, end): what the response says of the hour.

    If one response has several records of an hour, the one updated last counts, then the one further down.
    """
    records = parsed_records(mix, _RECORD, start, end, "signal", "source").withColumn(
        "updated_at", F.to_timestamp("record.updatedAt")
    )
    response = ("signal", "datetime", "ingested_at", "payload_sha256")
    in_response = Window.partitionBy("zone").orderBy(*response, "updated_at", "position")
    repeated = (F.lead(name).over(in_response).eqNullSafe(F.col(name)) for name in response)
    last = (
        records.withColumn("_is_repeated", reduce(and_, repeated))
        .where(~F.col("_is_repeated") & F.col("updated_at").isNotNull())
        .drop("_is_repeated")
    )
    return _with_numbers(last).select(
        "zone",
        "datetime",
        "signal",
        source_of(F.col("source")).alias("source"),
        "updated_at",
        "ingested_at",
        # Percentages may be equal in all hours, and their bodies then have one hash.
        F.concat_ws(":", "payload_sha256", "signal").alias("payload_sha256"),
        "position",
        "numbers",
        *(sorted_map(F.col(f"record.{way}")).alias(f"{way}_by_zone") for way in ("import", "export")),
        F.coalesce("record.isEstimated", F.lit(False)).alias("is_estimated"),
        _method().alias("estimation_method"),
        F.to_timestamp("record.createdAt").alias("created_at"),
    )


def with_superseded(silver: DataFrame, mix: DataFrame, start: datetime, end: datetime) -> DataFrame:
    """Adds `is_superseded_power`: whether a needed signal shows another version of the hour, ingested no earlier.

    Null for an hour that no signal of electricity-mix holds.

    Args:
        silver: rows of silver.energy_data of [start, end) without the column.
        mix: rows of bronze.mix_data; all that overlap the window must be there.
        start: first hour, UTC.
        end: end of the last hour, UTC.
    """
    records = parsed_records(mix, _VERSION, start, end, "signal").withColumn(
        "updated_at", F.to_timestamp("record.updatedAt")
    )
    newest = F.struct("ingested_at", "updated_at", "payload_sha256")
    shown = records.groupBy("zone", "datetime").agg(
        *(F.max(F.when(F.col("signal") == signal.name, newest)).alias(f"_{signal.name}") for signal in NEEDED_SIGNALS)
    )
    parts = [F.col(f"_{signal.name}") for signal in NEEDED_SIGNALS]
    is_other = (
        part.isNotNull()
        & (part["updated_at"] != F.col("updated_at_power"))
        & (part["ingested_at"] >= F.col("ingested_at_power"))
        for part in parts
    )
    is_newer = reduce(or_, (F.coalesce(other, F.lit(False)) for other in is_other))
    is_shown = reduce(or_, (part.isNotNull() for part in parts))
    flag = F.when(is_shown, F.col("ingested_at_power").isNull() | is_newer)
    return silver.join(shown, ["zone", "datetime"], "left").withColumn(IS_SUPERSEDED.name, flag)


def first_road_keeps_the_version(power: DataFrame, assembled: DataFrame) -> DataFrame:
    """Both roads' records without those of a version of an hour that the other road delivered first.

    In the same version of an hour v4's numbers differ from v3's by less than a megawatt: no revision (docs/adr/0020).
    """
    both = power.withColumn("_road", F.lit(0)).unionByName(assembled.withColumn("_road", F.lit(1)))
    # No joins: an engine would compute the records of both roads once for each side of each join.
    in_order = Window.partitionBy("zone", "_day").orderBy("datetime", "updated_at", "ingested_at", "_road")
    repeated = (F.lag(name).over(in_order).eqNullSafe(F.col(name)) for name in ("datetime", "updated_at"))
    begins = F.when(~reduce(and_, repeated), F.col("_road"))
    until_now = in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    return (
        both.withColumn("_day", F.to_date("datetime"))
        .withColumn("_begins", begins)
        .withColumn("_first_road", F.last("_begins", ignorenulls=True).over(until_now))
        .where(F.col("updated_at").isNull() | (F.col("_road") == F.col("_first_road")))
        .drop("_day", "_road", "_begins", "_first_road")
    )


def _with_numbers(records: DataFrame) -> DataFrame:
    """Adds `numbers`, the array of what the record's signal contributes."""

    def numbers_at(*paths: str) -> Column:
        return F.transform(F.array(*(F.col(f"record.{path}") for path in paths)), number)

    # In steps, so that each path stands in the plan once: a plan takes an engine the longer the more it holds.
    parts = {
        "_plain": numbers_at(*(f"mix.`{key}`" for key in _PLAIN)),
        "_charged": numbers_at(*(f"mix.`{key}`.charge" for key in STORAGE_KEYS)),
        "_discharged": numbers_at(*(f"mix.`{key}`.discharge" for key in STORAGE_KEYS)),
        "_flows": numbers_at("mix.flows.imports", "mix.flows.exports"),
        "_value": numbers_at("value"),
    }
    net = [_net(F.get("_charged", F.lit(at)), F.get("_discharged", F.lit(at))) for at in range(len(STORAGE_KEYS))]
    sums = {
        "_given": F.concat("_plain", "_discharged"),
        "_reported": F.when(F.col("signal") == MIX.name, F.concat(F.col("_plain"), F.array(*net))).otherwise(
            F.concat("_plain", "_discharged")
        ),
    }
    of_mode = F.concat(F.col("_reported"), F.array(_positive_sum("_given", "_reported")))
    numbers = (
        F.when(F.col("signal") == MIX.name, F.concat(of_mode, F.col("_flows")))
        .when(F.col("signal") == TRACED_MIX.name, of_mode)
        .otherwise(F.col("_value"))
    )
    return (
        records.select("*", *(part.alias(name) for name, part in parts.items()))
        .select("*", *(part.alias(name) for name, part in sums.items()))
        .withColumn("numbers", numbers)
    )


def _net(charge: Column, discharge: Column) -> Column:
    """Discharge - charge; null where the API has `{charge: 0, discharge: null}`, which stands for not reported."""
    both = (_micro(discharge) - _micro(charge)).cast("double") / F.lit(float(_MICRO))
    return (
        F.when(charge.isNotNull() & discharge.isNotNull(), both)
        .when(discharge.isNotNull(), discharge)
        .when(charge != 0.0, -charge)
    )


def _positive_sum(parts: str, reported: str) -> Column:
    """The sum of an array's positive parts, exact in millionths; null if nothing is reported."""
    zero = F.lit(0).cast("bigint")
    total = F.aggregate(parts, zero, lambda total, part: total + F.coalesce(F.greatest(_micro(part), zero), zero))
    return F.when(F.array_max(reported).isNotNull(), total.cast("double") / F.lit(float(_MICRO)))


def _micro(value: Column) -> Column:
    return F.round(value * F.lit(float(_MICRO))).cast("long")


def _method() -> Column:
    """`MEASURED` is a measurement, so null; the mix has a prefix that power-breakdown lacks."""
    method = F.col("record.estimationMethod")
    return F.when(method != "MEASURED", F.regexp_replace(method, "^ESTIMATED_", ""))
