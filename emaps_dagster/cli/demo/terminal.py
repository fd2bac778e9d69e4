"""Terminal output of the demo: locations, changed rows, expectations, the last rows of gold."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from deltalake import DeltaTable
from rich.console import Console
from rich.table import Table as Grid

from emaps_dagster.cli.demo.expectations import Changes, rows_of
from emaps_dagster.cli.demo.folder import DemoFolder
from emaps_dagster.cli.demo.scenario import ZONE, DemoResult, RunReport
from emaps_dagster.cli.demo.timeline import Times
from emaps_dagster.contracts.table_contract import CARBON_INTENSITY_UNIT, MEGAWATT
from emaps_dagster.contracts.tables import all_tables, lag_column, ml_features, rolling_column
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.lakehouse.local_files import dataset
from emaps_dagster.monitoring.hour_ranges import to_windows

_SHOWN_CHANGES = {
    "consumption_total": f"consumption\n{MEGAWATT}",
    "production_wind": f"wind\n{MEGAWATT}",
    "production_gas": f"gas\n{MEGAWATT}",
    "carbon_intensity": f"carbon intensity\n{CARBON_INTENSITY_UNIT}",
}
_LAST_ROWS = 6


def opening(console: Console, url: str, folder: DemoFolder, times: Times) -> None:
    """Print zone, hours, and locations."""
    console.print(
        f"[bold]emaps_dagster[/]: zone {ZONE}, hours {_time(times.start)} to {_time(times.tick.end)} UTC\n"
        f"simulated Electricity Maps API {url}, tables in {folder.warehouse}",
        highlight=False,
        soft_wrap=True,
    )


def summary(console: Console, folder: DemoFolder, result: DemoResult, seconds: float) -> None:
    """Print the results; failures come last, where they are seen."""
    if result.silver_changes:
        console.print(_changes(result))
        console.print(_followed(result.gold_changes), highlight=False)
    console.print(_tables(folder))
    if result.ok:
        console.print(_gold(folder))
    for what, report in (("backfill", result.backfill), ("tick", result.tick)):
        if report:
            console.print(_checks(what, report), highlight=False)
    for expectation in result.expectations:
        mark = "[green]✓[/]" if expectation.holds else "[bold red]✗[/]"
        console.print(
            f"{mark} {expectation.says}" + ("" if expectation.holds else f": {expectation.detail}"), highlight=False
        )
    if result.ok:
        console.print(
            f"[bold green]All right[/], in {seconds:.0f} s. Picture: {folder.picture}\n"
            "`make dev` shows the same runs in Dagster's UI.",
            highlight=False,
            soft_wrap=True,
        )
    else:
        console.print(f"[bold red]Not right[/], see above and {folder.log}.", highlight=False, soft_wrap=True)


def _changes(result: DemoResult) -> Grid:
    grid = Grid(title="What the tick changed in silver.energy_data: old → new", title_justify="left")
    grid.add_column("hour, UTC", no_wrap=True)
    # Values wrap before their arrow, so that no heading is cut on a narrow terminal.
    grid.add_column("why")
    for heading in _SHOWN_CHANGES.values():
        grid.add_column(heading, justify="right")
    grid.add_column("columns\nchanged", justify="right", no_wrap=True)
    for hour, columns in result.silver_changes.items():
        values = (_change(columns.get(name)) for name in _SHOWN_CHANGES)
        grid.add_row(_time(hour), _why(hour, columns, result.times), *values, str(len(columns)))
    grid.add_row(_time(result.times.last), "new hour", *("" for _ in _SHOWN_CHANGES), "")
    return grid


def _change(values: tuple[Any, Any] | None) -> str:
    return "·" if values is None else f"{_number(values[0])} → {_number(values[1])}"


def _why(hour: datetime, columns: dict[str, tuple[Any, Any]], times: Times) -> str:
    if hour in times.revised:
        return "revised"
    if (True, False) in (columns.get("is_estimated_power"), columns.get("is_estimated_carbon")):
        return "measured, was estimated"
    return "new values"


def _followed(changes: Changes) -> str:
    hours = sorted(changes)
    if not hours:
        return "gold.ml_features: no earlier row changed."
    columns = len({name for found in changes.values() for name in found})
    return (
        f"gold.ml_features followed in {len(hours)} rows ({columns} columns): "
        + ", ".join(f"{_time(span.start)} to {_time(span.end - HOUR)}" for span in to_windows(hours))
        + "; a mean reaches 23 hours on, a lag one."
    )


def _tables(folder: DemoFolder) -> Grid:
    grid = Grid(title="Tables", title_justify="left")
    for heading in ("table", "rows", "Delta version", "columns"):
        grid.add_column(heading, justify="left" if heading == "table" else "right")
    for table in all_tables((ZONE,)):
        path = folder.warehouse / table.layer / table.name
        if DeltaTable.is_deltatable(str(path)):
            stored = DeltaTable(str(path))
            rows = dataset(stored).count_rows()
            grid.add_row(table.qualified_name, f"{rows:,}", str(stored.version()), str(len(table.columns)))
    return grid


def _gold(folder: DemoFolder) -> Grid:
    shown = {
        "consumption_total": f"consumption\n{MEGAWATT}",
        "production_solar": f"solar\n{MEGAWATT}",
        "production_wind": f"wind\n{MEGAWATT}",
        "carbon_intensity": f"carbon\n{CARBON_INTENSITY_UNIT}",
        lag_column("carbon_intensity"): "carbon\nlag 1 h",
        rolling_column("carbon_intensity"): "carbon\nmean 24 h",
        "hours_observed_24h": "hours\nobserved",
        "hours_estimated_24h": "hours\nestimated",
    }
    grid = Grid(title=f"The last {_LAST_ROWS} rows of gold.ml_features", title_justify="left")
    grid.add_column("hour, UTC", no_wrap=True)
    for heading in shown.values():
        grid.add_column(heading, justify="right")
    rows = rows_of(folder.warehouse, ml_features((ZONE,)))
    for hour in sorted(rows)[-_LAST_ROWS:]:
        grid.add_row(_time(hour), *(_number(rows[hour][name]) for name in shown))
    return grid


def _checks(what: str, report: RunReport) -> str:
    counts = f"{report.passed:,} passed, {sum(report.failed.values()):,} failed"
    if report.warned:
        named = ", ".join(f"{name} ({count} hours)" for name, count in report.warned.items())
        counts += f", {sum(report.warned.values()):,} warned: {named}"
    return f"Checks of the {what}: {counts}. Run took {report.seconds:.1f} s."


def _time(hour: datetime) -> str:
    return f"{hour.astimezone(timezone.utc):%Y-%m-%d %H:%M}"


def _number(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:,.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
