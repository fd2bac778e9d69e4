"""What training on final data hides: `.venv/bin/python -m benchmarks.leakage` prints the tables of docs/as-of.md.

Two months of hourly runs at minute 7 against the simulator, then every hour fetched again six weeks later. A
linear model learns in the first month to tell the next hour and is judged in the second.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd

from emaps_dagster import features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from harness.history_builder import Past

START = datetime(2024, 4, 1, tzinfo=timezone.utc)
# What is compared: a column of gold and its unit.
SIGNALS = {"production_total": "MW", "carbon_intensity": "g/kWh"}
DELAY = "15min"


@dataclass(frozen=True)
class Training:
    """Gold as it is in the end, and as it was 15 minutes after each hour; `half` divides learning from judging."""

    final: pd.DataFrame
    known: pd.DataFrame
    half: datetime


def build(folder: Path, days: int) -> Window:
    """Hourly runs of some days, and all of it fetched again when it was settled."""
    window = Window(START, START + timedelta(days=days))
    with embedded_session() as spark:
        past = Past(FolderLakehouse(spark, folder))
        for day in range(-1, days):
            midnight = START + timedelta(days=day)
            past.tick(*(midnight + number * HOUR + timedelta(minutes=67) for number in range(24)))
        past.backfill(window.widen(timedelta(days=1), timedelta(0)), window.end + timedelta(days=45))
        past.merge(window)
    return window


def training(folder: Path, window: Window) -> Training:
    final = features.load("GR", window.start, window.end, warehouse=folder)
    known = features.load("GR", window.start, window.end, known_at=DELAY, warehouse=folder, allow="missing")
    # Rows that were not known in time are missing, not skipped.
    known = known.reindex(final.index)
    return Training(final, known, window.start + (window.end - window.start) / 2)


def differences(data: Training) -> pd.DataFrame:
    """How far the judged month's rows were from their final ones when they were made."""
    final, known = data.final.loc[data.half :], data.known.loc[data.half :]
    rows = {}
    for signal, unit in SIGNALS.items():
        for name in (signal, f"lag_{signal}_1h", f"rolling_avg_{signal}_24h"):
            off = (known[name] - final[name]).abs()
            rows[f"`{name}`"] = (
                f"{(off > 0).sum()} of {len(off)}",
                f"{off.mean():.1f} {unit}",
                f"{off.max():.0f} {unit}",
            )
    return pd.DataFrame.from_dict(rows, orient="index", columns=["hours that differ", "mean", "largest"])


def next_hour(signal: str, data: Training) -> dict[str, float]:
    """Mean absolute error of telling the next hour's final value, by what was learned from and asked with."""
    truth = _moved(data.final[signal], -1)
    final, known = _inputs(data.final, signal), _inputs(data.known, signal)
    return {
        "backtest on final gold": _error(final, final, truth, data.half),
        "the same model, asked with what is known in time": _error(final, known, truth, data.half),
        "learned from and asked with `known_at`": _error(known, known, truth, data.half),
        "naive: as this hour, final": _mae(data.final[signal], truth, data.half),
        "naive: as this hour, known": _mae(data.known[signal], truth, data.half),
    }


def own_hour(signal: str, data: Training) -> dict[str, float]:
    """The same for a row's own value, predicted from means that hold it and from those that do not."""
    truth, clock = data.final[signal], _clock(data.final)
    lag, mean = data.final[f"lag_{signal}_1h"], data.final[f"rolling_avg_{signal}_24h"]
    before = [_moved(mean, 1).rename("mean_before"), _moved(truth, 24).rename("day_before")]
    inputs = {
        "lag and the mean of the row before": [lag, before[0]],
        "lag and the row's own mean": [lag, mean],
        "both means and the value a day before": [lag, mean, *before],
    }
    frames = {name: pd.concat([clock, *columns], axis=1) for name, columns in inputs.items()}
    return {name: _error(frame, frame, truth, data.half) for name, frame in frames.items()}


def _moved(values: pd.Series[float], hours: int) -> pd.Series[float]:
    """The value of so many hours before, by time and not by row."""
    return values.shift(freq=hours * HOUR).reindex(values.index)


def _clock(rows: pd.DataFrame) -> pd.DataFrame:
    table_lock = 2 * np.pi * rows["hour"] / 24
    return pd.DataFrame(
        {f"{name}{k}": wave(k * table_lock) for k in (1, 2, 3) for name, wave in (("sin", np.sin), ("cos", np.cos))}
    )


def _inputs(rows: pd.DataFrame, signal: str) -> pd.DataFrame:
    return pd.concat([_clock(rows), rows[[signal, f"lag_{signal}_1h", f"rolling_avg_{signal}_24h"]]], axis=1)


def _error(learned: pd.DataFrame, asked: pd.DataFrame, truth: pd.Series[float], half: datetime) -> float:
    """Least squares on the first half's `learned`; mean absolute error on the second half's `asked`."""
    known = learned.notna().all(axis=1) & truth.notna() & (learned.index < half)
    matrix = np.column_stack([np.ones(known.sum()), learned[known]])
    weights, *_ = np.linalg.lstsq(matrix, truth[known].to_numpy(), rcond=None)
    predicted = asked @ weights[1:] + weights[0]
    return _mae(predicted, truth, half)


def _mae(predicted: pd.Series[float], truth: pd.Series[float], half: datetime) -> float:
    off = (predicted - truth).abs()
    return float(off[off.index >= half].mean())


def report(data: Training) -> str:
    final, known = data.final.loc[data.half :], data.known.loc[data.half :]
    estimates = {
        name: (frame["is_estimated_power"].mean(), frame["is_estimated_carbon"].mean())
        for name, frame in (("then", known), ("in the end", final))
    }
    lines = [
        f"{len(final)} hours, {known['hour'].notna().sum()} of them known {DELAY} after their end. Estimated power and "
        "carbon records: "
        + ", ".join(f"{power:.0%} and {carbon:.0%} {name}" for name, (power, carbon) in estimates.items())
        + ".",
        "",
        "| column | " + " | ".join(differences(data).columns) + " |",
        "|---|---|---|---|",
        *(f"| {name} | " + " | ".join(row) + " |" for name, row in differences(data).iterrows()),
    ]
    for title, measure in (
        ("the next hour, predicted from this row", next_hour),
        ("this hour, predicted from its own row", own_hour),
    ):
        columns = {signal: measure(signal, data) for signal in SIGNALS}
        lines += [
            "",
            f"| {title}: mean error | " + " | ".join(f"`{s}` ({u})" for s, u in SIGNALS.items()) + " |",
            "|---|---|---|",
        ]
        lines += [
            f"| {name} | " + " | ".join(f"{columns[s][name]:.1f}" for s in SIGNALS) + " |"
            for name in columns["production_total"]
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(report(training(Path(name) / "warehouse", build(Path(name) / "warehouse", 60))))
