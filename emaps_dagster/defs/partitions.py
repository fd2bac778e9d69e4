"""Hourly UTC partitions from EMAPS_START: keys, and the hours of a run."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Protocol

import dagster as dg

from emaps_dagster.contracts.errors import PartitionError
from emaps_dagster.contracts.partition_keys import KEY_FORMAT, partition_key, refuse_hours_not_over
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour


def hourly_partitions(start: datetime) -> dg.HourlyPartitionsDefinition:
    return dg.HourlyPartitionsDefinition(start_date=start, timezone="UTC", fmt=KEY_FORMAT)


def partition_hour(key: str) -> datetime:
    """The UTC hour of a partition key.

    Raises:
        PartitionError: the key is no full UTC hour.
    """
    try:
        hour = datetime.strptime(key, KEY_FORMAT).replace(tzinfo=timezone.utc)
    except ValueError:
        hour = None
    if hour is None or hour != floor_hour(hour) or partition_key(hour) != key:
        near = partition_key(floor_hour(hour)) if hour else "2024-05-01-06:00"
        raise PartitionError(
            f"The partition {key!r} is no full UTC hour: give one such as {near}. Nothing was read or written."
        )
    return hour


class Partitioned(Protocol):
    """A Dagster context with the partitions of its run."""

    @property
    def partition_key_range(self) -> dg.PartitionKeyRange: ...


def run_window(context: Partitioned) -> Window:
    """The hours of this run: one partition or a range.

    The keys are parsed here because Dagster rounds a key that is no full hour up to the next hour.

    Raises:
        PartitionError: the run has no partition, a key is no full hour, or the range ends before it starts.
    """
    try:
        keys = context.partition_key_range
        first, last = partition_hour(keys.start), partition_hour(keys.end)
    except (dg.DagsterInvariantViolationError, KeyError):
        raise PartitionError(
            "The run names no hours: give it one partition (tag dagster/partition, such as 2024-05-01-06:00) or the "
            "first and the last of a range (dagster/asset_partition_range_start and ..._end). Nothing was read or "
            "written."
        ) from None
    if last < first:
        raise PartitionError(
            f"The range of partitions {keys.start} to {keys.end} ends before it starts: exchange them. Nothing was "
            "read or written."
        )
    return Window(first, last + HOUR)


def complete_window(context: Partitioned, partitions: dg.PartitionsDefinition[str], now: datetime) -> Window:
    """The hours of this run, checked to be materializable.

    Raises:
        PartitionError: as `run_window`; or the hours begin before EMAPS_START; or some are not over.
    """
    window = run_window(context)
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition) and window.start < partitions.start:
        first = partitions.start.astimezone(timezone.utc)
        raise PartitionError(
            f"The hours {window} begin before the first partition, {partition_key(first)} (EMAPS_START): begin there, "
            "or set EMAPS_START to an earlier hour. Nothing was read or written."
        )
    refuse_hours_not_over(window, now)
    return window


def hours_of(window: Window) -> dict[datetime, str]:
    """Every hour of the window with its partition key."""
    return {hour: partition_key(hour) for hour in window.hours()}


def nothing_over_yet(first: datetime, now: datetime) -> str | None:
    """The skip reason of schedule and sensors until the first partition is over; None from then on."""
    if floor_hour(now) > first:
        return None
    return (
        f"The first hour, {first:%Y-%m-%dT%H:%MZ}, is not over yet (EMAPS_START): there is nothing to do before "
        f"{first + HOUR:%Y-%m-%dT%H:%MZ}."
    )
