"""The rows of a training set: those known in time, with a target, and the errors about the others."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from emaps_dagster.forecasting.refusals import (
    Request,
    issues_of,
    lacks_target,
    refuse_unknown,
    refuse_without_rows,
    refuse_without_target,
)
from emaps_dagster.forecasting.rows import ROW_KEY, known_in_time, refuse_absent_zones, rows_of, targets_of
from emaps_dagster.forecasting.training_sets import KNOWN_IN_TIME


def select_rows(request: Request) -> pa.Table:
    """The rows of issue times, sorted, with `_target_<name>` and known_in_time; see `forecasting.training_set`."""
    lakehouse, plan, max_age = request.lakehouse, request.plan, request.max_age
    rows = rows_of(lakehouse, plan, [(zone, moment) for zone in plan.zones for moment in request.moments])
    targets = targets_of(lakehouse, plan, request.target_hours, request.target_as_of)
    rows = _with_targets(rows, targets)
    known = known_in_time(rows, plan, max_age)
    unknown = rows.filter(pc.invert(known))
    rows = rows.append_column(KNOWN_IN_TIME, known)
    if unknown.num_rows:
        refuse_absent_zones(lakehouse, plan.zones)
        rows = rows.filter(known)
        if request.on_unknown == "raise":
            refuse_unknown(request, rows, unknown)
        if request.on_unknown == "final":
            added = _with_targets(rows_of(lakehouse, plan, issues_of(unknown), final=True), targets)
            # A row without any record stays unknown.
            added = added.filter(known_in_time(added, plan, max_age))
            added = added.append_column(KNOWN_IN_TIME, pa.array([False] * added.num_rows, pa.bool_()))
            rows = pa.concat_tables([rows, added]).sort_by([(name, "ascending") for name in ROW_KEY])
    lacking = lacks_target(rows, plan)
    found = rows
    if pc.any(lacking).as_py():
        if request.on_unknown == "raise":
            refuse_without_target(request, rows, lacking)
        found = rows.filter(pc.invert(lacking))
    left = set(pc.unique(found["zone"]).to_pylist())
    refuse_without_rows(request, [zone for zone in plan.zones if zone not in left], rows, unknown)
    return found


def _with_targets(rows: pa.Table, targets: pa.Table) -> pa.Table:
    """Appends the targets of each row's zone and target hour; a join of the tables would copy the rows."""
    keys = ["zone", "target_time"]
    index = pd.MultiIndex.from_frame(targets.select(keys).to_pandas())
    places = index.get_indexer(pd.MultiIndex.from_frame(rows.select(keys).to_pandas()))
    found = pa.array(places, mask=places < 0)
    for name in targets.column_names[2:]:
        rows = rows.append_column(name, targets[name].combine_chunks().take(found))
    return rows
