"""Parses bodies of bronze to records, one row each; the columns of a power record."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.zones import MODE_KEYS, mode_column
from emaps_dagster.transforms.numbers import number, with_long_numbers_as_strings
from emaps_dagster.transforms.timestamps import in_hours

POWER_FIELDS: dict[str, str] = {
    **{
        f"{side}_{mode_column(key)}": f"power{side.title()}Breakdown.`{key}`"
        for side in ("production", "consumption")
        for key in MODE_KEYS
    },
    **{f"{what}_total": f"power{what.title()}Total" for what in ("production", "consumption", "import", "export")},
    "fossil_free_percentage": "fossilFreePercentage",
    "renewable_percentage": "renewablePercentage",
}
POWER_MAPS = {"import_by_zone": "powerImportBreakdown", "export_by_zone": "powerExportBreakdown"}
POWER_NUMBERS = tuple(POWER_FIELDS)


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


def parsed_records(bronze: DataFrame, record: str, start: datetime, end: datetime, *more: str) -> DataFrame:
    """One row per record of every body whose hour lies in [start, end) and was over at its ingestion.

    Args:
        bronze: responses.
        record: Spark DDL of a record's fields, numbers as strings.
        start: first hour, UTC.
        end: end of the last hour, UTC.
        more: further columns of the responses to keep.
    """
    text = with_long_numbers_as_strings(F.coalesce("trusted_json", "raw_json"))
    body = F.from_json(text, f"history array<struct<{record}>>, data array<struct<{record}>>")
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
