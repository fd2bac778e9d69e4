"""The records of bronze bodies, each distinct one parsed once.

/history carries an hour in 24 hourly responses, mostly with the same words, and to parse them all is most of the cost
of looking into the past. A body in the API's own form is split into the texts of its records, which JSON allows here
without parsing; equal texts are parsed together. Any other body is parsed whole, with the same result.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from emaps_dagster.transforms.numbers import parsed_exactly
from emaps_dagster.transforms.records import FeedFields, content_of
from emaps_dagster.transforms.timestamps import in_hours

# A body that can be split: one array and no other bracket, not even in a string, its records compact objects that begin
# with their zone. In a valid body _BETWEEN is then between two records and nowhere else: inside a string its first
# quote would end the string, and `zone` cannot follow.
_OPENING = r'^\{"zone":"[A-Za-z0-9-]+","(history|data)":\[\{"zone":"'
_LAST, _CLOSING = "}", r'^(,"temporalGranularity":"[a-z0-9_]*")?\}$'
_BEGIN, _BETWEEN, _END = '[{"zone":"', r'\},\{"zone":"', "}]"
# What makes a body of one record of its text.
_BEFORE, _AFTER = '{"history":[{"zone":"', "}]}"
# Microseconds since 1970 have 16 until 2286.
_DIGITS = 20


def ingestions() -> Column:
    """Aggregate: every ingestion of a record's text, as an array of (ingested_at, payload_sha256, place)."""
    return F.collect_list(F.struct("ingested_at", "payload_sha256", "place"))


def last_ingestion() -> Column:
    """Aggregate: the last ingestion of a record's text, as (ingested_at, payload_sha256, place)."""
    # The maximum of a text: Sail compares structs one by one, which costs more than the rest of the grouping. A blank
    # comes before all digits and letters.
    moment, place = (
        F.lpad(number.cast("string"), _DIGITS, "0") for number in (F.unix_micros("ingested_at"), F.col("place"))
    )
    last = F.max(F.concat_ws(" ", moment, "payload_sha256", place))
    ingested_at, sha256, at = (F.split_part(last, F.lit(" "), F.lit(number)) for number in (1, 2, 3))
    return F.struct(
        F.timestamp_micros(ingested_at.cast("bigint")).alias("ingested_at"),
        sha256.alias("payload_sha256"),
        at.cast("int").alias("place"),
    )


def is_splittable(body: Column) -> Column:
    """Whether a body is one array of compact records, without any other bracket; a search for these is cheap."""

    # A pattern for the whole body would cost as much as all else until the records are parsed.
    def occurs_once(bracket: str) -> Column:
        outside = (F.octet_length(F.substring_index(body, bracket, side)) for side in (1, -1))
        return sum(outside, F.lit(1)) == F.octet_length(body)

    return (
        body.rlike(_OPENING)
        & occurs_once("[")
        & occurs_once("]")
        & F.substring_index(body, "]", 1).endswith(_LAST)
        & F.substring_index(body, "]", -1).rlike(_CLOSING)
    )


def distinct_records(
    bronze: DataFrame, fields: FeedFields, start: datetime, end: datetime, ingested: Column
) -> DataFrame:
    """The records whose hour lies in [start, end), each text of a zone once.

    Args:
        bronze: rows of a table of responses.
        fields: what to read of a record; the engine parses nothing else.
        start: first hour, UTC.
        end: end of the last hour, UTC.
        ingested: `ingestions()` or `last_ingestion()`.

    Returns:
        zone, datetime, updated_at, ingested, number (of the record in its text; its position in the response is the
        ingestion's place plus this), and the fields.
    """
    body = F.coalesce("trusted_json", "raw_json")
    # The cast: Sail's split does not take the type of substring_index.
    listed = F.substring_index(F.substring_index(body, _BEGIN, -1), _END, 1).cast("string")
    texts = F.when(is_splittable(body), F.split(listed, _BETWEEN)).otherwise(F.array(body))
    # The text of a record begins with the key of its zone, a body does not.
    is_record = F.substring("text", 1, 1).rlike("[A-Za-z0-9-]")
    text = F.when(is_record, F.concat(F.lit(_BEFORE), "text", F.lit(_AFTER))).otherwise(F.col("text"))
    parsed = parsed_exactly(text, f"struct<history:array<struct<{fields.schema}>>,data:array<struct<{fields.schema}>>>")
    return (
        bronze.select(
            "zone",
            "ingested_at",
            "payload_sha256",
            F.posexplode(texts).alias("place", "text"),
        )
        .groupBy(F.col("zone"), F.col("text"))
        .agg(ingested.alias("ingested"))
        .select("zone", "ingested", parsed.alias("body"))
        .select("zone", "ingested", F.posexplode(F.coalesce("body.history", "body.data")).alias("number", "record"))
        .withColumn("datetime", F.to_timestamp("record.datetime"))
        .where(in_hours(start, end))
        .select("zone", "datetime", "ingested", "number", *content_of(fields))
    )
