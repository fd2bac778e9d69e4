"""`make dev` on a folder of a demo, and a browser's tab on it: what test_ui.py and screenshots.py share."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import requests
from deltalake import DeltaTable
from playwright.sync_api import Locator, Page, expect, sync_playwright

from emaps_dagster.cli.demo.dev import free_port
from emaps_dagster.cli.demo.folder import DemoFolder

CHECKOUT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The machine may be busy with other things.
PATIENCE_SECONDS = 60

_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_ARGUMENTS += ["--disable-component-update", "--disable-sync"]
# Dagster looks for backfills every 30 s and has no setting for it: only the waiting is shortened.
_IMPATIENT = """
import sys
if "dagster._daemon" in sys.orig_argv:
    import dagster._daemon.controller
    import dagster._daemon.daemon
    dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2
"""
# The sensors find by themselves what a person is to find; that they work is for test_days.py.
_WITHOUT_SENSORS = """
    def wait(self, workspace_process_context, shutdown_event):
        while not shutdown_event.wait(1):
            yield

    dagster._daemon.daemon.SensorDaemon.core_loop = wait
"""


@dataclass
class Dev:
    """A running `python -m emaps_dagster.cli.demo.dev`."""

    process: subprocess.Popen[str]
    address: str
    simulator: str
    folder: DemoFolder
    said: str

    def hours(self, table: str) -> list[datetime]:
        return hours_in(self.folder, table)

    def order(self, **orders: Any) -> None:
        """Tell the simulated provider how to behave from now on."""
        control = self.simulator.removesuffix("/v3") + "/_control"
        requests.post(control, json=orders, timeout=30).raise_for_status()


def hours_in(folder: DemoFolder, table: str) -> list[datetime]:
    """The hours that a table of the folder holds, in order."""
    rows = DeltaTable(str(folder.warehouse / table)).to_pyarrow_table(columns=["datetime"])
    return sorted(hour.astimezone(timezone.utc) for hour in rows["datetime"].to_pylist())


def wait_until(holds: Callable[[], bool]) -> None:
    """For what no page shows by itself."""
    deadline = time.monotonic() + 2 * PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.5)


@contextmanager
def dev_on(folder: DemoFolder, *, sensors: bool = False) -> Iterator[Dev]:
    """Dagster's UI, daemon and simulator on the folder of a demo; by default the sensors do not get their turn."""
    (folder.root.parent / "sitecustomize.py").write_text(_IMPATIENT + ("" if sensors else _WITHOUT_SENSORS))
    # A shell's background jobs ignore SIGINT from birth; Ctrl-C must end this one nevertheless.
    in_the_background = ["sh", "-c", """trap '' INT; exec "$@" """, "sh"]
    options = ["--folder", str(folder.root), "--port", str(free_port(0))]
    process = subprocess.Popen(
        [*in_the_background, sys.executable, "-m", "emaps_dagster.cli.demo.dev", *options],
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
    try:
        said = ""
        for line in process.stdout:
            said += line
            if "Dagster's UI: " in line:
                break
        address = re.search(r"Dagster's UI: (http://127\.0\.0\.1:\d+)", said)
        simulator = re.search(r"Simulated Electricity Maps API: (http://127\.0\.0\.1:\d+/v3)", said)
        assert address, said
        assert simulator, said
        yield Dev(process, address[1], simulator[1], folder, said)
    finally:
        # It ends all that it started, but only if it is told to.
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
        process.stdout.close()


@contextmanager
def tab() -> Iterator[Page]:
    """One tab of a browser without a window, wide enough for the whole graph."""
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": 1800, "height": 950}, timezone_id="UTC")
            page.set_default_timeout(PATIENCE_SECONDS * 1000)
            yield page
        finally:
            browser.close()


def open_graph(dev: Dev, page: Page) -> None:
    """The lineage of all assets with its groups expanded."""
    page.goto(f"{dev.address}/asset-groups")
    # Groups are closed at first; the menu is that of the graph's empty space.
    expect(page.get_by_text("gold").last).to_be_visible()
    page.mouse.click(1200, 850, button="right")
    page.get_by_role("menuitem", name="Expand all groups").click()
    for table in ("power_data", "carbon_data", "energy_data", "ml_features"):
        expect(page.get_by_text(table, exact=True)).to_be_visible()


def open_hours_of_a_check(dev: Dev, page: Page, table: str, check: str) -> None:
    page.goto(f"{dev.address}/assets/{table}?view=checks&checkDetail={check}")
    expect(page.get_by_text("asset check.").or_(page.get_by_text("non-blocking")).first).to_be_visible()
    # The first tab of this name is the table's.
    page.get_by_role("tab", name="Partitions").last.click()


def launch(dev: Dev, page: Page, first: str, last: str | None = None) -> Locator:
    """From the partitions page of the job `hourly`: materialise one partition, or a range in one run."""
    page.goto(f"{dev.address}/locations/emaps_dagster/jobs/hourly/partitions")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill(f"[{first}...{last}]" if last else first)
    dialog.get_by_role("textbox").press("Tab")
    return dialog
