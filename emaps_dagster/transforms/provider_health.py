"""Faults of the provider's values for the health report: the findings of silver's warning checks, grouped by cause.

One sentence for each zone and cause, with its hours as ranges; the check reports the finding of each hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.tables import FEED_VALUES
from emaps_dagster.transforms.quality.constant import stretches
from emaps_dagster.transforms.quality.factors import mixed_hours
from emaps_dagster.transforms.quality.neighbours import absent, reason, without_columns
from emaps_dagster.transforms.quality.plausibility import implausible
from emaps_dagster.transforms.quality.reported import unreported
from emaps_dagster.transforms.silver import energy_data

# Columns of silver that the sentences are computed from.
VALUE_COLUMNS = (
    *FEED_VALUES["power"],
    "import_total",
    "export_total",
    "import_by_zone",
    "export_by_zone",
    "fossil_free_percentage",
    "renewable_percentage",
    *FEED_VALUES["carbon"],
    "emission_factor_type",
)

Shown = Callable[[Iterable[datetime]], str]
Rows = Sequence[Mapping[str, Any]]


def reported_once(
    power: DataFrame, carbon: DataFrame, start: datetime, end: datetime, *, mix: DataFrame | None = None
) -> DataFrame:
    """Each hour of [start, end) with one value of every column that any ingestion reported; null where none did.

    Args: as `transforms.silver.energy_data`.
    """

    def some_value(records: DataFrame, content: list[str]) -> DataFrame:
        values = (F.first(name, ignorenulls=True).alias(name) for name in content)
        return records.groupBy("zone", "datetime").agg(F.max("ingested_at").alias("ingested_at"), *values)

    names = [name for of_feed in FEED_VALUES.values() for name in of_feed]
    return energy_data(power, carbon, start, end, mix=mix, pick=some_value).select("zone", "datetime", *names)


def sentences(zone: str, rows: Rows, once: Rows, zones: tuple[str, ...], shown: Shown) -> Iterator[str]:
    """Sentences about the faults in the values of a zone, with their remedies.

    Args:
        zone: the zone.
        rows: its silver rows with `VALUE_COLUMNS`, flow maps as dicts.
        once: its rows of `reported_once`; they may cover fewer hours.
        zones: the configured zones.
        shown: formats hours as ranges for Dagster's partition field.
    """
    yield from _nulls(zone, rows, once, shown)
    yield from _implausible(zone, rows, shown)
    for stretch in stretches(rows):
        yield (
            f"{zone}: {stretch}. Leave these hours out of training and tell the provider; materialize all layers for "
            "them once it has corrected them."
        )
    for (_, neighbour), hours in sorted(without_columns(rows, zones).items()):
        yield (
            f"{zone}: {_hours(hours)} with a flow of {neighbour} ({shown(hours)}), and gold has no column for it: "
            f"{reason(zone, absent(rows, zone, hours))}. Add it there, restart Dagster, and launch the job `rebuild` "
            "over all hours of gold."
        )
    if mixed := mixed_hours(rows):
        types = " and ".join(sorted(set().union(*mixed.values())))
        hours = tuple(sorted({row["datetime"] for row in rows} & {hour for _, hour in mixed}))
        yield (
            f"{zone}: the 24-hour mean of carbon_intensity mixes {types} in {_hours(hours)} ({shown(hours)}). Leave "
            "them out of training; gold's emission_factor_type has the type of each hour."
        )


def _nulls(zone: str, rows: Rows, once: Rows, shown: Shown) -> Iterator[str]:
    lost = dict(_replaced(rows, once))
    found: dict[str, list[datetime]] = defaultdict(list)
    for (_, hour), what in unreported(rows):
        found[what].append(hour)
    for what, hours in found.items():
        before = sum(hour in lost for hour in hours)
        had = f"; {before} of them had values before" if before else ""
        yield (
            f"{zone}: {what}, in {_hours(hours)} ({shown(hours)}){had}. Materialize all layers for them; if they stay "
            "null, the provider has no values: rolling_count_* in gold shows how many each mean has."
        )
    known = {hour for hours in found.values() for hour in hours}
    replaced = {hour: names for hour, names in lost.items() if hour not in known}
    if replaced:
        names = sorted(set().union(*replaced.values()))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield (
            f"{zone}: values of {_hours(replaced)} ({shown(replaced)}) were replaced by nulls: {', '.join(names[:3])}"
            f"{more}. bronze keeps the earlier responses; wait for the provider's revision."
        )


def _replaced(rows: Rows, once: Rows) -> Iterator[tuple[datetime, list[str]]]:
    """Hours with values that an earlier ingestion reported and that are null in silver."""
    reported = {row["datetime"]: row for row in once}
    for row in rows:
        earlier = reported.get(row["datetime"], {})
        if names := [name for name, value in earlier.items() if value is not None and row[name] is None]:
            yield row["datetime"], names


def _implausible(zone: str, rows: Rows, shown: Shown) -> Iterator[str]:
    wrong = {row["datetime"]: what for row in rows if (what := next(implausible(row), None))}
    if wrong:
        first = min(wrong)
        yield (
            f"{zone}: {_hours(wrong)} with values that cannot be ({shown(wrong)}), the first: {wrong[first]}. See the "
            "check values_are_plausible of silver for what to do."
        )


def _hours(hours: Iterable[datetime]) -> str:
    number = len(list(hours))
    return f"{number} hour{'s' * (number > 1)}"
