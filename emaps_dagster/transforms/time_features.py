"""Time features of an hour: UTC and local calendar, weekend and public holidays, as columns."""

from __future__ import annotations

from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.zones import ZONES
from emaps_dagster.transforms.public_holidays import public_holidays


def _time_zone() -> Column:
    """The IANA time zone of the row's zone; null for a zone that `zones.py` does not list."""
    known = [F.lit(text) for zone in ZONES.values() for text in (zone.key, zone.time_zone)]
    return F.element_at(F.create_map(*known), F.col("zone"))


def _is_holiday(start: datetime, end: datetime) -> Column:
    # Local dates extend a day beyond the UTC window at both ends.
    first, last = (start - timedelta(days=1)).date(), (end + timedelta(days=1)).date()
    result = F.lit(None).cast("boolean")
    for zone in ZONES.values():
        listed = public_holidays(zone.country, range(first.year, last.year + 1))
        if listed is not None:
            # A plan costs an engine time for each literal: the days of the window only.
            days = [day for day in listed if first <= day <= last]
            is_listed = F.to_date("_local").isin(days) if days else F.lit(False)
            result = F.when(F.col("zone") == F.lit(zone.key), is_listed).otherwise(result)
    return result


def with_time_features(rows: DataFrame, start: datetime, end: datetime) -> DataFrame:
    """Adds the time features of `datetime` and `zone`; all hours lie in [start, end)."""
    features = time_features(start, end).items()
    return with_local_time(rows).select("*", *(column.alias(name) for name, column in features))


def with_local_time(rows: DataFrame) -> DataFrame:
    """Adds `_local`, the zone's wall clock at `datetime`."""
    return rows.select("*", local_time())


def local_time() -> Column:
    """The zone's wall clock at `datetime` as the column `_local`, which `time_features` reads."""
    return F.from_utc_timestamp("datetime", _time_zone()).alias("_local")


def time_features(start: datetime, end: datetime) -> dict[str, Column]:
    """The time features by name, of rows with `_local` whose hours lie in [start, end)."""
    return {
        "hour": F.hour("datetime"),
        "day_of_week": F.dayofweek("datetime"),
        "month": F.month("datetime"),
        "local_hour": F.hour("_local"),
        "local_day_of_week": F.dayofweek("_local"),
        "is_weekend": F.dayofweek("_local").isin(1, 7),
        "is_holiday": _is_holiday(start, end),
    }
