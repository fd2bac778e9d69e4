"""Splits by issue time, and errors and skills of forecasts, on training sets of a few literal rows."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emaps_dagster.contracts.errors import FeaturesError
from emaps_dagster.contracts.forecast_plan import BASELINES, forecast_plan
from emaps_dagster.forecasting import TrainingSet, baselines, score, splits

NAN = math.nan


def training_set(
    targets: list[float],
    naive: dict[str, list[float]] | None = None,
    *,
    horizons: tuple[int, ...] = (1,),
    zones: tuple[str, ...] = ("GR",),
    minute: int = 15,
) -> TrainingSet:
    """Hourly issue times from 1 May 2024, 00:15, on, with these targets in the order of zone, issue time, horizon."""
    number = len(targets) // len(horizons) // len(zones)
    issued_at = pd.date_range(f"2024-05-01 00:{minute:02}", periods=number, freq="h", tz="UTC")
    names = ["zone", "issued_at", "horizon"]
    index = pd.MultiIndex.from_product([zones, issued_at, horizons], names=names)
    origin = index.get_level_values("issued_at").floor("h") - pd.Timedelta(hours=1)
    hours = origin + pd.to_timedelta(index.get_level_values("horizon").to_numpy(), unit="h")
    columns = {(kind, "carbon_intensity"): (naive or {}).get(kind, [NAN] * len(targets)) for kind in BASELINES}
    plan = forecast_plan(zones, columns=None, targets="carbon_intensity", horizons=horizons, lags=(), means=())
    return TrainingSet(
        X=pd.DataFrame({"horizon": index.get_level_values("horizon")}, index=index),
        y=pd.Series(targets, index=index, name="carbon_intensity"),
        target_time=pd.Series(hours, index=index),
        known_in_time=pd.Series(True, index=index),
        columns_left_out=(),
        plan=plan,
        known_at=timedelta(minutes=minute),
        max_age=timedelta(hours=2),
        naive=pd.DataFrame(columns, index=index),
    )


def test_errors_of_a_horizon_and_skill_against_what_was_known() -> None:
    rows = training_set(
        [100.0, 0.0, 200.0, 50.0],
        {"persistence": [110.0, 30.0, NAN, 40.0], "daily": [100.0, 0.0, 200.0, 50.0]},
        horizons=(1, 3),
    )
    scored = score(rows, np.array([110.0, 10.0, 180.0, 50.0]))
    assert list(scored.index) == [1, 3]
    assert scored.index.name == "horizon"
    first, third = scored.to_dict("records")
    assert (first["n"], first["mae"], first["rmse"]) == (2, 15.0, math.sqrt(250.0))
    # 10 of 100 and 20 of 200.
    assert (first["mape"], first["n_mape"], first["zero_targets"]) == (10.0, 2, 0)
    # A percentage of 0 is not defined: the row counts elsewhere.
    assert (third["mae"], third["mape"], third["n_mape"], third["zero_targets"]) == (5.0, 0.0, 1, 1)
    # The second row of horizon 1 has no persistence: the model's error of the first is compared.
    assert (first["mae_persistence"], first["skill_persistence"], first["n_persistence"]) == (10.0, 0.0, 1)
    assert (third["mae_persistence"], third["skill_persistence"], third["n_persistence"]) == (20.0, 0.75, 2)
    # Against no error there is no skill, and against no baseline neither.
    assert first["mae_daily"] == 0.0
    assert math.isnan(first["skill_daily"])
    assert (math.isnan(first["skill_weekly"]), first["n_weekly"]) == (True, 0)
    # Issued at 00:15 and 01:15: the running hour began 15 minutes before.
    assert list(scored["lead_time_min"]) == [-15.0, 105.0]


def test_lines_by_zone_and_one_line_for_all() -> None:
    rows = training_set([1.0, 2.0, 3.0, 5.0], zones=("BG", "GR"))
    forecasts = rows.y + pd.Series([1.0, 1.0, 0.0, 2.0], index=rows.index)
    assert score(rows, forecasts, by="zone")["mae"].to_dict() == {"BG": 1.0, "GR": 1.0}
    assert score(rows, forecasts, by=None)[["n", "mae"]].to_dict("records") == [{"n": 4, "mae": 1.0}]


def test_forecasts_of_some_rows_by_their_index_or_their_numbers() -> None:
    rows = training_set([1.0, 2.0, 3.0, 5.0])
    some = pd.Series([6.0, 2.0], index=rows.index[[3, 1]])
    assert list(score(rows, some, by=None)["mae"]) == [0.5]
    assert list(score(rows, [6.0, 2.0], by=None, rows=[3, 1])["mae"]) == [0.5]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"forecasts": [1.0]}, r"shape \(1, 1\), and \(2, 1\) is needed"),
        ({"forecasts": [1.0, NAN]}, "1 forecasts are NaN"),
        ({"forecasts": [1.0, 2.0], "by": "month"}, "by is 'month'"),
        ({"forecasts": [], "rows": []}, "nothing to score"),
        ({"forecasts": pd.Series([1.0], index=pd.MultiIndex.from_tuples([("XX", 1, 1)]))}, "1 of 1 forecasts"),
    ],
)
def test_forecasts_that_do_not_fit_are_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(FeaturesError, match=says):
        score(training_set([1.0, 2.0]), **arguments)


def test_baselines_of_one_target_are_a_column_each() -> None:
    rows = training_set([1.0], {"daily": [7.0]})
    assert list(baselines(rows)) == ["persistence", "daily", "weekly"]
    assert list(baselines(rows)["daily"]) == [7.0]


def test_the_training_part_ends_a_longest_horizon_before_the_test_part() -> None:
    # 72 issue times, 00:15 on 1 May to 23:15 on 3 May.
    rows = training_set([0.0] * 144, horizons=(1, 24))
    issued_at = rows.index.get_level_values("issued_at")
    (train, test), (more, last) = splits(rows, folds=2, test_span="12h")
    assert (issued_at[test].min(), issued_at[test].max()) == tuple(utc("05-03 00:15", "05-03 11:15"))
    assert (issued_at[last].min(), issued_at[last].max()) == tuple(utc("05-03 12:15", "05-03 23:15"))
    # The last target hour of the training part ends with 2 May; an hour later it would be one of the test part.
    assert issued_at[train].max() == utc("05-01 23:15")[0]
    assert rows.target_time.iloc[train].max() == utc("05-02 22:00")[0]
    assert rows.target_time.iloc[more].max() == utc("05-03 10:00")[0]
    assert len(train) == 48
    assert set(train) < set(more)


def test_a_purge_of_ones_own() -> None:
    rows = training_set([0.0] * 48, horizons=(1, 24))
    ((train, test),) = splits(rows, folds=1, test_span=timedelta(hours=6), purge="0h")
    assert (len(train), len(test)) == (36, 12)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"folds": 3, "test_span": "12h"}, "Fold 1 of 3 .* has no training row.*fewer folds"),
        ({"folds": 0, "test_span": "1h"}, "folds is 0"),
        ({"folds": 1, "test_span": "0h"}, "test_span is '0h'"),
        ({"folds": 1, "test_span": "an hour"}, "test_span is"),
        ({"folds": 1, "test_span": "1h", "purge": "-1h"}, "purge is"),
    ],
)
def test_splits_that_cannot_be_made_are_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(FeaturesError, match=says):
        list(splits(training_set([0.0] * 36), **arguments))


def utc(*texts: str) -> list[pd.Timestamp]:
    return [pd.Timestamp(f"2024-{text}", tz="UTC") for text in texts]
