"""The rows of a training set: those known in time, with a target, and the errors about the others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from emaps_dagster.contracts.forecast_plan import ForecastPlan
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.forecasting.known_hours import refuse_unknown, refuse_without_rows, refuse_without_target
from emaps_dagster.forecasting.rows import ROW_KEY, Issue, known_in_time, refuse_absent_zones, rows_of, targets_of
from emaps_dagster.forecasting.training_sets import KNOWN_IN_TIME
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.transforms.training_rows import origin_of


def select_rows(
    lakehouse: Lakehouse,
    plan: ForecastPlan,
    moments: Sequence[datetime],
    *,
    on_unknown: str,
    max_age: timedelta,
    target_as_of: datetime | None,
) -> pa.Table:
    """The rows of issue times, sorted, with `_target_<name>` and known_in_time; see `forecasting.training_set`."""
    rows = rows_of(lakehouse, plan, [(zone, moment) for zone in plan.zones for moment in moments])
    known = known_in_time(rows, plan, max_age)
    unknown = _issues(rows.filter(pc.invert(known)))
    rows = rows.append_column(KNOWN_IN_TIME, known)
    if unknown:
        refuse_absent_zones(lakehouse, plan.zones)
        if on_unknown == "raise":
            refuse_unknown(lakehouse, unknown, plan, of=rows.num_rows, max_age=max_age)
        rows = rows.filter(known)
        if on_unknown == "final":
            added = rows_of(lakehouse, plan, unknown, final=True)
            # A row without any record stays unknown.
            added = added.filter(known_in_time(added, plan, max_age))
            added = added.append_column(KNOWN_IN_TIME, pa.array([False] * added.num_rows, pa.bool_()))
            rows = pa.concat_tables([rows, added]).sort_by([(name, "ascending") for name in ROW_KEY])
    hours = Window(
        origin_of(moments[0]) + plan.horizons[0] * HOUR, origin_of(moments[-1]) + (plan.horizons[-1] + 1) * HOUR
    )
    rows = _with_targets(rows, targets_of(lakehouse, plan, hours, target_as_of))
    lacking = _lacks_target(rows, plan)
    if pc.any(lacking).as_py():
        if on_unknown == "raise":
            refuse_without_target(rows.filter(lacking), of=rows.num_rows)
        rows = rows.filter(pc.invert(lacking))
    left = set(pc.unique(rows["zone"]).to_pylist())
    refuse_without_rows([zone for zone in plan.zones if zone not in left], hours)
    return rows


def _with_targets(rows: pa.Table, targets: pa.Table) -> pa.Table:
    """Appends the targets of each row's zone and target hour; a join of the tables would copy the rows."""
    keys = ["zone", "target_time"]
    index = pd.MultiIndex.from_frame(targets.select(keys).to_pandas())
    places = index.get_indexer(pd.MultiIndex.from_frame(rows.select(keys).to_pandas()))
    found = pa.array(places, mask=places < 0)
    for name in targets.column_names[2:]:
        rows = rows.append_column(name, targets[name].combine_chunks().take(found))
    return rows


def _issues(rows: pa.Table) -> list[Issue]:
    distinct = rows.group_by(["zone", "issued_at"]).aggregate([])
    return sorted(zip(distinct["zone"].to_pylist(), distinct["issued_at"].to_pylist(), strict=True))


def _lacks_target(rows: pa.Table, plan: ForecastPlan) -> pa.ChunkedArray:
    lacks = pc.is_null(rows[f"_target_{plan.targets[0]}"])
    for name in plan.targets[1:]:
        lacks = pc.or_(lacks, pc.is_null(rows[f"_target_{name}"]))
    return lacks
