"""When a row belongs to which partition: hourly, UTC, from EMAPS_START."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Protocol

import dagster as dg

from emaps_dagster.windows import HOUR, Window, floor_hour

KEY_FORMAT = "%Y-%m-%d-%H:%M"


def hourly_partitions(start: datetime) -> dg.HourlyPartitionsDefinition:
    return dg.HourlyPartitionsDefinition(start_date=start, timezone="UTC", fmt=KEY_FORMAT)


def partition_key(hour: datetime) -> str:
    """The partition of a UTC hour."""
    return hour.astimezone(timezone.utc).strftime(KEY_FORMAT)


def partition_hour(key: str) -> datetime:
    """The UTC hour of a partition key."""
    return datetime.strptime(key, KEY_FORMAT).replace(tzinfo=timezone.utc)


class Partitioned(Protocol):
    """Any of Dagster's contexts that knows the partitions of its run."""

    @property
    def partition_time_window(self) -> dg.TimeWindow: ...


def run_window(context: Partitioned) -> Window:
    """The hours of this run: one partition or a range, the same code."""
    window = context.partition_time_window
    return Window(window.start.astimezone(timezone.utc), window.end.astimezone(timezone.utc))


def hours_of(window: Window) -> dict[datetime, str]:
    """Every hour of the window with its partition key."""
    return {hour: partition_key(hour) for hour in window.hours()}


def last_complete_hour(now: datetime) -> datetime:
    return floor_hour(now) - HOUR
