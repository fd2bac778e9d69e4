"""The time of an hourly tick on tables of two weeks, one month and one year: `python -m benchmarks.tick`.

Zone GR, embedded engine, no HTTP and no Dagster: what the assets and checks do with the bodies of one hour. Two weeks
made of ticks have a file in bronze for every hour and feed, where a backfill makes a few.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import timedelta
from pathlib import Path

from benchmarks.bodies import PRESENT, StoredApi, days_before
from benchmarks.measurements import Figures, progress
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, REJECTED_RESPONSES, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, gold_window, silver_window
from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER
from emaps_dagster.electricity_maps.fetch import fetch
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.monitoring.hourly_summary import numbers_of
from emaps_dagster.pipeline.check_catalog import checks_of
from emaps_dagster.pipeline.checks import CheckContext, evaluate_hours, evaluate_table
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.ingest import ingest
from emaps_dagster.pipeline.silver import merge_silver

SIZES = {"two weeks": 14, "one month": 30, "one year": 365}
BRONZE = {POWER: POWER_DATA, CARBON: CARBON_DATA}
OF_TICKS = "two weeks made of ticks"
# The first ticks of a process find no warm caches; in production each tick is a process of its own, see command.py.
WARM_UP = 2


def run(
    lakehouse: FolderLakehouse, api: StoredApi, zones: tuple[str, ...], window: Window, taken: Figures, of: str
) -> None:
    """Every step of a run, each timed as `<layer>, <of>`."""
    gold = ml_features(zones)
    with taken.clock(f"bronze, {of}"):
        take_in(lakehouse, api, zones, window)
    with taken.clock(f"silver, {of}"):
        merge_silver(lakehouse, silver_window(window))
        numbers_of(lakehouse, ENERGY_DATA, window)
    with taken.clock(f"gold, {of}"):
        merge_gold(lakehouse, zones, gold_window(window))
        numbers_of(lakehouse, gold, window)


def merge(lakehouse: FolderLakehouse, zones: tuple[str, ...], window: Window) -> None:
    """What the silver and gold assets write."""
    merge_silver(lakehouse, silver_window(window))
    merge_gold(lakehouse, zones, gold_window(window))


def take_in(lakehouse: FolderLakehouse, api: StoredApi, zones: tuple[str, ...], window: Window) -> None:
    """What the bronze assets do."""
    for feed in FEEDS:
        lakehouse.create(BRONZE[feed])
        lakehouse.create(REJECTED_RESPONSES)
        _, failures, _ = ingest(lakehouse, BRONZE[feed], fetch(api, feed, zones, window, api.now))
        assert not failures, failures


def judge(lakehouse: FolderLakehouse, api: StoredApi, zones: tuple[str, ...], window: Window) -> None:
    """Every check of every table, as after a run."""
    scene = CheckContext(lakehouse, zones, window, api.now)
    for table in (POWER_DATA, CARBON_DATA, ENERGY_DATA, ml_features(zones)):
        pass_checks(table, scene)


def pass_checks(table: Table, scene: CheckContext) -> None:
    """Every check of a table; none that blocks may fail."""
    checks = checks_of(table)
    outcomes = evaluate_hours(scene, table, [check for check in checks if not check.of_the_table])
    outcomes |= {check: evaluate_table(scene, table, check) for check in checks if check.of_the_table}
    failed = [check.name for check, outcome in outcomes.items() if check.blocking and not outcome.passed]
    assert not failed, f"{table.qualified_name}: {failed}"


def measure(repeats: int) -> Figures:
    taken = Figures()
    with embedded_session() as spark, tempfile.TemporaryDirectory() as folder:
        for size in (*SIZES, OF_TICKS):
            progress(f"tick: a table of {size}")
            lakehouse, api, build = (
                FolderLakehouse(spark, Path(folder) / size.replace(" ", "_")),
                StoredApi(),
                Figures(),
            )
            if size == OF_TICKS:
                for hour in days_before(14).hours():
                    api.now = hour + timedelta(minutes=67)
                    take_in(lakehouse, api, ("GR",), Window(hour, hour + HOUR))
            run(lakehouse, api, ("GR",), days_before(SIZES.get(size, 14)), build, size)
            for number in range(WARM_UP + repeats):
                api.now = PRESENT + timedelta(hours=1 + number)
                window = Window(floor_hour(api.now) - HOUR, floor_hour(api.now))
                api.prepare(("GR",), window)
                figures = taken if number >= WARM_UP else build
                run(lakehouse, api, ("GR",), window, figures, size)
                with figures.clock(f"checks, {size}"):
                    judge(lakehouse, api, ("GR",), window)
                figures.total(f"all, {size}", [f"{layer}, {size}" for layer in ("bronze", "silver", "gold", "checks")])
    return taken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    print(measure(parser.parse_args().repeats).table())
