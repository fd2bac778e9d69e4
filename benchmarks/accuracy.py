"""Day-ahead carbon intensity of a published table, by what the pipeline holds: `python -m benchmarks.accuracy`.

The real hourly generation of three grids in 2020 and 2021 goes through admission, bronze, silver and gold, as daily
runs would have received it. Training sets are those of `forecasting`, known in time: one forecast a day, issued at
00:10 UTC for the 24 hours from 00:00 on, from hours before 00:00 only. No weather. The forecast is the mean of six
models for each grid, all horizons in them: scikit-learn's HistGradientBoostingRegressor, on the absolute error of the
logarithm, weighted by the inverse of the target, without early stopping, a random half of the features at each split,
else as it comes. Target and inputs of the carbon intensity are relative, in three of the models to its value 24 h
before the target, in three to its mean of the last day: trees do not extrapolate a level, and that of a grid drifts.

Protocol of the table: train on hours before 2021-07-01, test on the 184 days after it; MAPE of each day's 24 hours,
then their mean. Features and models were chosen on hours before 2021-07-01 (`--validate` shows the first half of 2021).
README.md says how often the test half was scored, and what changed.
Truth and the paper's forecast are carbonfirst/DACF's (Maji, Sitaraman, Shenoy, e-Energy 2022), whose forecast has
weather; naive is the intensity 24 h before; ours is this project's.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from benchmarks import dacf
from benchmarks.measurements import SKIPPED, progress
from emaps_dagster import forecasting
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session

LAGS = (24, 48, 72, 96, 120, 144, 168)
_WEEK = timedelta(days=7)
# Of the last day, in hours.
TREND_HOURS = (3, 6, 12, 24)
TARGET = "carbon_intensity"
SOURCES = ("ours", "naive 24 h", "the paper")
_WORST = 3


@dataclass(frozen=True)
class Periods:
    """Training from `start`, validation from `validation`, test from `test` to `end`; all at midnight UTC."""

    start: datetime
    validation: datetime
    test: datetime
    end: datetime


def _utc(year: int, month: int) -> datetime:
    return datetime(year, month, 1, tzinfo=timezone.utc)


PROTOCOL = Periods(_utc(2020, 1), _utc(2021, 1), _utc(2021, 7), _utc(2022, 1))
# Moments whose values of the modes are features: the last known hour, 24 h before the target, the last day.
_VALUE, _LAG, _MEAN = ("value_", ""), ("lag_", "_24h"), ("mean_", "_24h")
_WEEK_BEFORE = ("lag_", "_168h")
# What intensities are divided by, one model each: the value 24 h before the target, the mean of the last day.
BASE, _DAY_MEAN = f"lag_{TARGET}_24h", f"mean_{TARGET}_24h"
BASES: dict[str, tuple[str | None, ...]] = {"": (None,), ", relative": (BASE,), ", relative to both": (BASE, _DAY_MEAN)}
TRIED: dict[str, tuple[bool, tuple[tuple[str, str], ...]]] = {
    "carbon intensity only": (False, ()),
    "modes in MW, last value": (False, (_VALUE,)),
    "modes in MW, last value and 24 h before": (False, (_VALUE, _LAG)),
    "modes in MW, last value, 24 h before and mean of the day": (False, (_VALUE, _LAG, _MEAN)),
    "shares, last value": (True, (_VALUE,)),
    "shares, 24 h before": (True, (_LAG,)),
    "shares, last value and 24 h before": (True, (_VALUE, _LAG)),
    "shares, last value, 24 h before and mean of the day": (True, (_VALUE, _LAG, _MEAN)),
    "shares, last value, 24 h and 168 h before": (True, (_VALUE, _LAG, _WEEK_BEFORE)),
    "shares, last value, 24 h and 168 h before, mean of the day": (True, (_VALUE, _LAG, _WEEK_BEFORE, _MEAN)),
}
CHOSEN = "shares, last value, 24 h and 168 h before, mean of the day"


@dataclass(frozen=True)
class DayAhead:
    """A choice of features and models: a fixed, untuned model for each base, whose forecasts' mean is the forecast."""

    # A key of TRIED.
    tried: str = CHOSEN
    # Whether the month is a feature.
    month: bool = True
    # What a model's target and other intensities are divided by; None: by nothing.
    bases: tuple[str | None, ...] = (BASE, _DAY_MEAN)
    # Whether the last hours' intensity, relative to that of the same hours a day before, is a feature.
    trends: bool = True
    # Whether an error weighs by the inverse of the ratio to be learnt: in percent of the truth, as MAPE counts it.
    weighted: bool = True
    # Models of each base, each split of which chooses among half of the features; 1: one model, among all of them.
    seeds: int = 3

    def inputs(self, X: pd.DataFrame, base: str | None = BASE) -> pd.DataFrame:  # noqa: N803
        """Every feature of the carbon intensity, the modes as `tried` says, hour, day of the week, horizon."""
        calendar = ["hour", "day_of_week", "horizon", *(["month"] if self.month else [])]
        own = [name for name in X.columns if TARGET in name and not name.startswith(("age_", "count_"))]
        found = X[[*own, *calendar]].copy()
        # Gold counts from Sunday, 1. From Monday, 0, the weekend is one range, which a tree splits off at once.
        found["day_of_week"] = (found["day_of_week"] + 5) % 7
        if base is not None:
            others = [name for name in own if name != base]
            found[others] = found[others].div(found[base], axis=0)
        as_share, moments = TRIED[self.tried]
        for prefix, suffix in moments:
            total = f"{prefix}production_total{suffix}"
            for name in X.columns:
                if name.startswith(f"{prefix}production_") and name.endswith(suffix) and name != total:
                    found[name] = X[name] / X[total] if as_share else X[name]
        return found.join(trends_of(X), on=["zone", "issued_at"]) if self.trends else found

    def fitted(self, X: pd.DataFrame, y: pd.Series[float]) -> Callable[[pd.DataFrame], np.ndarray[Any, Any]]:  # noqa: N803
        """The forecast of models that were fitted on the X and y of a training set; its argument is an X."""

        def of(rows: pd.DataFrame, base: str | None) -> Any:
            return 1.0 if base is None else rows[base].to_numpy()

        models: list[tuple[str | None, Any]] = []
        share = 1.0 if self.seeds == 1 else 0.5
        # One thread: the order of sums is the same everywhere, and waiting threads slow a busy machine.
        with threadpool_limits(1):
            for base, seed in itertools.product(self.bases, range(self.seeds)):
                model = HistGradientBoostingRegressor(
                    loss="absolute_error", early_stopping=False, max_features=share, random_state=seed
                )
                ratio = y / of(X, base)
                weights = 1 / ratio if self.weighted else None
                models.append((base, model.fit(self.inputs(X, base), np.log(ratio), sample_weight=weights)))
        return lambda rows: np.mean(
            [of(rows, base) * np.exp(model.predict(self.inputs(rows, base))) for base, model in models], axis=0
        )


