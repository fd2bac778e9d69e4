"""The commands that errors name: they fill a folder of tables, or make a demo's again."""

from __future__ import annotations

import shlex
from pathlib import Path

from emaps_dagster.contracts.paths import DEMO_MARK
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, utc_now


def command_for_hours(folder: Path | str, hours: Window) -> str:
    """The command that runs the pipeline for some hours into a folder; it works in the checkout."""
    return (
        f"EMAPS_WAREHOUSE={shlex.quote(str(folder))} .venv/bin/emaps hours "
        f"{hours.start:%Y-%m-%dT%H:%MZ} {hours.end:%Y-%m-%dT%H:%MZ}"
    )


def how_to_fill(folder: Path | str) -> str:
    """How to get tables where there are none."""
    last = floor_hour(utc_now())
    return (
        f"or fill it in the checkout: `make demo` makes demo/warehouse, without an account; "
        f"`{command_for_hours(folder, Window(last - HOUR, last))}` runs the pipeline for the last hour."
    )


def how_to_make_again(folder: Path | str) -> str | None:
    """How to make the tables of a demo up to now; None for a folder that is no demo's."""
    root = Path(folder).parent
    if not (root / DEMO_MARK).exists():
        return None
    if (root / "fetched_later").exists():
        return f"from emaps_dagster.cli.demo.history import make_history; make_history({str(root)!r})"
    return f".venv/bin/python -m emaps_dagster.cli.demo --folder {shlex.quote(str(root))}"
