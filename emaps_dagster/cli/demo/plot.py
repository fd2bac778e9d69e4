"""Draws the last days of gold: production by mode, exchange, carbon intensity. Reads Delta without Spark."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from deltalake import DeltaTable
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from emaps_dagster.contracts.table_contract import CARBON_INTENSITY_UNIT, MEGAWATT
from emaps_dagster.contracts.tables import rolling_column
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import zone_facts
from emaps_dagster.lakehouse.local_files import files_of
from emaps_dagster.monitoring.production_mix import COLOURS, NAMES

# A mode below this share of the peak is too thin to see and gets no entry in the legend.
_NAMED = 0.01


def read_gold(warehouse: Path, zone: str, window: Window) -> pd.DataFrame:
    """The rows of a zone, one for each hour; hours that gold lacks are rows of NaN, drawn as gaps.

    Raises:
        ValueError: gold has no row of the zone in the window.
    """
    gold = DeltaTable(str(warehouse / "gold" / "ml_features"))
    rows = gold.to_pandas(
        filesystem=files_of(gold),
        filters=[("datetime", ">=", window.start), ("datetime", "<", window.end)],
    )
    # Filtered here: Arrow cannot yet compare the string views that delta-rs reads.
    rows = rows[rows["zone"] == zone]
    if rows.empty:
        raise ValueError(f"gold.ml_features in {warehouse} has no row of zone {zone} in {window}.")
    hours = pd.DatetimeIndex(list(window.hours()), name="datetime")
    return rows.set_index("datetime").reindex(hours)


def draw(rows: pd.DataFrame, zone: str, source: str, path: Path) -> None:
    """Write `picture_of` as PNG."""
    picture_of(rows, zone, source).savefig(path, pil_kwargs={"optimize": True})


def picture_of(rows: pd.DataFrame, zone: str, source: str) -> Figure:
    """One zone's hours, in three panels.

    Args:
        rows: of `read_gold`.
        zone: its key, for the title.
        source: the origin of the numbers, printed on the picture.
    """
    start, end = rows.index[0].to_pydatetime(), rows.index[-1].to_pydatetime() + HOUR
    figure = Figure(figsize=(11, 8.2), dpi=100, layout="constrained")
    power, exchange, carbon = figure.subplots(3, 1, sharex=True, height_ratios=[3.2, 1.1, 1.7])
    _production(power, rows)
    _exchange(exchange, rows)
    _carbon(carbon, rows)
    for axes in (power, exchange, carbon):
        axes.set_xlim(start, end)
        axes.grid(visible=True, color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        _shade_estimates(axes, rows, named=axes is carbon)
        axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1.02), frameon=False, fontsize=9, labelspacing=0.35)
    _days(carbon, start, end)
    figure.suptitle(
        f"{zone_facts(zone).name} ({zone}), {start:%d %b %Y %H:%M} to {end:%d %b %Y %H:%M} UTC",
        x=0.012,
        ha="left",
        fontsize=14,
        fontweight="bold",
    )
    figure.text(0.99, 0.008, source, ha="right", fontsize=8, color="#777777")
    return figure


def _production(axes: Axes, rows: pd.DataFrame) -> None:
    amounts = {mode: rows[f"production_{mode}"] for mode in COLOURS}
    peak = max((float(values.abs().max()) for values in amounts.values() if values.notna().any()), default=0.0)
    for sign in (1, -1):
        edge = np.zeros(len(rows) + 1)
        for mode, values in amounts.items():
            part = (sign * values).clip(lower=0)
            # A null adds no height; gold itself keeps the null.
            heights = _steps(part.where(part.notna(), 0.0))
            if heights.max() > 0:
                top = edge + sign * heights
                axes.fill_between(_edges(rows), edge, top, step="post", color=COLOURS[mode], linewidth=0)
                edge = top
    axes.step(
        _edges(rows), _steps(rows["consumption_total"]), where="post", color="black", linewidth=1.6, label="consumption"
    )
    for mode in reversed(COLOURS):
        if amounts[mode].abs().max() > peak * _NAMED:
            axes.fill_between([], [], color=COLOURS[mode], label=NAMES.get(mode, mode))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(f"production [{MEGAWATT}]\n(below zero: storage charging)")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _exchange(axes: Axes, rows: pd.DataFrame) -> None:
    for column, sign, colour in (("import_total", 1, "#4c8c6b"), ("export_total", -1, "#b0793c")):
        axes.fill_between(
            _edges(rows),
            sign * _steps(rows[column]),
            step="post",
            color=colour,
            alpha=0.75,
            linewidth=0,
            label=column.removesuffix("_total"),
        )
    net = rows["import_total"] - rows["export_total"]
    axes.step(_edges(rows), _steps(net), where="post", color="black", linewidth=1.2, label="net import")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(f"exchange [{MEGAWATT}]")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _carbon(axes: Axes, rows: pd.DataFrame) -> None:
    axes.step(
        _edges(rows),
        _steps(rows["carbon_intensity"]),
        where="post",
        color="#6d6d6d",
        linewidth=1.2,
        label="carbon intensity",
    )
    axes.step(
        _edges(rows),
        _steps(rows[rolling_column("carbon_intensity")]),
        where="post",
        color="#c0392b",
        linewidth=2.2,
        label="mean of 24 h",
    )
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"carbon intensity\n[{CARBON_INTENSITY_UNIT}]".replace("CO2eq", "CO$_2$eq"))


def _edges(rows: pd.DataFrame) -> Any:
    """The starts of the hours and the end of the last: an hourly mean is drawn as a step of one hour."""
    return pd.DatetimeIndex([*rows.index, rows.index[-1] + HOUR]).to_pydatetime()


def _steps(values: pd.Series[float]) -> Any:
    numbers = values.to_numpy(dtype=float)
    return np.append(numbers, numbers[-1])


def _shade_estimates(axes: Axes, rows: pd.DataFrame, *, named: bool) -> None:
    estimated = rows["is_estimated_power"].eq(True) | rows["is_estimated_carbon"].eq(True)
    for number, hour in enumerate(rows.index[estimated]):
        label = "estimated" if named and number == 0 else None
        axes.axvspan(hour, hour + HOUR, facecolor="none", edgecolor="#999999", hatch="////", linewidth=0, label=label)


def _days(axes: Axes, start: datetime, end: datetime) -> None:
    days = (end - start) / timedelta(days=1)
    axes.xaxis.set_major_locator(mdates.DayLocator())  # type: ignore[no-untyped-call]  # no types
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%a %d %b"))  # type: ignore[no-untyped-call]  # no types
    axes.xaxis.set_minor_locator(mdates.HourLocator(byhour=(6, 12, 18) if days <= 8 else (12,)))  # type: ignore[no-untyped-call]  # no types
    axes.xaxis.set_minor_formatter(mdates.DateFormatter("%H" if days <= 5 else ""))  # type: ignore[no-untyped-call]  # no types
    axes.tick_params(axis="x", which="minor", labelsize=8, labelcolor="#666666")
    axes.tick_params(axis="x", which="major", pad=12 if days <= 5 else 4)
    axes.set_xlabel("UTC")
