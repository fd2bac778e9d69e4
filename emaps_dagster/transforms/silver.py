"""Bronze bodies to silver.energy_data: parse, flatten, keep the latest ingestion, join the feeds.

Fills no gaps and computes nothing from neighbouring hours, which gold does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from emaps_dagster.contracts.tables import ENERGY_DATA
from emaps_dagster.contracts.zones import MODE_KEYS, mode_column
from emaps_dagster.transforms.numbers import number, with_long_numbers_as_strings
from emaps_dagster.transforms.timestamps import in_hours

_POWER_FIELDS: dict[str, str] = {
    **{
        f"{side}_{mode_column(key)}": f"power{side.title()}Breakdown.`{key}`"
        for side in ("production", "consumption")
        for key in MODE_KEYS
    },
    **{f"{what}_total": f"power{what.title()}Total" for what in ("production", "consumption", "import", "export")},
    "fossil_free_percentage": "fossilFreePercentage",
    "renewable_percentage": "renewablePercentage",
}
_POWER_MAPS = {"import_by_zone": "powerImportBreakdown", "export_by_zone": "powerExportBreakdown"}
_CARBON_FIELDS = {"carbon_intensity": "carbonIntensity"}
_CARBON_TEXTS = {"emission_factor_type": "emissionFactorType"}
# Field by field the same for both feeds; the feed's name is appended.
_PROVENANCE_FLAGS = {"is_estimated": "isEstimated"}
_PROVENANCE_TEXTS = {"estimation_method": "estimationMethod"}
_PROVENANCE_TIMES = {"updated_at": "updatedAt", "created_at": "createdAt"}

_PROVENANCE = (*_PROVENANCE_FLAGS, *_PROVENANCE_TEXTS, *_PROVENANCE_TIMES)
_NOT_NUMBERS = (*_POWER_MAPS, *_CARBON_TEXTS, *_PROVENANCE)


@dataclass(frozen=True)
class FeedFields:
    """The fields to read of a feed's records: column name to path in the record, by type."""

    numbers: dict[str, str]
    texts: dict[str, str]
    maps: dict[str, str]
    flags: dict[str, str]
    times: dict[str, str]

    @property
    def content(self) -> list[str]:
        return [*self.numbers, *self.texts, *self.maps, *self.flags, *self.times]

    def only(self, names: Collection[str]) -> FeedFields:
        parts = (self.numbers, self.texts, self.maps, self.flags, self.times)
        return FeedFields(*({name: path for name, path in part.items() if name in names} for part in parts))

    @property
    def schema(self) -> str:
        """The record as Spark DDL: these fields, and those that order records."""
        # Numbers are strings until `number` casts them, for the reason in transforms/numbers.py.
        types = dict.fromkeys(("datetime", "updatedAt", *self.times.values(), *self.texts.values()), "string")
        types |= dict.fromkeys(self.maps.values(), "map<string,string>")
        types |= dict.fromkeys(self.flags.values(), "boolean")
        nested: dict[str, list[str]] = {}
        for path in self.numbers.values():
            outer, _, inner = path.partition(".")
            if inner:
                nested.setdefault(outer, []).append(f"{inner}:string")
            else:
                types[outer] = "string"
        types |= {outer: f"struct<{','.join(inner)}>" for outer, inner in nested.items()}
        return ",".join(f"{name}:{type_}" for name, type_ in types.items())


POWER_FIELDS = FeedFields(_POWER_FIELDS, _PROVENANCE_TEXTS, _POWER_MAPS, _PROVENANCE_FLAGS, _PROVENANCE_TIMES)
CARBON_FIELDS = FeedFields(_CARBON_FIELDS, _CARBON_TEXTS | _PROVENANCE_TEXTS, {}, _PROVENANCE_FLAGS, _PROVENANCE_TIMES)

# Sort order of the records of one hour, from the oldest to the newest.
INGESTION_ORDER = ("ingested_at", "updated_at", "payload_sha256")

# Selects the records that silver shows, given a feed's records and the names of their content columns.
RecordSelector = Callable[[DataFrame, list[str]], DataFrame]


def _sorted_map(column: Column) -> Column:
    """Sorts the entries by neighbour: comparable on every engine and independent of the body's order."""
    entries = F.transform(
        F.map_entries(column), lambda entry: F.struct(entry.key.alias("key"), number(entry.value).alias("value"))
    )
    return F.array_sort(entries)


def _parsed(bronze: DataFrame, record: str, start: datetime, end: datetime) -> DataFrame:
    """One row per record of every body whose hour lies in [start, end) and was over at its ingestion."""
    text = with_long_numbers_as_strings(F.coalesce("trusted_json", "raw_json"))
    body = F.from_json(text, f"history array<struct<{record}>>, data array<struct<{record}>>")
    return (
        bronze.select("zone", "ingested_at", "payload_sha256", body.alias("body"))
        # posexplode: the position distinguishes two records of one hour in one body.
        .select(
            "zone",
            "ingested_at",
            "payload_sha256",
            F.posexplode(F.coalesce("body.history", "body.data")).alias("position", "record"),
        )
        .withColumn("datetime", F.to_timestamp("record.datetime"))
        .where(in_hours(start, end) & (F.col("datetime") + F.expr("INTERVAL 1 HOUR") <= F.col("ingested_at")))
    )