def trends_of(X: pd.DataFrame) -> pd.DataFrame:  # noqa: N803
    """Mean intensity of the last hours before each issue, divided by that of the same hours a day before.

    X holds the 24 horizons of each issue: their values 24 h before are the last day, in order.
    """
    day, before = (X[f"lag_{TARGET}_{hours}h"].unstack("horizon") for hours in (24, 48))
    assert list(day.columns) == list(range(1, 25))
    ratios = {f"trend_{n}h": day.iloc[:, -n:].mean(axis=1) / before.iloc[:, -n:].mean(axis=1) for n in TREND_HOURS}
    return pd.DataFrame(ratios)


def by_day(forecast: Any, truth: pd.Series[float]) -> pd.Series[float]:
    """MAPE of each day's hours in percent, by the day of the issue."""
    off = 100 * (np.asarray(forecast) - truth).abs() / truth
    return off.groupby(off.index.get_level_values("issued_at").date).mean()


def rows_of(warehouse: Path, grid: str, hours: list[dacf.Hour], start: datetime, end: datetime) -> Any:
    """A grid's training set of one forecast a day, issued in [start, end)."""
    modes = [f"production_{mode}" for mode in hours[0].generation]
    return forecasting.training_set(
        dacf.ZONE_OF[grid],
        start,
        end,
        issue_at="00:00",
        known_at="10min",
        lags=LAGS,
        columns=[TARGET, "production_total", *modes],
        warehouse=warehouse,
    )


def days_of(warehouse: Path, grid: str, hours: list[dacf.Hour], periods: Periods) -> pd.DataFrame:
    """MAPE of each day of the test, a column for each of SOURCES."""
    train = rows_of(warehouse, grid, hours, periods.start + _WEEK, periods.test)
    test = rows_of(warehouse, grid, hours, periods.test, periods.end)
    # The last hour that a training row sees lies before the first of the test.
    assert train.target_time.max() < pd.Timestamp(periods.test)
    assert train.known_in_time.all()
    assert test.known_in_time.all()
    known = {hour.start: hour for hour in hours}
    of_file = [known[moment.to_pydatetime()] for moment in test.target_time]
    assert [hour.intensity for hour in of_file] == list(test.y), "the pipeline changed the truth"
    forecasts = (
        DayAhead().fitted(train.X, train.y)(test.X),
        forecasting.baselines(test)["daily"],
        [hour.paper for hour in of_file],
    )
    return pd.DataFrame({name: by_day(of, test.y) for name, of in zip(SOURCES, forecasts, strict=True)})


