"""Rebuilds silver and gold of a range from bronze alone."""

from datetime import datetime, timedelta, timezone

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.errors import LakehouseError
from emaps_dagster.contracts.feature_query import hours_between
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, RESPONSE_TABLES, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, gold_context, rebuilt_gold, rebuilt_silver
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.reports import RebuildReport
from emaps_dagster.pipeline.silver import silver_from_bronze
from emaps_dagster.transforms.gold import features
from emaps_dagster.transforms.timestamps import in_hours

FIRST, LAST = "first", "last"


def hours_to_rebuild(lakehouse: Lakehouse, zones: tuple[str, ...], start: str = FIRST, end: str = LAST) -> Window:
    """Parse the hours [start, end); `first` and `last` are the bounds of the stored hours.

    Raises:
        LakehouseError: no table holds an hour.
        FeaturesError: the bounds are no full hours, or the end is not after the start.
    """
    if start != FIRST and end != LAST:
        return hours_between(start, end)
    held = _held(lakehouse, zones)
    start = f"{held.start:%Y-%m-%dT%H:%MZ}" if start == FIRST else start
    end = f"{held.end:%Y-%m-%dT%H:%MZ}" if end == LAST else end
    return hours_between(start, end)


def rebuild_silver(lakehouse: Lakehouse, hours: Window, *, dry_run: bool = False) -> RebuildReport:
    """Rebuild silver from bronze for the hours, and for the 23 before them that gold's features read."""
    for bronze in (POWER_DATA, CARBON_DATA):
        if not lakehouse.exists(bronze):
            raise LakehouseError(
                f"{bronze.qualified_name} does not exist at {lakehouse.location(bronze)}: there is nothing to rebuild "
                "from. Check EMAPS_WAREHOUSE, or restore bronze; nothing was changed."
            )
    return lakehouse.rebuild(
        ENERGY_DATA, rebuilt_silver(hours), lambda part: silver_from_bronze(lakehouse, part), dry_run=dry_run
    )


def rebuild_gold(
    lakehouse: Lakehouse, zones: tuple[str, ...], hours: Window, *, dry_run: bool = False
) -> RebuildReport:
    """Rebuild gold from silver as `rebuild_silver` of the same hours leaves it, also in a dry run."""
    silver = rebuilt_silver(hours)
    # After a change of the contract silver is rebuilt over all hours or not at all: no row is kept.
    is_kept = lakehouse.exists(ENERGY_DATA) and not lakehouse.schema_differences(ENERGY_DATA)

    def compute(part: Window) -> DataFrame:
        context = gold_context(part)
        inside = Window(max(context.start, silver.start), min(context.end, silver.end))
        rows = silver_from_bronze(lakehouse, inside)
        if is_kept and inside != context:
            outside = ~in_hours(silver.start, silver.end)
            rows = rows.unionByName(lakehouse.scan_hours(ENERGY_DATA, context).where(outside))
        return features(rows, zones, part.start, part.end)

    return lakehouse.rebuild(ml_features(zones), rebuilt_gold(hours), compute, dry_run=dry_run)


def _held(lakehouse: Lakehouse, zones: tuple[str, ...]) -> Window:
    """The span from the first to the last hour that bronze, silver or gold holds."""
    bounds: list[datetime] = []
    for bronze in RESPONSE_TABLES:
        if lakehouse.exists(bronze):
            row = lakehouse.collect(lakehouse.scan(bronze).agg(F.min("window_start"), F.max("window_end"))).to_pylist()[
                0
            ]
            bounds += [moment.astimezone(timezone.utc) for moment in row.values() if moment is not None]
    for table in (ENERGY_DATA, ml_features(zones)):
        span = lakehouse.span(table) if lakehouse.exists(table) else None
        bounds += [span.start, span.end] if span else []
    if not bounds:
        raise LakehouseError("No table holds an hour yet: there is nothing to rebuild. Materialize some hours first.")
    return Window(floor_hour(min(bounds)), floor_hour(max(bounds) - timedelta(microseconds=1)) + HOUR)
