"""The rows of now, or of one moment, to forecast with: the columns of a training set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from emaps_dagster.contracts.errors import FeaturesError, StaleFeaturesError
from emaps_dagster.contracts.feature_query import duration_of, moment_of, other_zone
from emaps_dagster.contracts.forecast_plan import (
    DEFAULT_HORIZONS,
    DEFAULT_LAGS,
    DEFAULT_MEANS,
    ForecastPlan,
    forecast_plan,
)
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA
from emaps_dagster.contracts.windows import HOUR, Window, utc_now
from emaps_dagster.features.commands import command_for_hours, how_to_make_again
from emaps_dagster.features.source import Source
from emaps_dagster.forecasting.rows import ROW_KEY, refuse_absent_zones, rows_of
from emaps_dagster.forecasting.training_sets import KNOWN_IN_TIME, TrainingSet, index_of, inputs_of
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.transforms.training_rows import origin_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DEFAULT_MAX_AGE = "2h"
# The longest max_age: the last known record is looked for in a week.
OLDEST_HOURS = 144


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
        if _stale(rows, plan, oldest):
            refuse_absent_zones(lakehouse, asked)
            _refuse_stale(lakehouse, plan, rows, moment, oldest)
    return _inputs(rows, plan, like)


def target_time(inputs: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    """The start of each row's target hour, UTC.

    Args:
        inputs: rows of `latest`, or X of a training set.

    Raises:
        FeaturesError: their index is not zone, issued_at and horizon.
    """
    if list(inputs.index.names) != [*ROW_KEY]:
        raise FeaturesError(
            f"The index is {list(inputs.index.names)}; give rows of forecasting.latest, or X of a training set, whose "
            f"index is {[*ROW_KEY]}."
        )
    running = pd.DatetimeIndex(inputs.index.get_level_values("issued_at")).floor("h")
    ahead = pd.to_timedelta(inputs.index.get_level_values("horizon") - 1, unit="h")
    return pd.Series((running + ahead).as_unit("us"), index=inputs.index, name="target_time")


def age_of(value: object) -> timedelta:
    """The argument `max_age`.

    Raises:
        FeaturesError: it is no duration of 0 to 6 days.
    """
    age = duration_of(value)
    if age is None or not timedelta(0) <= age <= OLDEST_HOURS * HOUR:
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
            near = other_zone(zone, plan.zones)
            hint = near if near.startswith(" Did") else " Request one of these, or train on a set with that zone."
            raise FeaturesError(f"Zone {zone} is not in the training set, which has {', '.join(plan.zones)}.{hint}")
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


def _refuse_stale(
    lakehouse: Lakehouse, plan: ForecastPlan, rows: pa.Table, moment: datetime, oldest: timedelta
) -> NoReturn:
    stale = _stale(rows, plan, oldest)
    zone, feed, age = stale[0]
    origin, ages = origin_of(moment), [age for _, _, age in stale]
    what = (
        f"no {feed} record of the week before" if age is None else f"as the last {feed} record that of {age} h before"
    )
    offers = [_how_to_fetch(lakehouse, Window(origin - ((age or 1) - 1) * HOUR, origin + HOUR))]
    known = [age for age in ages if age is not None]
    if len(known) == len(ages):
        # At this moment the record of the last hour is as old as it may be.
        at = origin - max(known) * HOUR + oldest // HOUR * HOUR + HOUR
        there = rows_of(lakehouse, plan, _issues(rows, at))
        if not _stale(there, plan, oldest):
            offers.append(f"forecast as of then with at='{at:%Y-%m-%dT%H:%MZ}'")
        if max(known) <= OLDEST_HOURS:
            offers.append(f"accept older records with max_age='{max(known)}h'")
    raise StaleFeaturesError(
        f"At {moment:%Y-%m-%dT%H:%M:%SZ} zone {zone} has {what} the origin {origin:%Y-%m-%dT%H:%MZ}; max_age is "
        f"{oldest // HOUR} h. {', or '.join(offers)}."
    )


def _issues(rows: pa.Table, at: datetime) -> list[tuple[str, datetime]]:
    return [(str(zone), at) for zone in pc.unique(rows["zone"]).to_pylist()]


def _how_to_fetch(lakehouse: Lakehouse, hours: Window) -> str:
    """The remedy that makes the records of some hours known."""
    if not isinstance(lakehouse, FolderLakehouse):
        return f"Run the pipeline's job `hourly` for {hours}"
    again = how_to_make_again(lakehouse.warehouse)
    if again is not None:
        return f"The tables are of a demo, which ends when it was made; make it again: `{again}`"
    return f"Run `{command_for_hours(lakehouse.warehouse, hours)}` in the checkout"


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
