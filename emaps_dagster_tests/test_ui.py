"""`make dev` in a real browser: what a person sees of the demo's data, and a backfill started by clicks.

The tests follow one another through one session of Dagster's UI; the last one ends it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest
from deltalake import DeltaTable
from playwright.sync_api import Page, expect, sync_playwright

from emaps_dagster.demo.dev import ask, free_port
from emaps_dagster.demo.folder import Folder
from emaps_dagster.partitions import partition_key
from emaps_dagster.windows import HOUR
from emaps_dagster_tests.conftest import DemoRun

CHECKOUT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium, and the UI is looked at, too"
)

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
# Dagster looks for backfills every 30 s and has no setting for it. Only the waiting is shortened.
IMPATIENT = """
import sys
if "dagster._daemon" in sys.orig_argv:
    import dagster._daemon.controller
    dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2
"""
# The machine may be busy with other things.
PATIENCE_SECONDS = 60
# Hours before the demo's that the UI offers and nobody has materialized.
MISSING = 6


@dataclass
class Dev:
    """A running `python -m emaps_dagster.demo.dev`."""

    process: subprocess.Popen[str]
    address: str
    folder: Folder
    said: str
    first_hour: datetime

    def hours(self, table: str) -> list[datetime]:
        rows = DeltaTable(str(self.folder.warehouse / table)).to_pyarrow_table(columns=["datetime"])
        return sorted(hour.astimezone(timezone.utc) for hour in rows["datetime"].to_pylist())


@pytest.fixture(scope="module")
def dev(demo: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """Dagster's UI on a copy of the demo whose partitions begin some hours earlier."""
    assert demo.code == 0, demo.output
    folder = Folder(tmp_path_factory.mktemp("ui") / "demo")
    shutil.copytree(demo.folder, folder.root)
    gold = DeltaTable(str(folder.warehouse / "gold" / "ml_features")).to_pyarrow_table(columns=["datetime"])
    first = min(gold["datetime"].to_pylist()).astimezone(timezone.utc)
    folder.prepare("GR", first - MISSING * HOUR, folder.present)
    (folder.root.parent / "sitecustomize.py").write_text(IMPATIENT)
    # A shell's background jobs ignore SIGINT from birth; Ctrl-C must end this one nevertheless.
    in_the_background = ["sh", "-c", """trap '' INT; exec "$@" """, "sh"]
    options = ["--folder", str(folder.root), "--port", str(free_port(0))]
    process = subprocess.Popen(
        [*in_the_background, sys.executable, "-m", "emaps_dagster.demo.dev", *options],
        cwd=folder.root.parent,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("EMAPS_")},
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(folder.root.parent)]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Dagster's UI: " in line:
            break
    address = re.search(r"Dagster's UI: (http://127\.0\.0\.1:\d+)", said)
    assert address, said
    yield Dev(process, address[1], folder, said, first)
    if process.poll() is None:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
    process.stdout.close()


@pytest.fixture(scope="module")
def page(dev: Dev) -> Iterator[Page]:
    """One tab for all tests."""
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        yield page
        browser.close()


def test_the_command_says_where_everything_is(dev: Dev) -> None:
    assert "Simulated Electricity Maps API: http://127.0.0.1:" in dev.said
    assert "The schedule hourly_tick is on: it runs at minute 7 of every hour." in dev.said


def test_the_lineage_shows_the_four_tables_in_their_layers_with_passed_checks(dev: Dev, page: Page) -> None:
    page.goto(f"{dev.address}/asset-groups")
    # Groups are closed at first; the menu is that of the graph's empty space.
    expect(page.get_by_text("gold").last).to_be_visible()
    page.mouse.click(900, 850, button="right")
    page.get_by_role("menuitem", name="Expand all groups").click()
    for table in ("power_data", "carbon_data", "energy_data", "ml_features"):
        expect(page.get_by_text(table, exact=True)).to_be_visible()
    expect(page.get_by_text(re.compile(r"^\d+ / \d+ Passed$"))).to_have_count(4)
    for text in page.get_by_text(re.compile(r"^\d+ / \d+ Passed$")).all_inner_texts():
        passed, _, of = text.removesuffix(" Passed").partition(" / ")
        assert passed == of


