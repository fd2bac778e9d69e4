"""A year with holes, nulls, clock changes and a leap day: gold against pandas, polars and DuckDB."""

from __future__ import annotations

import random

import duckdb
import pandas as pd
import polars as pl
import pytest
from pyspark.sql import SparkSession

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.gold import features
from emaps_dagster_tests.support.builders import silver, utc

START, END = utc(2023, 12, 30), utc(2025, 1, 3)
COLUMNS = ("consumption_total", "production_wind", "carbon_intensity", "production_hydro_discharge")
# Means are of numbers below 10^4 with at most 6 decimals; 1e-9 is far below the last digit anybody reads.
CLOSE = 1e-9


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    """Hours with a value: 3 % missing alone, four outages of up to five days, 5 % nulls in each column."""
    dice = random.Random(20240229)
    hours = [START + number * HOUR for number in range((END - START) // HOUR)]
    lost = {hour for hour in hours if dice.random() < 0.03}
    for _ in range(4):
        first = dice.randrange(len(hours))
        lost |= set(hours[first : first + dice.randrange(24, 120)])
    kept = [hour for hour in hours if hour not in lost]
    values = {
        name: [None if dice.random() < 0.05 else round(dice.uniform(-500, 9000), dice.choice([0, 1, 6])) for _ in kept]
        for name in COLUMNS
    }
    return pd.DataFrame({"datetime": pd.DatetimeIndex(kept).as_unit("us"), **values}).astype(
        dict.fromkeys(COLUMNS, "float64")
    )


@pytest.fixture(scope="module")
def gold(spark: SparkSession, year: pd.DataFrame) -> pd.DataFrame:
    rows = year.astype(object).where(year.notna(), None).to_dict("records")
    rows = [{**row, "datetime": row["datetime"].to_pydatetime()} for row in rows]
    made = features(silver(spark, rows), ("GR",), START, END).toArrow().to_pandas()
    return made.sort_values("datetime").reset_index(drop=True)


def _agree(gold: pd.DataFrame, kind: str, expected: pd.DataFrame, tolerance: float) -> None:
    for name in COLUMNS:
        column = f"lag_{name}_1h" if kind == "lag" else f"rolling_avg_{name}_24h"
        ours, theirs = gold[column].to_numpy(), expected[name].to_numpy()
        assert (pd.isna(ours) == pd.isna(theirs)).all(), column
        assert pd.Series(abs(ours - theirs)).max() <= tolerance, column


def test_every_hour_that_silver_holds_has_one_row(gold: pd.DataFrame, year: pd.DataFrame) -> None:
    assert len(gold) == len(year) > 8_000
    assert (gold["datetime"].dt.tz_convert("UTC") == year["datetime"]).all()
    assert gold["hours_observed_24h"].min() == 1


def test_lag_is_pandas_shift_by_an_hour(gold: pd.DataFrame, year: pd.DataFrame) -> None:
    frame = year.set_index("datetime")
    shifted = frame.shift(freq="1h").reindex(frame.index)
    _agree(gold, "lag", shifted, 0.0)


def test_mean_is_pandas_rolling_24h(gold: pd.DataFrame, year: pd.DataFrame) -> None:
    frame = year.set_index("datetime")
    _agree(gold, "mean", frame.rolling("24h", min_periods=1).mean(), CLOSE)
    observed = frame.assign(one=1.0)["one"].rolling("24h").sum()
    assert (gold["hours_observed_24h"].to_numpy() == observed.to_numpy()).all()


def test_mean_and_lag_are_those_of_polars(gold: pd.DataFrame, year: pd.DataFrame) -> None:
    frame = pl.from_pandas(year, nan_to_null=True)
    means = frame.select(
        pl.col(name).rolling_mean_by("datetime", "24h", min_samples=1, closed="right") for name in COLUMNS
    )
    _agree(gold, "mean", means.to_pandas(), CLOSE)
    earlier = frame.with_columns(pl.col("datetime").dt.offset_by("1h"))
    lags = frame.select("datetime").join(earlier, on="datetime", how="left", maintain_order="left")
    _agree(gold, "lag", lags.to_pandas(), 0.0)


def test_mean_and_lag_are_those_of_duckdb_ranges(gold: pd.DataFrame, year: pd.DataFrame) -> None:
    with duckdb.connect() as connection:
        connection.register("year", year)
        means = ", ".join(f"avg({name}) OVER day AS {name}" for name in COLUMNS)
        lags = ", ".join(f"max({name}) OVER before AS {name}" for name in COLUMNS)
        windows = (
            "WINDOW day AS (ORDER BY datetime RANGE BETWEEN INTERVAL 23 HOURS PRECEDING AND CURRENT ROW), "
            "before AS (ORDER BY datetime RANGE BETWEEN INTERVAL 1 HOUR PRECEDING AND INTERVAL 1 HOUR PRECEDING)"
        )
        query = "SELECT {} FROM (SELECT datetime, {} FROM year) {} ORDER BY datetime"
        # DuckDB counts NaN as a value; a null is a null.
        nulls = ", ".join(f"CASE WHEN isnan({name}) THEN NULL ELSE {name} END AS {name}" for name in COLUMNS)
        _agree(gold, "mean", connection.execute(query.format(means, nulls, windows)).df(), CLOSE)
        _agree(gold, "lag", connection.execute(query.format(lags, nulls, windows)).df(), 0.0)
