"""Timestamp literals and conditions that need no round trip to the engine."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from pyspark.sql import Column
from pyspark.sql import functions as F

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def instant(moment: datetime) -> Column:
    """An aware moment as a TIMESTAMP literal, which engines fold into a constant before they read.

    `lit` of a datetime requests a setting from the Connect server each time; a tick has 37 of them.
    """
    return F.timestamp_micros(F.lit((moment - _EPOCH) // timedelta(microseconds=1)))


def in_hours(start: datetime, end: datetime) -> Column:
    """Whether a row's `datetime` lies in [start, end)."""
    return (F.col("datetime") >= instant(start)) & (F.col("datetime") < instant(end))
