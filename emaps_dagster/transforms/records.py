"""Parses bodies of bronze to records, one row each; the fields that silver reads of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.zones import MODE_KEYS, mode_column
from emaps_dagster.transforms.numbers import number, parsed_exactly
from emaps_dagster.transforms.timestamps import in_hours

POWER_MAPS = {"import_by_zone": "powerImportBreakdown", "export_by_zone": "powerExportBreakdown"}
CARBON_TEXTS = {"emission_factor_type": "emissionFactorType"}
# Field by field the same for both feeds.
PROVENANCE_FLAGS = {"is_estimated": "isEstimated"}
PROVENANCE_TEXTS = {"estimation_method": "estimationMethod"}
PROVENANCE_TIMES = {"updated_at": "updatedAt", "created_at": "createdAt"}


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
        # Numbers are read as DOUBLE: a LONG schema turns 306.5 into null without an error.
        types = dict.fromkeys(("datetime", "updatedAt", *self.times.values(), *self.texts.values()), "string")
        types |= dict.fromkeys(self.maps.values(), "map<string,double>")
        types |= dict.fromkeys(self.flags.values(), "boolean")
        nested: dict[str, list[str]] = {}
        for path in self.numbers.values():
            outer, _, inner = path.partition(".")
            if inner:
                nested.setdefault(outer, []).append(f"{inner}:double")
            else:
                types[outer] = "double"
        types |= {outer: f"struct<{','.join(inner)}>" for outer, inner in nested.items()}
        return ",".join(f"{name}:{type_}" for name, type_ in types.items())


POWER_FIELDS = FeedFields(
    {
        **{
            f"{side}_{mode_column(key)}": f"power{side.title()}Breakdown.`{key}`"
            for side in ("production", "consumption")
            for key in MODE_KEYS
        },
        **{f"{what}_total": f"power{what.title()}Total" for what in ("production", "consumption", "import", "export")},
        "fossil_free_percentage": "fossilFreePercentage",
        "renewable_percentage": "renewablePercentage",
    },
    PROVENANCE_TEXTS,
    POWER_MAPS,
    PROVENANCE_FLAGS,
    PROVENANCE_TIMES,
)
POWER_NUMBERS = tuple(POWER_FIELDS.numbers)
CARBON_FIELDS = FeedFields(
    {"carbon_intensity": "carbonIntensity"}, CARBON_TEXTS | PROVENANCE_TEXTS, {}, PROVENANCE_FLAGS, PROVENANCE_TIMES
)


def source_of(source: Column) -> Column:
    """API, version and signal of a response; the endpoint, `history` or `past-range`, is left out."""
    # Sail's substring_index gives a string view, which the initial load cannot write.
    return F.array_join(F.slice(F.split(source, "/"), 1, 3), "/")


def sorted_map(column: Column) -> Column:
    """Sorts the entries by neighbour: comparable on every engine and independent of the body's order."""
    entries = F.transform(
        F.map_entries(column), lambda entry: F.struct(entry.key.alias("key"), number(entry.value).alias("value"))
    )
    return F.array_sort(entries)


def content_of(fields: FeedFields) -> list[Column]:
    """The fields of the column `record`, and updated_at, which orders records."""
    times = {"updated_at": PROVENANCE_TIMES["updated_at"]} | fields.times
    return [
        *(number(F.col(f"record.{source}")).alias(name) for name, source in fields.numbers.items()),
        *(F.col(f"record.{source}").alias(name) for name, source in (fields.texts | fields.flags).items()),
        *(sorted_map(F.col(f"record.{source}")).alias(name) for name, source in fields.maps.items()),
        *(F.to_timestamp(f"record.{source}").alias(name) for name, source in times.items()),
    ]


def parsed_records(bronze: DataFrame, record: str, start: datetime, end: datetime, *more: str) -> DataFrame:
    """One row per record of every body whose hour lies in [start, end) and was over at its ingestion.

    Args:
        bronze: responses.
        record: Spark DDL of a record's fields.
        start: first hour, UTC.
        end: end of the last hour, UTC.
        more: further columns of the responses to keep.
    """
    text = F.coalesce("trusted_json", "raw_json")
    body = parsed_exactly(text, f"struct<history:array<struct<{record}>>,data:array<struct<{record}>>>")
    return (
        bronze.select("zone", "ingested_at", "payload_sha256", *more, body.alias("body"))
        # posexplode: the position distinguishes two records of one hour in one body.
        .select(
            "zone",
            "ingested_at",
            "payload_sha256",
            *more,
            F.posexplode(F.coalesce("body.history", "body.data")).alias("position", "record"),
        )
        .withColumn("datetime", F.to_timestamp("record.datetime"))
        .where(in_hours(start, end) & (F.col("datetime") + F.expr("INTERVAL 1 HOUR") <= F.col("ingested_at")))
    )
