"""Renders one zone's last hours of gold as Markdown: a small SVG of the production mix, and its numbers.

Plain Python on rows, for Dagster's pages, so that a tick spends no time on it. cli/demo/plot.py draws the large chart.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emaps_dagster.contracts.table_contract import CARBON_INTENSITY_UNIT, MEGAWATT
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import MODES, zone_facts

Row = Mapping[str, Any]

# From the bottom of the stack: base load, weather-dependent, dispatchable, storage.
COLOURS = {
    "nuclear": "#8e6bbf",
    "geothermal": "#a0522d",
    "biomass": "#7a9a3a",
    "coal": "#5b5b5b",
    "unknown": "#c9c9c9",
    "hydro": "#2f6fb2",
    "wind": "#74bfe8",
    "solar": "#f6c434",
    "gas": "#e3805c",
    "oil": "#8c2d19",
    "hydro_discharge": "#1b9e9e",
    "battery_discharge": "#d05fa2",
}
assert set(COLOURS) == set(MODES)
NAMES = {"hydro_discharge": "pumped hydro", "battery_discharge": "battery"}

# The columns of gold that the page reads.
COLUMNS = (
    "zone",
    "datetime",
    *(f"production_{mode}" for mode in MODES),
    "consumption_total",
    "carbon_intensity",
    "is_estimated_power",
    "is_estimated_carbon",
)

_WIDTH, _HEIGHT = 480, 150
_LEGEND = 130
_INTENSITY_HEIGHT = 46
_GAP = 26
# Height of the text above the stack.
_HEAD = 16
_STYLE = "text{font:10px sans-serif;fill:#555}"


def markdown(rows: Sequence[Row], zone: str, window: Window) -> str:
    """The SVG and a table of the hours of a window.

    Args:
        rows: rows of gold with `COLUMNS`; other zones and hours are ignored.
        zone: its key.
        window: the hours to show; those without a row stay empty.
    """
    by_hour = {row["datetime"]: row for row in rows if row["zone"] == zone and row["datetime"] in window}
    hours = [by_hour.get(hour) for hour in window.hours()]
    title = f"**{zone_facts(zone).name} ({zone})**, {window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC"
    present = [row for row in hours if row is not None]
    if not present:
        return f"{title}: gold holds none of these {len(hours)} hours."
    encoded = b64encode(picture(hours, window).encode()).decode()
    return f"{title}\n\n![production mix and carbon intensity](data:image/svg+xml;base64,{encoded})\n\n" + _table(
        present, len(hours)
    )


def _table(rows: Sequence[Row], hours: int) -> str:
    energy = {mode: sum(row[f"production_{mode}"] or 0.0 for row in rows) / 1000 for mode in COLOURS}
    produced = sum(amount for amount in energy.values() if amount > 0)
    lines = [f"| produced | GWh | share |\n|---|---:|---:|\n| all modes | {produced:.1f} | |"]
    for mode, amount in sorted(energy.items(), key=lambda item: -item[1]):
        if any(row[f"production_{mode}"] for row in rows):
            share = f"{amount / produced:.0%}" if amount > 0 else "charging"
            lines.append(f"| {NAMES.get(mode, mode)} | {amount:.1f} | {share} |")
    intensities = [row["carbon_intensity"] for row in rows if row["carbon_intensity"] is not None]
    summary = f"{len(rows)} of {hours} hours"
    if intensities:
        mean = sum(intensities) / len(intensities)
        summary += (
            f"; carbon intensity {mean:.0f} {CARBON_INTENSITY_UNIT} "
            f"on average, {min(intensities):.0f} to {max(intensities):.0f}"
        )
    estimated = sum(bool(row["is_estimated_power"] or row["is_estimated_carbon"]) for row in rows)
    return "\n".join(lines) + f"\n\n{summary}; {estimated} estimated by the provider."


def picture(hours: Sequence[Row | None], window: Window) -> str:
    """The SVG: production in MW stacked by mode, consumption as a line, carbon intensity below."""
    step = _WIDTH / len(hours)
    stacks = [_stack(row) for row in hours]
    drawn = [row["consumption_total"] for row in hours if row and row["consumption_total"] is not None]
    top = max([*drawn, *(bar[-1][2] for bar in stacks if bar), 1.0])
    scale = _HEIGHT / top
    areas = {
        mode: "".join(
            f"M{number * step:.1f} {_HEIGHT - low * scale:.1f}h{step:.1f}V{_HEIGHT - high * scale:.1f}h-{step:.1f}z"
            for number, bar in enumerate(stacks)
            for of, low, high in bar
            if of == mode
        )
        for mode in COLOURS
    }
    named = [mode for mode, area in areas.items() if area]
    parts = [f'<path fill="{COLOURS[mode]}" d="{areas[mode]}"/>' for mode in named]
    consumption = [row["consumption_total"] if row else None for row in hours]
    parts.append(_line(consumption, step, lambda value: _HEIGHT - value * scale, "#000"))
    parts += [
        f'<rect x="{_WIDTH + 16}" y="{12 * number + 2}" width="9" height="9" fill="{COLOURS[mode]}"/>'
        f'<text x="{_WIDTH + 29}" y="{12 * number + 10}">{NAMES.get(mode, mode)}</text>'
        for number, mode in enumerate(reversed(named))
    ]
    parts.append(_text(2, -6, f"production by mode up to {top:,.0f} {MEGAWATT}, black line: consumption"))
    parts += _intensity(hours, step)
    bottom = _HEIGHT + _GAP + _INTENSITY_HEIGHT + 13
    parts += [_text(0, bottom, f"{window.start:%H:%M}"), _text(_WIDTH - 28, bottom, f"{window.end:%H:%M} UTC")]
    width, height = _WIDTH + _LEGEND, _HEAD + bottom + 4
    size = f'width="{width}" height="{height}" viewBox="0 -{_HEAD} {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>{"".join(parts)}</svg>'


def _stack(row: Row | None) -> list[tuple[str, float, float]]:
    """(mode, from, to) in MW from the bottom; a null or negative (charging) mode adds no height."""
    bar: list[tuple[str, float, float]] = []
    height = 0.0
    for mode in COLOURS if row else ():
        value = row[f"production_{mode}"] if row else None
        if value is not None and value > 0:
            bar.append((mode, height, height + value))
            height += value
    return bar


def _intensity(hours: Sequence[Row | None], step: float) -> list[str]:
    values = [row["carbon_intensity"] if row else None for row in hours]
    most = max((value for value in values if value is not None), default=0.0) or 1.0
    base = _HEIGHT + _GAP + _INTENSITY_HEIGHT
    line = _line(values, step, lambda value: base - value / most * _INTENSITY_HEIGHT, "#c0392b")
    return [line, _text(2, _HEIGHT + _GAP - 6, f"carbon intensity, up to {most:,.0f} {CARBON_INTENSITY_UNIT}")]


def _line(values: Sequence[float | None], step: float, height: Callable[[float], float], colour: str) -> str:
    """A step line, one step an hour, interrupted where a value is null."""
    path, is_down = "", False
    for number, value in enumerate(values):
        if value is not None:
            move = "V" if is_down else f"M{number * step:.1f} "
            path += f"{move}{height(value):.1f}h{step:.1f}"
        is_down = value is not None
    return f'<path fill="none" stroke="{colour}" stroke-width="1.5" d="{path}"/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}">{text}</text>'
