"""bronze.mix_data to power records: puts the signals of one hour and one version together.

The signals of an hour are requested one after the other, and the provider may publish a new version in between. All
carry the time of update of their version, so a record is made only of signals with equal `updatedAt` (docs/adr/0019).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import reduce
from operator import add, and_, or_

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
_RECORD = (
    "datetime:string,updatedAt:string,createdAt:string,isEstimated:boolean,estimationMethod:string,"
    f"mix:struct<{_MIX}>,import:map<string,double>,export:map<string,double>,value:double"
)
_MICRO = 1_000_000
_ORDER = ("ingested_at", "payload_sha256")
_PRODUCTION = tuple(f"production_{mode_column(key)}" for key in MODE_KEYS)
_CONSUMPTION = tuple(f"consumption_{mode_column(key)}" for key in MODE_KEYS)
# What each signal contributes, in the order of its array `numbers`.
_CONTRIBUTED: dict[str, tuple[str, ...]] = {
    MIX.name: (*_PRODUCTION, "production_total", "import_total", "export_total"),
    TRACED_MIX.name: (*_CONSUMPTION, "consumption_total"),
    RENEWABLE.name: ("renewable_percentage",),
    CARBON_FREE.name: ("fossil_free_percentage",),
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
    seen = observations(mix, start, end)
    same_version = Window.partitionBy("zone").orderBy("datetime", "updated_at", *_ORDER)
    until_now = same_version.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    version = ("datetime", "updated_at")

    def latest(signal: Feed) -> Column:
        # The window spans the zone, so what it finds may belong to an earlier version or hour.
        found = F.last(F.when(F.col("signal") == signal.name, F.col("_part")), ignorenulls=True).over(until_now)
        return found.alias(f"_{signal.name}")

    signals = (*NEEDED_SIGNALS, RENEWABLE, CARBON_FREE)
    parts = seen.withColumn("_part", F.struct(*version, *_PART)).select(
        "zone", *version, *_ORDER, "position", *(latest(signal) for signal in signals)
    )

    def is_of_version(signal: Feed) -> Column:
        part = F.col(f"_{signal.name}")
        same = reduce(and_, (part[name] == F.col(name) for name in version))
        return part.isNotNull() & F.coalesce(same, F.lit(False))

    complete = parts.where(reduce(and_, map(is_of_version, NEEDED_SIGNALS)))

    def field(signal: Feed, name: str) -> Column:
        value = F.col(f"_{signal.name}")[name]
        # Not of a struct that is null otherwise: Sail reads the fields of a null struct as they were.
        return value if signal in NEEDED_SIGNALS else F.when(is_of_version(signal), value)

    def contributed(signal: Feed) -> Iterable[Column]:
        for place, name in enumerate(_CONTRIBUTED[signal.name]):
            yield field(signal, "numbers")[place].alias(name)

    return complete.select(
        "zone",
        "datetime",
        *_ORDER,
        "position",
        field(MIX, "source").alias("source"),
        *(column for signal in (MIX, TRACED_MIX, RENEWABLE, CARBON_FREE) for column in contributed(signal)),
        *(field(FLOWS, name).alias(name) for name in POWER_MAPS),
        field(MIX, "is_estimated").alias("is_estimated"),
        field(MIX, "estimation_method").alias("estimation_method"),
        "updated_at",
        F.coalesce(field(RENEWABLE, "created_at"), field(CARBON_FREE, "created_at")).alias("created_at"),
    ).select("zone", "datetime", *_ORDER, "position", "source", *POWER_NUMBERS, *POWER_MAPS, *_PROVENANCE)


_PART = ("source", "numbers", "import_by_zone", "export_by_zone", "is_estimated", "estimation_method", "created_at")
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
    return last.select(
        "zone",
        "datetime",
        "signal",
        source_of(F.col("source")).alias("source"),
        "updated_at",
        "ingested_at",
        # Percentages may be equal in all hours, and their bodies then have one hash.
        F.concat_ws(":", "payload_sha256", "signal").alias("payload_sha256"),
        "position",
        F.when(F.col("signal") == MIX.name, _produced())
        .when(F.col("signal") == TRACED_MIX.name, _consumed())
        .otherwise(F.array(number(F.col("record.value"))))
        .alias("numbers"),
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
    records = parsed_records(mix, _RECORD, start, end, "signal").withColumn(
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
    version = ["zone", "datetime", "updated_at"]

    def first(records: DataFrame, name: str) -> DataFrame:
        return records.groupBy(*version).agg(F.min("ingested_at").alias(name))

    of_power, of_mix = first(power, "_power_since"), first(assembled, "_mix_since")
    is_later_mix = F.col("_power_since") <= F.col("_mix_since")
    both = of_power.join(of_mix, version).select(*version, is_later_mix.alias("_is_later_mix"))
    kept_mix = assembled.join(both.where("_is_later_mix"), version, "left_anti")
    kept_power = power.join(both.where("NOT _is_later_mix"), version, "left_anti")
    return kept_power.unionByName(kept_mix)


def _produced() -> Column:
    """Array of the production by mode, its total, and the totals of the flows."""
    values = {key: number(F.col(f"record.mix.`{key}`")) for key in _PLAIN}
    given: list[Column] = list(values.values())
    for key, mode in STORAGE_KEYS.items():
        charge, discharge = (number(F.col(f"record.mix.`{key}`.{part}")) for part in ("charge", "discharge"))
        given.append(discharge)
        values[mode] = _net(charge, discharge)
    flows = (number(F.col(f"record.mix.flows.{way}")) for way in ("imports", "exports"))
    return F.array(*(values[key] for key in MODE_KEYS), _positive_sum(given, values.values()), *flows)


def _consumed() -> Column:
    """Array of the consumption by mode and its total."""
    values = {key: number(F.col(f"record.mix.`{key}`")) for key in _PLAIN}
    values |= {mode: number(F.col(f"record.mix.`{key}`.discharge")) for key, mode in STORAGE_KEYS.items()}
    of_modes = [values[key] for key in MODE_KEYS]
    return F.array(*of_modes, _positive_sum(of_modes, of_modes))


def _net(charge: Column, discharge: Column) -> Column:
    """Discharge - charge; null where the API has `{charge: 0, discharge: null}`, which stands for not reported."""
    both = (_micro(discharge) - _micro(charge)).cast("double") / F.lit(float(_MICRO))
    return (
        F.when(charge.isNotNull() & discharge.isNotNull(), both)
        .when(discharge.isNotNull(), discharge)
        .when(charge != 0.0, -charge)
    )


def _positive_sum(parts: Iterable[Column], reported: Iterable[Column]) -> Column:
    """The sum of the positive parts, exact in millionths; null if nothing is reported."""
    positive = [F.coalesce(F.greatest(_micro(part), F.lit(0)), F.lit(0)) for part in parts]
    total = reduce(add, positive).cast("double") / F.lit(float(_MICRO))
    return F.when(reduce(or_, (part.isNotNull() for part in reported)), total)


def _micro(value: Column) -> Column:
    return F.round(value * F.lit(float(_MICRO))).cast("long")


def _method() -> Column:
    """`MEASURED` is a measurement, so null; the mix has a prefix that power-breakdown lacks."""
    method = F.col("record.estimationMethod")
    return F.when(method != "MEASURED", F.regexp_replace(method, "^ESTIMATED_", ""))
