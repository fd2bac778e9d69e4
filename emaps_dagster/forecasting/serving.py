"""The rows of now, or of one moment, to forecast with: the columns of a training set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from emaps_dagster.contracts.errors import FeaturesError, StaleFeaturesError
from emaps_dagster.contracts.feature_query import duration_of, moment_of
from emaps_dagster.contracts.forecast_plan import (
    DEFAULT_HORIZONS,
    DEFAULT_LAGS,
    DEFAULT_MEANS,
    ForecastPlan,
    forecast_plan,
)
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA
from emaps_dagster.contracts.windows import HOUR, utc_now
from emaps_dagster.features.source import Source
from emaps_dagster.forecasting.rows import refuse_absent_zones, rows_of
from emaps_dagster.forecasting.training_sets import KNOWN_IN_TIME, TrainingSet, index_of, inputs_of
from emaps_dagster.transforms.training_rows import origin_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DEFAULT_MAX_AGE = "2h"


def latest(
    zones: str | Sequence[str],
    *,
    like: TrainingSet | None = None,
    horizons: int | Iterable[int] | None = None,
    at: datetime | str | None = None,
    max_age: str | timedelta | None = None,
    columns: Sequence[str] | None = None,
    lags: Iterable[int] | None = None,
    means: Iterable[int] | None = None,
    warehouse: str | Path | None = None,
    session: SparkSession | None = None,
    catalog: str | None = None,
) -> pd.DataFrame:
    """The features known now: the rows that `training_set` has for this issue time, bit for bit.

    Args:
        zones: a zone key, or several; with `like` zones of that set.
        like: a training set: the same columns in the same order and types. It decides columns, lags and means.
        horizons: default those of `like`, else 1 to 24.
        at: the issue time, aware or ISO 8601 with a zone; default now. Responses ingested later do not count.
        max_age: age of a zone's last known record at the origin up to which it can be used; default that of `like`,
            else "2h".
        columns: as in `training_set`, likewise lags and means; all features are returned, also null ones.
        lags: see columns.
        means: see columns.
        warehouse: as in `training_set`, likewise session and catalog.
        session: see warehouse.
        catalog: see warehouse.

    Returns:
        X by zone, issued_at and horizon, sorted.

    Raises:
        FeaturesError: an argument is invalid.
        StaleFeaturesError: the last record of a zone is older than `max_age`.
        NoFeaturesError: a table or a zone does not exist.
    """
    plan, asked = _plan(zones, like, horizons, columns, lags, means)
    oldest = age_of(max_age if max_age is not None else like.max_age if like else DEFAULT_MAX_AGE)
    moment = utc_now() if at is None else moment_of(at, "at")
    with Source(warehouse, session, catalog).open(POWER_DATA, CARBON_DATA) as lakehouse:
        rows = rows_of(lakehouse, plan, [(zone, moment) for zone in asked])
        stale = _stale(rows, plan, oldest)
        if stale:
            refuse_absent_zones(lakehouse, asked)
    for zone, feed, age in stale:
        _refuse_stale(zone, feed, age, moment, oldest)
    return _inputs(rows, plan, like)


def age_of(value: object) -> timedelta:
    """The argument `max_age`.

    Raises:
        FeaturesError: it is no duration of 0 to 6 days.
    """
    age = duration_of(value)
    if age is None or not timedelta(0) <= age <= timedelta(days=6):
        raise FeaturesError(
            f"max_age is {value!r}; give a timedelta or a number with its unit, such as '2h', 6d at most."
        )
    return age


def _plan(
    zones: str | Sequence[str],
    like: TrainingSet | None,
    horizons: int | Iterable[int] | None,
    columns: Sequence[str] | None,
    lags: Iterable[int] | None,
    means: Iterable[int] | None,
) -> tuple[ForecastPlan, tuple[str, ...]]:
    """The features, and the zones whose rows are wanted."""
    if like is None:
        plan = forecast_plan(
            zones,
            columns=columns,
            targets=(),
            horizons=DEFAULT_HORIZONS if horizons is None else horizons,
            lags=DEFAULT_LAGS if lags is None else lags,
            means=DEFAULT_MEANS if means is None else means,
        )
        return plan, plan.zones
    if columns is not None or lags is not None or means is not None:
        raise FeaturesError("like decides columns, lags and means; leave them out, or leave out like.")
    plan = forecast_plan(
        like.plan.zones,
        columns=like.plan.columns,
        targets=like.plan.targets,
        horizons=like.plan.horizons if horizons is None else horizons,
        lags=like.plan.lags,
        means=like.plan.means,
    )
    if unknown := sorted(set(plan.horizons) - set(like.plan.horizons)):
        raise FeaturesError(f"horizons holds {unknown[0]}, which the training set does not have.")
    asked = (zones,) if isinstance(zones, str) else tuple(dict.fromkeys(zones))
    for zone in asked:
        if zone not in plan.zones:
            raise FeaturesError(f"Zone {zone} is not in the training set, which has {', '.join(plan.zones)}.")
    if not asked:
        raise FeaturesError("No zone is given; give a zone key such as 'GR', or several.")
    return plan, asked


def _stale(rows: pa.Table, plan: ForecastPlan, oldest: timedelta) -> list[tuple[str, str, int | None]]:
    """Zones with a feed whose last known record is too old: zone, feed, and its age in hours, None without any."""
    found: dict[tuple[str, str], int | None] = {}
    for feed in plan.feeds:
        for zone, age in zip(rows["zone"].to_pylist(), rows[f"_age_{feed}"].to_pylist(), strict=True):
            if age is None or age > oldest // HOUR:
                found[zone, feed] = age
    return [(zone, feed, age) for (zone, feed), age in found.items()]


def _refuse_stale(zone: str, feed: str, age: int | None, moment: datetime, oldest: timedelta) -> None:
    origin = origin_of(moment)
    what = (
        f"no {feed} record of the week before" if age is None else f"as the last {feed} record that of {age} h before"
    )
    first = origin if age is None else origin - (age - 1) * HOUR
    raise StaleFeaturesError(
        f"At {moment:%Y-%m-%dT%H:%M:%SZ} zone {zone} has {what} the origin {origin:%Y-%m-%dT%H:%MZ}; max_age is "
        f"{oldest // HOUR} h. Run `emaps hours {first:%Y-%m-%dT%H:%MZ} {origin + HOUR:%Y-%m-%dT%H:%MZ}`"
        + (" and its past, " if age is None else ", ")
        + "or accept older records with a longer max_age."
    )


def _inputs(rows: pa.Table, plan: ForecastPlan, like: TrainingSet | None) -> pd.DataFrame:
    index = index_of(rows)
    if like is None:
        return inputs_of(rows, index, plan.features, zone_category=None)
    named = {feature.name: feature for feature in plan.features}
    frame = inputs_of(
        rows,
        index,
        [named[name] for name in like.X.columns if name in named],
        zone_category=plan.zones if "zone" in like.X else None,
    )
    if KNOWN_IN_TIME in like.X:
        frame[KNOWN_IN_TIME] = np.ones(len(frame), dtype="int32")
    return frame[list(like.X.columns)].astype(like.X.dtypes.to_dict())