def _oldest_first() -> WindowSpec:
    # Partitions by zone only: a partition for every hour would cost an engine more than the rest of silver.
    return Window.partitionBy("zone").orderBy("datetime", *INGESTION_ORDER)


def drop_repeated_content(records: DataFrame, content: list[str]) -> DataFrame:
    """Drops records that repeat the content of the previous record of their (zone, datetime).

    If one response has several records of an hour, the one updated last wins, then the one with the higher
    position. Order of responses: `ingested_at`, the provider's `updated_at`, the payload's hash. Of consecutive
    ingestions with the same `content`, the first is kept.
    """
    response = ("datetime", "ingested_at", "payload_sha256")
    by_response = Window.partitionBy("zone").orderBy(*response, "updated_at", "position")
    # Sail converts many columns to rows one by one for a lag: one array of numbers takes a third of the time.
    numbers, others = ([name for name in content if (name in _NOT_NUMBERS) == wanted] for wanted in (False, True))
    compared = F.struct("datetime", F.array(*numbers).alias("numbers"), *others)
    is_changed = ~F.col("_content").eqNullSafe(F.lag("_content").over(_oldest_first()))
    repeated = [F.col(f"_next_{name}").eqNullSafe(F.col(name)) for name in response]
    return (
        records.select("*", *(F.lead(name).over(by_response).alias(f"_next_{name}") for name in response))
        .where(~reduce(and_, repeated))
        .withColumn("_content", compared)
        .withColumn("_is_changed", is_changed)
        .where("_is_changed")
    )


def latest_records(records: DataFrame, content: list[str]) -> DataFrame:
    """The last ingested record of each (zone, datetime); `ingested_at` is the first ingestion of its content."""
    return (
        drop_repeated_content(records, content)
        .withColumn("_next_hour", F.lead("datetime").over(_oldest_first()))
        .where(~F.col("_next_hour").eqNullSafe(F.col("datetime")))
        .select("zone", "datetime", "ingested_at", *content)
    )


def records(bronze: DataFrame, fields: FeedFields, start: datetime, end: datetime) -> DataFrame:
    """The records of every body whose hour lies in [start, end) and was over at its ingestion.

    Args:
        bronze: rows of a table of responses.
        fields: what to read of a record; the engine parses nothing else.
        start: first hour, UTC.
        end: end of the last hour, UTC.

    Returns:
        zone, datetime, ingested_at, payload_sha256, position (in the body), updated_at, and the fields.
    """
    return _parsed(bronze, fields.schema, start, end).select(
        "zone", "datetime", "ingested_at", "payload_sha256", "position", *content_of(fields)
    )


def content_of(fields: FeedFields) -> list[Column]:
    """The fields of the column `record`, and updated_at, which orders records."""
    times = {"updated_at": _PROVENANCE_TIMES["updated_at"]} | fields.times
    return [
        *(number(F.col(f"record.{source}")).alias(name) for name, source in fields.numbers.items()),
        *(F.col(f"record.{source}").alias(name) for name, source in (fields.texts | fields.flags).items()),
        *(_sorted_map(F.col(f"record.{source}")).alias(name) for name, source in fields.maps.items()),
        *(F.to_timestamp(f"record.{source}").alias(name) for name, source in times.items()),
    ]


def _provenance(feed: str) -> list[Column]:
    return [F.col(f"{feed}.{name}").alias(f"{name}_{feed}") for name in (*_PROVENANCE, "ingested_at")]


def energy_data(
    power: DataFrame,
    carbon: DataFrame,
    start: datetime,
    end: datetime,
    *,
    pick: RecordSelector = latest_records,
    more_keys: tuple[str, ...] = (),
) -> DataFrame:
    """The silver rows of [start, end), a pure function of all responses that contain their hours.

    Args:
        power: rows of bronze.power_data; all that overlap the window must be there.
        carbon: rows of bronze.carbon_data, likewise.
        start: first hour, UTC.
        end: end of the last hour, UTC.
        pick: selects the records of an hour to show; as-of reads show more than the latest.
        more_keys: key columns that `pick` adds to distinguish those.

    Returns:
        One row per (zone, datetime) that at least one feed delivered, as `tables.ENERGY_DATA`; with
        `more_keys` one per (zone, datetime, *more_keys), and these columns first.
    """
    power_rows = pick(records(power, POWER_FIELDS, start, end), POWER_FIELDS.content)
    carbon_rows = pick(records(carbon, CARBON_FIELDS, start, end), CARBON_FIELDS.content)
    power_side, carbon_side = power_rows.alias("power"), carbon_rows.alias("carbon")
    keys = {name: F.coalesce(f"power.{name}", f"carbon.{name}") for name in (*more_keys, "zone", "datetime")}
    joined = power_side.join(
        carbon_side, [F.col(f"power.{name}") == F.col(f"carbon.{name}") for name in keys], how="full_outer"
    )
    columns = {
        **keys,
        "year_month": F.date_format(keys["datetime"], "yyyy-MM"),
        **{name: F.map_from_entries(F.col(f"power.{name}")) for name in _POWER_MAPS},
    }
    return joined.select(
        *(column.alias(name) for name, column in columns.items()),
        *(F.col(f"power.{name}") for name in _POWER_FIELDS),
        *(F.col(f"carbon.{name}") for name in _CARBON_FIELDS | _CARBON_TEXTS),
        *_provenance("power"),
        *_provenance("carbon"),
    ).select(*more_keys, *ENERGY_DATA.column_names)