def validated(warehouse: Path, grids: dict[str, list[dacf.Hour]], periods: Periods) -> pd.DataFrame:
    """Mean MAPE of what was tried, trained before and judged on the validation period, a column for each grid."""
    found: dict[str, dict[str, float]] = {}
    for grid, hours in grids.items():
        train = rows_of(warehouse, grid, hours, periods.start + _WEEK, periods.validation)
        judged = rows_of(warehouse, grid, hours, periods.validation, periods.test)
        of_grid = {"naive 24 h": forecasting.baselines(judged)["daily"]}
        for tried, month, (relative, bases) in itertools.product(TRIED, (False, True), BASES.items()):
            name = f"{tried}{', with the month' if month else ''}{relative}"
            model = DayAhead(tried, month, bases, trends=False, weighted=False, seeds=1)
            of_grid[name] = model.fitted(train.X, train.y)(judged.X)
        of_grid["chosen"] = DayAhead().fitted(train.X, train.y)(judged.X)
        found[grid] = {name: by_day(forecast, judged.y).mean() for name, forecast in of_grid.items()}
    return pd.DataFrame(found)


def report(days: dict[str, pd.DataFrame]) -> str:
    """The Markdown of the test: means, then how the days lie."""
    lines = [f"| MAPE in %, mean of {len(next(iter(days.values())))} days | ours | naive 24 h | the paper |"]
    lines += ["|---|---|---|---|"]
    lines += [f"| {grid} | {' | '.join(f'{of[name].mean():.2f}' for name in SOURCES)} |" for grid, of in days.items()]
    lines += ["", "Days, `benchmarks/accuracy_days.csv` has each:", "", "```csv"]
    lines += ["grid,forecast,median,90 % of days below,worst days,days on which ours is better"]
    for grid, of in days.items():
        for name in SOURCES:
            worst = of[name].nlargest(_WORST)
            listed = " ".join(f"{day:%Y-%m-%d}:{value:.1f}" for day, value in worst.items())
            better = "" if name == "ours" else int((of["ours"] < of[name]).sum())
            lines.append(f"{grid},{name},{of[name].median():.2f},{of[name].quantile(0.9):.2f},{listed},{better}")
    return "\n".join([*lines, "```"])


def folder_of_data() -> Path | None:
    """The table's folder beside this checkout; None where it is absent."""
    places = (parent / "shared" / "data" / "dacf_2020_2021" for parent in Path(__file__).resolve().parents)
    return next((place for place in places if place.is_dir()), None)


def built(warehouse: Path, folder: Path, grids: Iterable[str]) -> dict[str, list[dacf.Hour]]:
    """Fills the tables and returns the rows of the files."""
    hours = {grid: dacf.hours_of(folder, grid) for grid in grids}
    with embedded_session() as spark:
        dacf.write(FolderLakehouse(spark, warehouse), hours)
    return hours


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=folder_of_data(), help="of the table's files")
    parser.add_argument("--validate", action="store_true", help="what was tried, on the first half of 2021")
    options = parser.parse_args()
    if options.folder is None:
        progress("accuracy is not measured: there is no folder shared/data/dacf_2020_2021 beside this checkout.")
        return SKIPPED
    with tempfile.TemporaryDirectory() as name:
        warehouse, began = Path(name), time.perf_counter()
        grids = built(warehouse, options.folder, dacf.ZONE_OF)
        stored = time.perf_counter()
        progress(f"accuracy: {sum(map(len, grids.values())):,} hours in gold after {stored - began:.0f} s")
        if options.validate:
            print(validated(warehouse, grids, PROTOCOL).round(2).to_markdown())
            return 0
        days = {}
        for grid, hours in grids.items():
            days[grid] = days_of(warehouse, grid, hours, PROTOCOL)
            progress(f"accuracy: {grid} after {time.perf_counter() - began:.0f} s")
    ended = time.perf_counter()
    table = pd.concat(days, axis=1).round(3)
    table.columns = [f"{grid} {name}" for grid, name in table.columns]
    table.to_csv(Path(__file__).with_name("accuracy_days.csv"), index_label="day")
    print(report(days))
    print(f"\nBodies to gold {stored - began:.0f} s, rows, fits and scores {ended - stored:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
