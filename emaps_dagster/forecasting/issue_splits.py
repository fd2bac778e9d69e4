"""Splits of a training set by issue time, without a target hour of the training part in the test part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emaps_dagster.contracts.errors import FeaturesError
from emaps_dagster.contracts.feature_query import duration_of
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.forecasting.training_sets import TrainingSet

Split = tuple[NDArray[np.intp], NDArray[np.intp]]


def splits(
    training_set: TrainingSet, *, folds: int, test_span: str | timedelta, purge: str | timedelta | None = None
) -> Iterator[Split]:
    """Splits by issue time: each fold tests on a later span and trains on all that was over before it.

    Args:
        training_set: the rows to split.
        folds: number of test spans; they adjoin, and the last one ends with the training set.
        test_span: length of a test span, such as "28d".
        purge: time before a test span whose rows are in neither part; default the longest horizon, with which each
            target hour of the training part is over when the test span begins.

    Yields:
        Row numbers of the training part and of the test part, for `X.iloc[...]`; scikit-learn takes a list of them
        as `cv=`.

    Raises:
        FeaturesError: an argument is invalid, or a part has no row.
    """
    span, gap = _duration(test_span, "test_span"), timedelta(hours=training_set.plan.horizons[-1])
    if purge is not None:
        gap = _duration(purge, "purge", may_be_zero=True)
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 1:
        raise FeaturesError(f"folds is {folds!r}; give a whole number of at least 1.")
    issued_at = training_set.index.get_level_values("issued_at")
    end = issued_at.max().floor("h") + HOUR
    return _parts(issued_at, [end - (folds - number) * span for number in range(folds)], span, gap)


def _parts(
    issued_at: pd.Index[pd.Timestamp], starts: list[pd.Timestamp], span: timedelta, gap: timedelta
) -> Iterator[Split]:
    for number, start in enumerate(starts):
        train = np.flatnonzero(issued_at <= start - gap)
        test = np.flatnonzero((issued_at >= start) & (issued_at < start + span))
        for rows, part in ((train, "training"), (test, "test")):
            if not len(rows):
                raise FeaturesError(
                    f"Fold {number + 1} of {len(starts)} tests on issue times in [{start:%Y-%m-%dT%H:%MZ}, "
                    f"{start + span:%Y-%m-%dT%H:%MZ}) and has no {part} row: the set has issue times from "
                    f"{issued_at.min():%Y-%m-%dT%H:%MZ} to {issued_at.max():%Y-%m-%dT%H:%MZ}. Give fewer folds or a "
                    "shorter test_span."
                )
        yield train, test


def _duration(value: object, name: str, *, may_be_zero: bool = False) -> timedelta:
    duration = duration_of(value)
    if duration is None or duration < timedelta(0) or not (duration or may_be_zero):
        raise FeaturesError(f"{name} is {value!r}; give a timedelta or a number with its unit, such as '28d' or '24h'.")
    return duration
