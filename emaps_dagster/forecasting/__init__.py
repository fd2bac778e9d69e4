"""Training sets by issue time, and the same rows to serve: docs/forecasting.md explains names and meanings.

A row is (zone, issued_at, horizon). Its features are what was known at issued_at, computed from bronze by the
pipeline's own transforms; its target is the value of a later hour. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from emaps_dagster.contracts.errors import FeaturesError
from emaps_dagster.contracts.feature_query import delay_of, hours_between, moment_of
from emaps_dagster.contracts.forecast_plan import (
    CALENDAR,
    DEFAULT_HORIZONS,
    DEFAULT_LAGS,
    DEFAULT_MEANS,
    DEFAULT_TARGETS,
    Feature,
    forecast_plan,
    lag_hours,
)
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA
from emaps_dagster.features.reading import plain
from emaps_dagster.features.source import Source, in_utc
from emaps_dagster.forecasting.issue_splits import splits
from emaps_dagster.forecasting.issue_times import issue_times
from emaps_dagster.forecasting.known_hours import check_on_unknown, coverage_of
from emaps_dagster.forecasting.refusals import Request
from emaps_dagster.forecasting.rows import refuse_absent_zones
from emaps_dagster.forecasting.scoring import baselines, score
from emaps_dagster.forecasting.selection import select_rows
from emaps_dagster.forecasting.serving import DEFAULT_MAX_AGE, age_of, latest, target_time
from emaps_dagster.forecasting.training_sets import (
    KNOWN_IN_TIME,
    TrainingSet,
    all_null,
    index_of,
    inputs_of,
    naive_of,
    numbers_of,
)
from emaps_dagster.transforms.time_features import with_time_features
from emaps_dagster.transforms.training_rows import hours_table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = [
    "TrainingSet",
    "baselines",
    "calendar",
    "coverage",
    "lag_hours",
    "latest",
    "score",
    "splits",
    "target_time",
    "training_set",
]


def training_set(
    zones: str | Sequence[str],
    start: date | str,
    end: date | str,
    *,
    targets: str | Sequence[str] = DEFAULT_TARGETS,
    horizons: int | Iterable[int] = DEFAULT_HORIZONS,
    issue_every: str | timedelta = "1h",
    issue_at: str | Sequence[str] | None = None,
    known_at: str | timedelta = "15min",
    lags: Iterable[int] = DEFAULT_LAGS,
    means: Iterable[int] = DEFAULT_MEANS,
    columns: Sequence[str] | None = None,
    on_unknown: str = "raise",
    target_as_of: datetime | str | None = None,
    max_age: str | timedelta = DEFAULT_MAX_AGE,
    zone_category: bool = False,
    warehouse: str | Path | None = None,
    session: SparkSession | None = None,
    catalog: str | None = None,
) -> TrainingSet:
    """Inputs and targets of the forecasts issued in [start, end), one row per zone, issue time and horizon.

    Args:
        zones: a zone key, or several.
        start: first issue time at the earliest: a full UTC hour, aware or ISO 8601 with a zone, or a day.
        end: end of the issue times, likewise, exclusive.
        targets: the columns to forecast.
        horizons: hours from the origin, the last hour that is over, to the target hour; 1 is the running hour.
        issue_every: distance of the full hours after which forecasts are issued, such as "6h".
        issue_at: restricts them to hours of the day, UTC, such as "00:00", or several.
        known_at: from the full hour to its issue time. "15min": T = hour + 1 h + 15 min.
        lags: in hours before the target hour; see `lag_hours` for the lags that a horizon has.
        means: in hours up to the origin.
        columns: the columns of silver that features are made of; default the four totals and the carbon intensity.
            Also modes, such as "production_wind", flows, such as "import_BG", and the two percentages.
        on_unknown: for rows without a record known in time: "raise" an error, "drop" them, or compute them from all
            responses of today ("final"), with 0 in the added column known_in_time.
        target_as_of: the targets as known at this moment; default as stored in silver.
        max_age: age of the last known record at the origin up to which a row counts as known in time.
        zone_category: adds the column `zone` to X, as a category.
        warehouse: folder of the Delta tables; default `EMAPS_WAREHOUSE`.
        session: a Spark session of your own, on the JVM or on Databricks; default the embedded engine.
        catalog: the catalog of the tables in that session, if they lie in one.

    Returns:
        The training set; `fit(X, y)` of a model takes its X and y as they are.

    Raises:
        FeaturesError: an argument is invalid.
        NoFeaturesError: a table does not exist, or no row is left of a zone.
        PartialFeaturesError: rows are missing, or have no target.
        BackfilledFeaturesError: rows were not known in time, but backfilled later.
    """
    plan = forecast_plan(zones, columns=columns, targets=targets, horizons=horizons, lags=lags, means=means)
    if not plan.targets:
        raise FeaturesError("No target is given; give a column such as 'carbon_intensity', or several.")
    delay, oldest = delay_of(known_at), age_of(max_age)
    check_on_unknown(on_unknown)
    moments = issue_times(start, end, every=issue_every, at=issue_at, delay=delay)
    as_of = None if target_as_of is None else moment_of(target_as_of, "target_as_of")
    with Source(warehouse, session, catalog).open(POWER_DATA, CARBON_DATA, ENERGY_DATA) as lakehouse:
        rows = select_rows(Request(lakehouse, plan, moments, on_unknown, oldest, as_of))
    index = index_of(rows)
    left_out = all_null(rows, plan.features)
    features = [feature for feature in plan.features if feature.name not in left_out]
    inputs = inputs_of(rows, index, features, zone_category=plan.zones if zone_category else None)
    known = pd.Series(rows[KNOWN_IN_TIME].to_numpy(), index=index, name=KNOWN_IN_TIME)
    if on_unknown == "final":
        inputs[KNOWN_IN_TIME] = known.astype("int32")
    target_values = {
        name: pd.Series(numbers_of(rows[f"_target_{name}"]), index=index, name=name) for name in plan.targets
    }
    return TrainingSet(
        X=inputs,
        y=target_values[plan.targets[0]] if len(plan.targets) == 1 else pd.DataFrame(target_values),
        target_time=pd.Series(rows["target_time"].to_pandas().array, index=index, name="target_time"),
        known_in_time=known,
        columns_left_out=left_out,
        plan=plan,
        known_at=delay,
        max_age=oldest,
        naive=naive_of(rows, index, plan),
    )


def calendar(
    zones: str | Sequence[str], start: date | str, end: date | str, *, session: SparkSession | None = None
) -> pd.DataFrame:
    """Time features of the hours [start, end), which need not exist in any table, as X has them of the target hour.

    Args:
        zones: a zone key, or several.
        start: first hour, UTC; see `training_set`.
        end: end of the last hour.
        session: a Spark session of your own; default the embedded engine.

    Returns:
        int32 columns by zone and datetime; float64 with NaN where the time zone or the holidays of a zone are unknown.

    Raises:
        FeaturesError: an argument is invalid.
    """
    from emaps_dagster.lakehouse.arrow_memory import in_arrow_memory
    from emaps_dagster.lakehouse.spark_sessions import embedded_session

    plan = forecast_plan(zones, columns=(), targets=(), horizons=1, lags=(), means=())
    window = hours_between(start, end)
    table = hours_table(plan.zones, window)

    with embedded_session() if session is None else in_utc(session) as spark:
        collected = with_time_features(spark.createDataFrame(table), window.start, window.end).toArrow()
        rows = plain(in_arrow_memory(collected))
    rows = rows.sort_by([("zone", "ascending"), ("datetime", "ascending")])
    index = pd.MultiIndex.from_arrays(
        [rows["zone"].to_pandas().astype(object), rows["datetime"].to_pandas()], names=["zone", "datetime"]
    )
    return inputs_of(rows, index, [Feature(name, "", is_int=True) for name, _, _ in CALENDAR], zone_category=None)


def coverage(
    zones: str | Sequence[str],
    start: date | str,
    end: date | str,
    known_at: str | timedelta = "15min",
    *,
    warehouse: str | Path | None = None,
    session: SparkSession | None = None,
    catalog: str | None = None,
) -> pd.DataFrame:
    """When the hours [start, end) became known.

    Args:
        zones: a zone key, or several.
        start: first hour, UTC; see `training_set`.
        end: end of the last hour.
        known_at: from the end of an hour to the moment at which it should be known.
        warehouse: as in `training_set`, likewise session and catalog.
        session: see warehouse.
        catalog: see warehouse.

    Returns:
        A row per zone and datetime: `power` and `carbon` are "known" (in time), "late" (within 24 h after the end of
        the hour), "backfilled" (later) or "missing"; `status` is the worse of both. `ingested_at_power` and
        `ingested_at_carbon` are the times of the first response that holds the hour.

    Raises:
        FeaturesError: an argument is invalid.
        NoFeaturesError: a table does not exist, or bronze holds no response of a zone.
    """
    plan = forecast_plan(zones, columns=(), targets=(), horizons=1, lags=(), means=())
    window, delay = hours_between(start, end), delay_of(known_at)
    with Source(warehouse, session, catalog).open(POWER_DATA, CARBON_DATA) as lakehouse:
        refuse_absent_zones(lakehouse, plan.zones)
        return coverage_of(lakehouse, plan.zones, window, delay)
