"""The class TrainingSet: model-ready inputs and targets, one row per (zone, issued_at, horizon)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from emaps_dagster.contracts.errors import FeaturesError
from emaps_dagster.contracts.forecast_plan import BASELINES, Feature, ForecastPlan
from emaps_dagster.forecasting.rows import ROW_KEY

if TYPE_CHECKING:
    import polars as pl

KNOWN_IN_TIME = "known_in_time"


@dataclass(frozen=True, repr=False)
class TrainingSet:
    """Inputs, targets and baselines of forecasts, aligned row by row.

    Attributes:
        X: the features: float64 with NaN for null, int32 for what is never null; `zone` as a category if requested.
        y: the target; a Series for one target, a DataFrame with a column for each of several.
        target_time: start of each row's target hour, UTC.
        known_in_time: whether each row holds what was known at its issue time; False with `on_unknown="final"` only.
        columns_left_out: features that are null in every row, and therefore not in X.
        plan: what the features are computed from.
        known_at: from the full hour to its issue time.
        max_age: age of the last known record up to which a row counts as known.
    """

    X: pd.DataFrame
    y: pd.Series[float] | pd.DataFrame
    target_time: pd.Series[pd.Timestamp]
    known_in_time: pd.Series[bool]
    columns_left_out: tuple[str, ...]
    plan: ForecastPlan
    known_at: timedelta
    max_age: timedelta
    naive: pd.DataFrame

    def __repr__(self) -> str:
        return (
            f"<TrainingSet: {len(self):,} rows, {self.X.shape[1]} features, targets {', '.join(self.plan.targets)}, "
            f"zones {', '.join(self.plan.zones)}>"
        )

    def __len__(self) -> int:
        return len(self.X)

    @property
    def index(self) -> pd.MultiIndex:
        """zone, issued_at (UTC) and horizon of each row, sorted."""
        assert isinstance(self.X.index, pd.MultiIndex)
        return self.X.index

    @property
    def targets(self) -> pd.DataFrame:
        """The targets as a DataFrame, one column each."""
        return self.y.to_frame() if isinstance(self.y, pd.Series) else self.y

    def frame(self) -> pd.DataFrame:
        """target_time, targets and features in one DataFrame; the horizon is in its index only."""
        return pd.concat([self.target_time, self.targets, self.X.drop(columns="horizon")], axis=1)

    def arrow(self) -> pa.Table:
        """`frame` as Arrow, with zone, issued_at and horizon as the first columns and null for NaN."""
        return pa.Table.from_pandas(self.frame().rename_axis([*ROW_KEY]).reset_index(), preserve_index=False)

    def polars(self) -> pl.DataFrame:
        """`arrow` as polars.

        Raises:
            FeaturesError: polars is not installed.
        """
        try:
            import polars as pl
        except ImportError as error:
            raise FeaturesError("polars is not installed: pip install polars, or take frame() or arrow().") from error
        return pl.DataFrame(self.arrow())


def index_of(rows: pa.Table) -> pd.MultiIndex:
    """The key of rows as a pandas index."""
    zone, issued_at, horizon = (rows[name].to_pandas() for name in ROW_KEY)
    return pd.MultiIndex.from_arrays([zone.astype(object), issued_at, horizon.to_numpy()], names=[*ROW_KEY])


def inputs_of(
    rows: pa.Table, index: pd.MultiIndex, features: Sequence[Feature], *, zone_category: Sequence[str] | None
) -> pd.DataFrame:
    """The features of rows as X.

    Args:
        rows: rows of `rows_of`.
        index: their key.
        features: the columns to take.
        zone_category: the categories of a column `zone`; None for no such column.
    """
    data = {feature.name: numbers_of(rows[feature.name], is_int=feature.is_int) for feature in features}
    frame = pd.DataFrame(data, index=index)
    if zone_category is not None:
        frame["zone"] = pd.Categorical(rows["zone"].to_pandas(), categories=list(zone_category))
    return frame


def all_null(rows: pa.Table, features: Sequence[Feature]) -> tuple[str, ...]:
    """The features without a value in any row."""
    return tuple(f.name for f in features if rows[f.name].null_count == rows.num_rows)


def naive_of(rows: pa.Table, index: pd.MultiIndex, plan: ForecastPlan) -> pd.DataFrame:
    """The baseline forecasts, by baseline and target."""
    data = {(kind, name): numbers_of(rows[f"_{kind}_{name}"]) for kind in BASELINES for name in plan.targets}
    return pd.DataFrame(data, index=index)


def numbers_of(column: pa.ChunkedArray, *, is_int: bool = False) -> NDArray[Any]:
    """A column as int32 if it is of whole numbers and without nulls, else as float64 with NaN for null."""
    if is_int and not column.null_count:
        return np.asarray(column.cast(pa.int32()).to_numpy())
    return np.asarray(column.cast(pa.float64()).to_numpy())
