"""Computes forecasting rows and targets from the tables, month by month, as Arrow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F

from emaps_dagster.contracts.errors import NoFeaturesError
from emaps_dagster.contracts.feature_query import other_zone
from emaps_dagster.contracts.forecast_plan import ForecastPlan
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import ENERGY_DATA, POWER_DATA, RESPONSE_TABLES
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.features.parts import two_at_a_time
from emaps_dagster.features.reading import plain
from emaps_dagster.features.responses import responses_of
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.transforms.silver import energy_data
from emaps_dagster.transforms.training_rows import final_targets, issues_table, origin_of, training_rows

ROW_KEY = ("zone", "issued_at", "horizon")
# A zone and an issue time.
Issue = tuple[str, datetime]


def rows_of(lakehouse: Lakehouse, plan: ForecastPlan, issues: Iterable[Issue], *, final: bool = False) -> pa.Table:
    """The rows of issue times, as `transforms.training_rows`, sorted by their key.

    Args:
        lakehouse: the tables.
        plan: the features.
        issues: zones of the plan and issue times.
        final: computes each row from all responses of today, not from those known at its issue time.
    """
    by_month: dict[tuple[int, int], list[Issue]] = defaultdict(list)
    for zone, at in issues:
        by_month[at.year, at.month].append((zone, at))

    def of(month: tuple[int, int]) -> pa.Table:
        return _month(lakehouse, plan, sorted(by_month[month]), final=final)

    # By months: the memory of a long range is bounded.
    parts = list(two_at_a_time(of, sorted(by_month)))
    # Slices of sorted months: sorting the whole would copy it.
    return pa.concat_tables([_of_zone(part, zone) for zone in sorted(plan.zones) for part in parts])


def _of_zone(rows: pa.Table, zone: str) -> pa.Table:
    """The rows of a zone, given rows sorted by zone."""
    start = pc.index(rows["zone"], zone).as_py()
    return rows.slice(max(start, 0), pc.sum(pc.equal(rows["zone"], zone)).as_py() or 0)


def _month(lakehouse: Lakehouse, plan: ForecastPlan, issues: Sequence[Issue], *, final: bool) -> pa.Table:
    moments = [at for _, at in issues]
    origins = Window(origin_of(min(moments)), origin_of(max(moments)) + HOUR)
    hours = origins.widen(timedelta(hours=plan.lookback - 1), timedelta(0))
    zones = sorted({zone for zone, _ in issues})
    power, carbon, mix = responses_of(lakehouse, zones, hours, None if final else max(moments))
    table = lakehouse.spark.createDataFrame(issues_table(issues))
    rows = plain(lakehouse.collect(training_rows(power, carbon, table, origins, plan, mix=mix, final=final)))
    return rows.sort_by([(name, "ascending") for name in ROW_KEY])


def targets_of(lakehouse: Lakehouse, plan: ForecastPlan, hours: Window, as_of: datetime | None) -> pa.Table:
    """The targets of some hours as stored in silver, or as known at a moment: zone, target_time, `_target_<name>`."""
    parts = []
    for part in hours.by_month():
        if as_of is None:
            silver = lakehouse.scan_hours(ENERGY_DATA, part).where(F.col("zone").isin(*plan.zones))
        else:
            power, carbon, mix = responses_of(lakehouse, plan.zones, part, as_of)
            silver = energy_data(power, carbon, part.start, part.end, mix=mix)
        parts.append(plain(lakehouse.collect(final_targets(silver, plan))))
    return pa.concat_tables(parts)


def known_in_time(rows: pa.Table, plan: ForecastPlan, max_age: timedelta) -> pa.ChunkedArray:
    """Whether a row's last known record of each feed that it reads lies at most `max_age` before its origin."""
    oldest = max_age // HOUR
    known: pa.ChunkedArray | None = None
    for feed in plan.feeds:
        of_feed = pc.fill_null(pc.less_equal(rows[f"_age_{feed}"], oldest), False)
        known = of_feed if known is None else pc.and_(known, of_feed)
    assert known is not None
    return known


def refuse_absent_zones(lakehouse: Lakehouse, zones: Iterable[str]) -> None:
    """Raises if bronze holds no response of a zone at all."""
    tables = [table for table in RESPONSE_TABLES if lakehouse.exists(table)]
    held = sorted({zone for table in tables for zone in _zones(lakehouse, table)})
    for zone in zones:
        if zone not in held:
            where = lakehouse.location(POWER_DATA)
            listed = ", ".join(held) or "none at all"
            raise NoFeaturesError(
                f"Bronze ({where}) holds no response of zone {zone}; it holds {listed}." + other_zone(zone, held)
            )


def _zones(lakehouse: Lakehouse, table: Table) -> list[str]:
    found = lakehouse.collect(lakehouse.scan(table).select("zone").distinct())
    return [str(zone) for zone in found["zone"].to_pylist()]
