"""Hourly runs over three days, twice: by the method this project began with, and by ours.

`python -m benchmarks.row_based_lags` prints the table that docs/why.md shows. The seed's method in its own words: take
the rows of the last hours, lag by row, average the last 24 rows, fill nulls with 0, merge every row of the window.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from emaps_dagster import features
from emaps_dagster.contracts.tables import ENERGY_DATA
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.simulator.provider import Provider
from harness.history_builder import Past

START = datetime.fromisoformat("2024-05-01T00:00:00+00:00")
HOURS = 72
# The first run brings the day before with it.
FIRST = START - 24 * HOUR
# What the seed's code has, and what its comment says.
LOOK_BACKS = (12, 48)
COLUMN = "consumption_total"
LAG, MEAN = f"lag_{COLUMN}_1h", f"rolling_avg_{COLUMN}_24h"


def by_rows(known: pd.Series, now: datetime, look_back: int) -> pd.DataFrame:
    """One run of the seed's method over what is known: the rows of its window, all to be merged."""
    window = known[known.index >= now - look_back * HOUR]
    return pd.DataFrame({LAG: window.shift(1), MEAN: window.rolling(24, min_periods=1).mean()}).fillna(0)


def replay(folder: Path) -> tuple[pd.DataFrame, dict[int, pd.DataFrame]]:
    """Gold as our runs leave it, and as the seed's runs leave it for each look-back."""
    theirs: dict[int, pd.DataFrame] = {look_back: pd.DataFrame() for look_back in LOOK_BACKS}
    with embedded_session() as spark:
        lakehouse = FolderLakehouse(spark, folder)
        provider = Provider()
        # Hours that no feed delivers: a lag by row takes the value of another hour there.
        for gap in (10, 11, 20):
            provider.withhold("GR", START + gap * HOUR, START + (gap + 1) * HOUR)
        past = Past(lakehouse, provider=provider)
        for number in range(1, HOURS + 1):
            now = START + number * HOUR + timedelta(minutes=7)
            past.merge(past.tick(now))
            silver = lakehouse.scan_hours(ENERGY_DATA, Window(FIRST, START + HOURS * HOUR)).toPandas()
            known = silver.set_index(silver["datetime"].dt.tz_localize("UTC"))[COLUMN].sort_index()
            for look_back in LOOK_BACKS:
                merged = by_rows(known, now, look_back)
                theirs[look_back] = merged.combine_first(theirs[look_back])
        gold = features.load("GR", FIRST, START + HOURS * HOUR, warehouse=folder, allow="missing")
    return gold, theirs


def figures(gold: pd.DataFrame, theirs: dict[int, pd.DataFrame]) -> list[tuple[str, int, int, int, float, float]]:
    """Per method: settled rows, wrong lags, wrong means, and the largest error of each in MW; pandas is the judge."""
    values = gold[COLUMN]
    right = pd.DataFrame(
        {LAG: values.shift(freq="1h").reindex(values.index), MEAN: values.rolling("24h", min_periods=1).mean()}
    )
    methods = {"ours, by time": gold, **{f"by row, {n} h look-back": frame for n, frame in theirs.items()}}
    results = []
    for name, frame in methods.items():
        # A row is settled when no later run of any method touches it.
        settled = right.index[(right.index >= START) & (right.index < START + (HOURS - max(LOOK_BACKS)) * HOUR)]
        must = right.loc[settled]
        is_ = frame[[LAG, MEAN]].reindex(settled).set_axis(must.index)
        wrong = ((is_ - must).abs() > 1e-6) | (is_.isna() != must.isna())
        error = (is_ - must).abs().max().fillna(0.0)
        results.append((name, len(settled), int(wrong[LAG].sum()), int(wrong[MEAN].sum()), error[LAG], error[MEAN]))
    return results


def markdown(results: list[tuple[str, int, int, int, float, float]]) -> str:
    lines = [
        "| method | settled rows | wrong lags | wrong means | largest error of a lag, MW | of a mean, MW |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {rows} | {lags} | {means} | {e1:.0f} | {e2:.0f} |" for name, rows, lags, means, e1, e2 in results
    ]
    return "\n".join(lines)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        print(markdown(figures(*replay(Path(folder) / "warehouse"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
