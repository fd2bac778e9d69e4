"""Bronze bodies to silver.energy_data: parse, flatten, keep the latest ingestion, join the feeds.

Fills no gaps and computes nothing from neighbouring hours, which gold does.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from emaps_dagster.contracts.tables import ENERGY_DATA, IS_SUPERSEDED, SOURCE_POWER
from emaps_dagster.transforms.mix import first_road_keeps_the_version, mix_records, with_superseded
from emaps_dagster.transforms.records import (
    CARBON_FIELDS,
    CARBON_TEXTS,
    POWER_FIELDS,
    POWER_MAPS,
    PROVENANCE_FLAGS,
    PROVENANCE_TEXTS,
    PROVENANCE_TIMES,
    FeedFields,
    content_of,
    parsed_records,
    source_of,
)

_NUMBERS = POWER_FIELDS.numbers.keys() | CARBON_FIELDS.numbers.keys()
# Field by field the same for both feeds; the feed's name is appended.
_PROVENANCE = (*PROVENANCE_FLAGS, *PROVENANCE_TEXTS, *PROVENANCE_TIMES)
_SOURCE = "source"

# Sort order of the records of one hour, from the oldest to the newest.
INGESTION_ORDER = ("ingested_at", "updated_at", "payload_sha256")

# Selects the records that silver shows, given a feed's records and the names of their content columns.
RecordSelector = Callable[[DataFrame, list[str]], DataFrame]


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
    numbers, others = ([name for name in content if (name in _NUMBERS) == wanted] for wanted in (True, False))
    # Another road, or a new version of the API, with the same content is no revision.
    compared = F.struct("datetime", F.array(*numbers).alias("numbers"), *(n for n in others if n != _SOURCE))
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


def _feed(bronze: DataFrame, fields: FeedFields, start: datetime, end: datetime, *lineage: str) -> DataFrame:
    """The records of a feed's bodies, with the columns of the response that `lineage` names."""
    return parsed_records(bronze, fields.schema, start, end, *lineage).select(
        "zone", "datetime", "ingested_at", "payload_sha256", "position", *lineage, *content_of(fields)
    )


def power_records(power: DataFrame, mix: DataFrame | None, start: datetime, end: datetime) -> DataFrame:
    """The power records of both roads whose hour lies in [start, end), with all of `POWER_FIELDS`.

    Args: as `energy_data`.

    Returns:
        zone, datetime, ingested_at, payload_sha256, position (in the body), source and the fields.
    """
    records = _feed(power, POWER_FIELDS, start, end, _SOURCE)
    records = records.withColumn(_SOURCE, source_of(F.col(_SOURCE)))
    return records if mix is None else first_road_keeps_the_version(records, mix_records(mix, start, end))


def _provenance(feed: str) -> list[Column]:
    return [F.col(f"{feed}.{name}").alias(f"{name}_{feed}") for name in (*_PROVENANCE, "ingested_at")]


def energy_data(
    power: DataFrame,
    carbon: DataFrame,
    start: datetime,
    end: datetime,
    *,
    mix: DataFrame | None = None,
    pick: RecordSelector = latest_records,
    more_keys: tuple[str, ...] = (),
) -> DataFrame:
    """The silver rows of [start, end), a pure function of all responses that contain their hours.

    Args:
        power: rows of bronze.power_data; all that overlap the window must be there.
        carbon: rows of bronze.carbon_data, likewise.
        start: first hour, UTC.
        end: end of the last hour, UTC.
        mix: rows of bronze.mix_data, likewise; None without the table.
        pick: selects the records of an hour to show; as-of reads show more than the latest.
        more_keys: key columns that `pick` adds to distinguish those.

    Returns:
        One row per (zone, datetime) that at least one feed delivered, as `tables.ENERGY_DATA`; with
        `more_keys` one per (zone, datetime, *more_keys), and these columns first.
    """
    power_rows = pick(power_records(power, mix, start, end), [*POWER_FIELDS.content, _SOURCE])
    carbon_rows = pick(_feed(carbon, CARBON_FIELDS, start, end), CARBON_FIELDS.content)
    power_side, carbon_side = power_rows.alias("power"), carbon_rows.alias("carbon")
    keys = {name: F.coalesce(f"power.{name}", f"carbon.{name}") for name in (*more_keys, "zone", "datetime")}
    joined = power_side.join(
        carbon_side, [F.col(f"power.{name}") == F.col(f"carbon.{name}") for name in keys], how="full_outer"
    )
    columns = {
        **keys,
        "year_month": F.date_format(keys["datetime"], "yyyy-MM"),
        **{name: F.map_from_entries(F.col(f"power.{name}")) for name in POWER_MAPS},
    }
    rows = joined.select(
        *(column.alias(name) for name, column in columns.items()),
        *(F.col(f"power.{name}") for name in POWER_FIELDS.numbers),
        *(F.col(f"carbon.{name}") for name in CARBON_FIELDS.numbers | CARBON_TEXTS),
        *_provenance("power"),
        F.col(f"power.{_SOURCE}").alias(SOURCE_POWER.name),
        *_provenance("carbon"),
    )
    if mix is None:
        flagged = rows.withColumn(IS_SUPERSEDED.name, F.lit(None).cast("boolean"))
    else:
        flagged = with_superseded(rows, mix, start, end)
    return flagged.select(*more_keys, *ENERGY_DATA.column_names)
