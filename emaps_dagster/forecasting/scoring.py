"""Naive forecasts of a training set, and the errors of forecasts beside theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from emaps_dagster.contracts.errors import FeaturesError
from emaps_dagster.contracts.forecast_plan import BASELINES
from emaps_dagster.forecasting.training_sets import TrainingSet

By = Literal["horizon", "zone"] | None


def baselines(training_set: TrainingSet) -> pd.DataFrame:
    """Naive forecasts of each row, from what was known at its issue time.

    Returns:
        A column for each baseline; for several targets a column (baseline, target) for each pair.
        `persistence`: the last known value of the week up to the origin.
        `daily`: the last known value at the target's hour of the day, of the 7 days up to the origin.
        `weekly`: the value a week before the target, two weeks where the horizon exceeds a week, and so on.
        NaN where no such value was known.
    """
    naive = training_set.naive
    return naive.droplevel(1, axis=1) if len(training_set.plan.targets) == 1 else naive


def score(training_set: TrainingSet, forecasts: Any, by: By = "horizon", *, rows: Any = None) -> pd.DataFrame:
    """Errors of forecasts against the targets, and their skill against each baseline.

    Args:
        training_set: has the targets and the baselines.
        forecasts: a Series or DataFrame (a column for each target) whose index is part of that of the set, or an array.
        by: "horizon" or "zone": a line for each; None: one line.
        rows: row numbers of an array, such as the test part of `splits`; default all rows.

    Returns:
        For several targets first by `target`, then by `by`:
        `n`: number of forecasts. `lead_time_min`, for each horizon: mean of target start - issued_at in minutes, which
        is (horizon - 1) * 60 - minutes of the issue time past its full hour; negative for horizon 1.
        `mae`, `rmse`: in the target's unit. `mape`: in percent, of the forecasts whose target is not 0, of which
        there are `n_mape`; `zero_targets` is the number of others.
        For each baseline: `mae_<baseline>`, and `skill_<baseline>` = 1 - mae / mae_<baseline>, both over the
        `n_<baseline>` forecasts for which the baseline is known.

    Raises:
        FeaturesError: the forecasts do not match the rows, or hold NaN.
    """
    if by not in ("horizon", "zone", None):
        raise FeaturesError(f"by is {by!r}; give 'horizon', 'zone' or None.")
    names = training_set.plan.targets
    positions, values = _aligned(training_set, forecasts, rows)
    truth = training_set.targets.to_numpy(dtype="float64")[positions]
    minutes = (training_set.target_time - training_set.index.get_level_values("issued_at")).dt.total_seconds() / 60
    groups = _groups(training_set, positions, by)
    lines, keys = [], []
    for column, name in enumerate(names):
        naive = {kind: training_set.naive[kind, name].to_numpy()[positions] for kind in BASELINES}
        for key, of in groups:
            lead = {"lead_time_min": minutes.to_numpy()[positions][of].mean()} if by == "horizon" else {}
            errors = _errors(
                values[of, column], truth[of, column], {kind: of_all[of] for kind, of_all in naive.items()}
            )
            lines.append({"n": len(of), **lead, **errors})
            keys.append((name, key))
    if len(names) == 1:
        return pd.DataFrame(lines, index=pd.Index([key for _, key in keys], name=by))
    if by is None:
        return pd.DataFrame(lines, index=pd.Index([name for name, _ in keys], name="target"))
    return pd.DataFrame(lines, index=pd.MultiIndex.from_tuples(keys, names=["target", by]))


def _aligned(training_set: TrainingSet, forecasts: Any, rows: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Row numbers of the set and the forecasts of these rows, a column for each target."""
    if isinstance(forecasts, (pd.Series, pd.DataFrame)) and rows is None:
        positions = training_set.index.get_indexer(forecasts.index)
        if (positions < 0).any():
            raise FeaturesError(
                f"{(positions < 0).sum():,} of {len(positions):,} forecasts have an index that the training set does "
                "not have: its levels are zone, issued_at and horizon."
            )
    else:
        positions = np.arange(len(training_set)) if rows is None else np.asarray(rows)
    if not len(positions):
        raise FeaturesError("forecasts is empty; there is nothing to score.")
    values = np.asarray(forecasts, dtype="float64").reshape(len(forecasts), -1)
    wanted = (len(positions), len(training_set.plan.targets))
    if values.shape != wanted:
        raise FeaturesError(
            f"forecasts has the shape {values.shape}, and {wanted} is needed: a row for each of the "
            f"{'training set' if rows is None else 'rows'}, a column for each target."
        )
    if np.isnan(values).any():
        raise FeaturesError(f"{np.isnan(values).sum():,} forecasts are NaN; leave these rows out and score the others.")
    return positions, values


def _groups(
    training_set: TrainingSet, positions: np.ndarray[Any, Any], by: By
) -> list[tuple[Any, np.ndarray[Any, Any]]]:
    if by is None:
        return [("all", np.arange(len(positions)))]
    levels = training_set.index.get_level_values(by)[positions]
    return [(key, np.flatnonzero(levels == key)) for key in sorted(set(levels))]


def _errors(
    forecasts: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], naive: dict[str, np.ndarray[Any, Any]]
) -> dict[str, float]:
    errors = np.abs(forecasts - truth)
    nonzero = truth != 0
    found = {
        "mae": errors.mean(),
        "rmse": np.sqrt(np.square(errors).mean()),
        "mape": (errors[nonzero] / np.abs(truth[nonzero])).mean() * 100 if nonzero.any() else np.nan,
        "n_mape": int(nonzero.sum()),
        "zero_targets": int((~nonzero).sum()),
    }
    return found | dict(_skills(errors, truth, naive))


def _skills(
    errors: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], naive: dict[str, np.ndarray[Any, Any]]
) -> Iterator[tuple[str, float]]:
    for kind, values in naive.items():
        known = ~np.isnan(values)
        mae = np.abs(values[known] - truth[known]).mean() if known.any() else np.nan
        yield f"mae_{kind}", mae
        # Against a baseline without error no skill is defined.
        yield f"skill_{kind}", 1 - errors[known].mean() / mae if mae > 0 else np.nan
        yield f"n_{kind}", int(known.sum())
