"""Partition keys of hours, the last complete hour, and the check that hours are over."""

from __future__ import annotations

from datetime import datetime, timezone

from emaps_dagster.contracts.errors import PartitionError
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour

KEY_FORMAT = "%Y-%m-%d-%H:%M"


def partition_key(hour: datetime) -> str:
    """The partition of a UTC hour."""
    return hour.astimezone(timezone.utc).strftime(KEY_FORMAT)


def refuse_hours_not_over(window: Window, now: datetime) -> None:
    """Reject hours that are not over: the provider has no data for them, and the run would succeed without rows.

    Raises:
        PartitionError: the last hours of the window are not over.
    """
    last = last_complete_hour(now)
    if window.end <= last + HOUR:
        return
    remedy = (
        f"End the range with {partition_key(last)}, or run it"
        if window.start <= last
        else "Take an earlier hour, or run this one"
    )
    raise PartitionError(
        f"The hours {window} are not all over: it is {now:%Y-%m-%dT%H:%MZ}, and the last complete hour is "
        f"{partition_key(last)}. {remedy} after {window.end:%Y-%m-%dT%H:%MZ}. Nothing was read or written."
    )


def last_complete_hour(now: datetime) -> datetime:
    """The hour before the running one."""
    return floor_hour(now) - HOUR
