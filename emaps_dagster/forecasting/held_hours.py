"""The issue times for which the tables hold rows, which the errors of a training set name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F

from emaps_dagster.contracts.forecast_plan import ForecastPlan
from emaps_dagster.contracts.tables import ENERGY_DATA, FEED_TABLES
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.features.reading import UTC, plain
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.transforms.training_rows import final_targets


def usable_issue_times(
    lakehouse: Lakehouse,
    plan: ForecastPlan,
    zones: Iterable[str],
    *,
    max_age: timedelta,
    target_as_of: datetime | None,
    final: bool,
) -> Window | None:
    """The range of issue times at whose bounds all zones have rows with a target; None if there is none.

    Args:
        lakehouse: the tables.
        plan: the features.
        zones: the zones to look at.
        max_age: as in `training_set`, likewise target_as_of.
        target_as_of: see max_age.
        final: the range of rows that are computed from all responses, not of those known in time.
    """
    asked = list(zones)
    hours = hours_with_target(lakehouse, plan, asked, target_as_of)
    if set(hours) != set(asked):
        return None
    start = max(window.start for window in hours.values()) + HOUR
    if not final:
        first = _first_in_time(lakehouse, plan, asked, max_age)
        if first is None:
            return None
        start = max(start, floor_hour(first + HOUR - timedelta(microseconds=1)))
    end = end_before(min(window.end for window in hours.values()), plan)
    return Window(start, end) if start < end else None


def hours_with_target(
    lakehouse: Lakehouse, plan: ForecastPlan, zones: Sequence[str], target_as_of: datetime | None
) -> dict[str, Window]:
    """From the first to the last hour of each zone that has a target; zones without one are left out."""
    silver = lakehouse.scan(ENERGY_DATA).where(F.col("zone").isin(*zones))
    targets = plain(lakehouse.collect(final_targets(silver, plan)))
    for name in plan.targets:
        targets = targets.filter(pc.is_valid(targets[f"_target_{name}"]))
    if target_as_of is not None:
        targets = targets.filter(pc.less(targets["target_time"], pa.scalar(floor_hour(target_as_of), UTC)))
    spans = targets.group_by("zone").aggregate([("target_time", "min"), ("target_time", "max")]).to_pylist()
    return {span["zone"]: Window(span["target_time_min"], span["target_time_max"] + HOUR) for span in spans}


def end_before(hour: datetime, plan: ForecastPlan) -> datetime:
    """The end of the issue times all of whose target hours lie before an hour."""
    return hour - (plan.horizons[-1] - 1) * HOUR


def _first_in_time(
    lakehouse: Lakehouse, plan: ForecastPlan, zones: Sequence[str], max_age: timedelta
) -> datetime | None:
    """When each feed of each zone had been received in time at least once; None if one never was."""
    first: list[datetime] = []
    oldest = F.expr(f"INTERVAL {max_age // HOUR + 1} HOURS")
    for feed in plan.feeds:
        of_feed: dict[str, datetime] = {}
        for table in FEED_TABLES[feed]:
            if not lakehouse.exists(table):
                continue
            in_time = (
                lakehouse.scan(table)
                .where(F.col("zone").isin(*zones))
                .where(F.col("window_end") + oldest >= F.col("ingested_at"))
                .groupBy("zone")
                .agg(F.min("ingested_at").alias("first"))
            )
            for row in plain(lakehouse.collect(in_time)).to_pylist():
                of_feed[row["zone"]] = min(row["first"], of_feed.get(row["zone"], row["first"]))
        if set(of_feed) != set(zones):
            return None
        first += of_feed.values()
    return max(first)