def test_a_tables_page_shows_meaning_and_columns_with_types_and_units(dev: Dev, page: Page) -> None:
    page.goto(f"{dev.address}/assets/gold/ml_features?view=overview")
    expect(page.get_by_text("One row per zone and hour: values, time, lag and rolling features")).to_be_visible()
    search = page.get_by_placeholder("Filter columns")
    for column, unit, meaning in (
        ("rolling_avg_carbon_intensity_24h", "gCO2eq_per_kWh", "Mean of carbon_intensity over"),
        ("lag_production_solar_1h", "MW", "production_solar at exactly datetime - 1 h"),
    ):
        search.fill(column)
        row = page.get_by_role("row").filter(has_text=column).first
        expect(row).to_contain_text(f"unit: {unit}")
        expect(row).to_contain_text("double")
        expect(row).to_contain_text(meaning)


def _open_hours_of_a_check(dev: Dev, page: Page) -> None:
    page.goto(f"{dev.address}/assets/gold/ml_features?view=checks&checkDetail=lag_1h_is_the_previous_hour")
    expect(page.get_by_text("This is a blocking asset check.")).to_be_visible()
    # The first tab of this name is the table's.
    page.get_by_role("tab", name="Partitions").last.click()


def test_every_hour_has_its_own_status_of_a_check(dev: Dev, page: Page) -> None:
    _open_hours_of_a_check(dev, page)
    # At the turn of an hour there is one more to be had, at minute 7 the schedule gets it.
    expect(page.get_by_text(re.compile(r"Passed \((25|26)\)"))).to_be_visible()
    expect(page.get_by_text(re.compile(rf"Missing \(({MISSING}|{MISSING + 1})\)"))).to_be_visible()


def test_the_schedule_is_on_and_says_when(dev: Dev, page: Page) -> None:
    page.goto(f"{dev.address}/locations/emaps_dagster/schedules/hourly_tick")
    expect(page.get_by_text("At 7 minutes past the hour")).to_be_visible()
    expect(page.get_by_text(re.compile(r":07:00 [AP]M"))).to_be_visible()


def test_a_backfill_launched_by_clicks_ends_green_and_the_tables_hold_its_hours(dev: Dev, page: Page) -> None:
    missing = [dev.first_hour - number * HOUR for number in range(MISSING, 0, -1)]
    assert not set(missing) & set(dev.hours("gold/ml_features"))
    page.goto(f"{dev.address}/asset-groups")
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill(f"[{partition_key(missing[0])}...{partition_key(missing[-1])}]")
    dialog.get_by_role("textbox").press("Tab")
    expect(dialog.get_by_text(f"{MISSING} partitions", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_have_count(0)

    status, deadline = "", time.monotonic() + 2 * PATIENCE_SECONDS
    while not status.startswith(("COMPLETED", "FAILED", "CANCELED")) and time.monotonic() < deadline:
        time.sleep(0.5)
        found = ask(
            dev.address,
            "{ partitionBackfillsOrError { ... on PartitionBackfills { results { status numPartitions } } } }",
        )["partitionBackfillsOrError"]["results"]
        status = found[0]["status"] if found else ""
    assert [(backfill["status"], backfill["numPartitions"]) for backfill in found] == [("COMPLETED_SUCCESS", MISSING)]

    page.goto(f"{dev.address}/runs?view=backfills")
    expect(page.get_by_text("Success", exact=True)).to_be_visible()
    for table in ("silver/energy_data", "gold/ml_features"):
        hours = dev.hours(table)
        assert hours[:MISSING] == missing
        assert hours == [missing[0] + number * HOUR for number in range(len(hours))]
        assert len(hours) in (25 + MISSING, 26 + MISSING)
    _open_hours_of_a_check(dev, page)
    expect(page.get_by_text(re.compile(rf"Passed \(({25 + MISSING}|{26 + MISSING})\)"))).to_be_visible()


def test_ctrl_c_ends_it_with_all_that_it_started(dev: Dev, page: Page) -> None:
    page.close()
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(PATIENCE_SECONDS) == 0
    assert dev.process.stdout is not None
    assert "Ended; nothing is left running." in dev.process.stdout.read()
    assert _using(dev.folder.root) == []


def _using(folder: Path) -> list[str]:
    """The command lines of the processes that were started with this folder in their environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(folder).encode() in environment.read_bytes():
                found.append((environment.parent / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
