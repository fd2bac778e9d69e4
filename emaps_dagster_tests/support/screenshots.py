"""`make screenshots`: the pictures of docs/ui.md, taken from a demo of its own in a real browser.

What is waited for is on the page when its picture is taken; test_ui.py asserts the same pages.
"""

from __future__ import annotations

import re
import sys
import tempfile
from datetime import datetime
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect

from emaps_dagster.cli.demo.dev import ask
from emaps_dagster.cli.demo.folder import DemoFolder
from emaps_dagster.cli.demo.scenario import ZONE
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster_tests.conftest import run_demo
from emaps_dagster_tests.support.browser import (
    CHECKOUT,
    CHROMIUM,
    Dev,
    dev_on,
    hours_in,
    launch,
    open_graph,
    open_hours_of_a_check,
    tab,
    wait_until,
)

PICTURES = CHECKOUT / "docs" / "images" / "ui"
NAMES = ("lineage", "table", "columns", "plots", "mix", "backfill", "failing_hour", "health", "automation")

# Less than the seven days that the page `health` looks back.
_DAYS = 5
_WIDTH = 1440
# Hours before the demo's that nobody has materialized, and the one of them that the provider will not have.
_MISSING, _HOLE = 6, 3
_GOLD = "gold/ml_features"
_TICKS = """{ sensorsOrError(repositorySelector: {repositoryName: "__repository__",
    repositoryLocationName: "emaps_dagster"}) { ... on Sensors { results { sensorState { ticks { status } } } } } }"""
_RUNS = "{ runsOrError(limit: 20) { ... on Runs { results { status } } } }"
_BACKFILLS = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { status } } } }"


def main() -> int:
    """0 when every picture was taken, 1 when something is missing on this machine."""
    if CHROMIUM is None:
        print("There is no Chromium on this machine: apt-get install chromium")
        return 1
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        demo = run_demo(Path(folder) / "demo", days=_DAYS)
        if demo.code:
            print(demo.output)
            return 1
        _take(DemoFolder(demo.folder))
    print(f"{len(NAMES)} pictures are in {PICTURES}")
    return 0


def _take(folder: DemoFolder) -> None:
    with dev_on(folder) as dev, tab() as page:
        lineage(dev, page)
        table(dev, page)
        columns(dev, page)
        plots(dev, page)
        mix(dev, page)
    first = min(hours_in(folder, _GOLD))
    missing = [first - number * HOUR for number in range(_MISSING, 0, -1)]
    folder.prepare(ZONE, missing[0], folder.present)
    with dev_on(folder) as dev, tab() as page:
        backfill(dev, page, missing)
        failing_hour(dev, page, missing[_HOLE])
        health(dev, page)
    # Sensors would have filled the missing hours before the picture of how a person does it.
    with dev_on(folder, sensors=True) as dev, tab() as page:
        automation(dev, page)


def lineage(dev: Dev, page: Page) -> None:
    """All groups open; wide, since Dagster shows names alone when the graph does not fit."""
    page.set_viewport_size({"width": 2300, "height": 1000})
    open_graph(dev, page)
    expect(page.get_by_text(re.compile(r"^([1-9]\d*) / \1 Passed$"))).to_have_count(5)
    # One hour more is there to be had at the turn of an hour.
    expect(page.get_by_text(re.compile(r"^(99|100)% filled$"))).to_have_count(4)
    _save(page, "lineage", _around(page.locator("foreignObject")))


def table(dev: Dev, page: Page) -> None:
    _open(dev, page, f"assets/{_GOLD}?view=overview", height=800)
    for words in ("Is it well?", "If not:", "Passing", "At 7 minutes past the hour"):
        expect(page.get_by_text(words).first).to_be_visible()
    _save(page, "table")


def columns(dev: Dev, page: Page) -> None:
    _open(dev, page, f"assets/{_GOLD}?view=overview", height=800)
    _fold(page, "Status", "Description")
    page.get_by_placeholder("Filter columns").fill("carbon_intensity")
    for words in ("source: energy_data.carbon_intensity", "unit: gCO2eq_per_kWh"):
        expect(page.get_by_text(words).first).to_be_visible()
    _save(page, "columns")


def plots(dev: Dev, page: Page) -> None:
    _open(dev, page, f"assets/{_GOLD}?view=overview", height=800)
    _fold(page, "Status", "Description", "Columns")
    page.get_by_role("button", name="Plots").click()
    for number in ("carbon_intensity_mean", "consumption_mean"):
        expect(page.get_by_text(number, exact=True)).to_be_visible()
    _drawn(page.locator("canvas").first)
    page.mouse.move(0, 0)
    _save(page, "plots")


def mix(dev: Dev, page: Page) -> None:
    last = partition_key(max(dev.hours(_GOLD)))
    _open(dev, page, f"assets/{_GOLD}?view=partitions&partition={last}", height=900)
    page.get_by_role("row").filter(has_text="last_24h_mix").get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").get_by_alt_text("production mix and carbon intensity")
    expect(picture).to_be_visible()
    wait_until(lambda: picture.evaluate("image => image.complete && image.naturalWidth > 0"))
    _save(page, "mix")


def backfill(dev: Dev, page: Page, missing: list[datetime]) -> None:
    """The dialog; then it is launched, with a provider that lacks one of the hours."""
    page.set_viewport_size({"width": _WIDTH, "height": 800})
    hole = missing[_HOLE]
    dev.order(perturb={"do": "withhold", "zone": ZONE, "start": hole.isoformat(), "end": str(hole + HOUR)})
    dialog = launch(dev, page, partition_key(missing[0]), partition_key(missing[-1]))
    expect(dialog.get_by_text(f"{_MISSING} partitions", exact=True)).to_be_visible()
    expect(dialog.get_by_role("button", name="Launch backfill")).to_be_enabled()
    _save(page, "backfill")
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_have_count(0)

    def is_over() -> bool:
        (found,) = ask(dev.address, _BACKFILLS)["partitionBackfillsOrError"]["results"]
        assert not found["status"].startswith(("FAILED", "CANCELED", "COMPLETED_FAILED")), found
        return bool(found["status"] == "COMPLETED_SUCCESS")

    wait_until(is_over)


def failing_hour(dev: Dev, page: Page, hour: datetime) -> None:
    page.set_viewport_size({"width": _WIDTH, "height": 960})
    open_hours_of_a_check(dev, page, "silver/energy_data", "every_hour_is_present")
    expect(page.get_by_text("Failed (1)")).to_be_visible()
    # What is left is what failed.
    page.get_by_text(re.compile(r"^Passed \(\d+\)$")).click()
    page.get_by_text(partition_key(hour), exact=True).locator("visible=true").last.click()
    expect(page.get_by_text("1 finding, the first: the hour is missing").first).to_be_visible()
    expect(page.get_by_text("materialize the partition again later").first).to_be_visible()
    _save(page, "failing_hour")


def health(dev: Dev, page: Page) -> None:
    _open(dev, page, "assets/health", height=900)
    page.get_by_role("button", name="Materialize").first.click()
    expect(page.get_by_text("GR: 1 hour is missing or known from one feed only.").first).to_be_visible()
    # What says that the run was launched has gone.
    expect(page.get_by_text("Launched run")).to_have_count(0)
    page.mouse.move(0, 0)
    _save(page, "health")


def automation(dev: Dev, page: Page) -> None:
    def every_sensor_has_looked() -> bool:
        sensors = ask(dev.address, _TICKS)["sensorsOrError"]["results"]
        ended = [[tick["status"] for tick in sensor["sensorState"]["ticks"]] for sensor in sensors]
        return all(ticks and "STARTED" not in ticks for ticks in ended)

    def no_run_goes_on() -> bool:
        runs = ask(dev.address, _RUNS)["runsOrError"]["results"]
        return {run["status"] for run in runs} <= {"SUCCESS", "FAILURE", "CANCELED"}

    wait_until(every_sensor_has_looked)
    wait_until(no_run_goes_on)
    _open(dev, page, "automation", height=560)
    for words in ("gaps", "At 7 minutes past the hour", "At 03:37 AM UTC, only on Sunday"):
        expect(page.get_by_text(words).first).to_be_visible()
    expect(page.locator("label[class*=formatSwitch]")).to_have_count(6)
    _save(page, "automation")


def _open(dev: Dev, page: Page, where: str, *, height: int) -> None:
    page.set_viewport_size({"width": _WIDTH, "height": height})
    page.goto(f"{dev.address}/{where}")


def _fold(page: Page, *sections: str) -> None:
    """Close sections of an asset's page; the browser remembers those that were closed before."""
    for section in sections:
        button = page.get_by_role("button", name=section).first
        expect(button).to_be_visible()
        if button.get_attribute("aria-expanded") == "true":
            button.click()
        expect(button).to_have_attribute("aria-expanded", "false")


def _drawn(canvas: Locator) -> None:
    """Wait until a plot shows its line: a canvas is visible before anything is drawn on it."""
    count = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
    wait_until(lambda: canvas.evaluate(count) > 20)


def _around(parts: Locator, margin: int = 24) -> FloatRect:
    boxes = [box for box in (part.bounding_box() for part in parts.all()) if box]
    left, top = min(box["x"] for box in boxes) - margin, min(box["y"] for box in boxes) - margin
    right = max(box["x"] + box["width"] for box in boxes) + margin
    bottom = max(box["y"] + box["height"] for box in boxes) + margin
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


def _save(page: Page, name: str, clip: FloatRect | None = None) -> None:
    """In 256 colours: words stay sharp, small coloured signs keep their colour, and the file is a third."""
    assert name in NAMES
    taken = page.screenshot(clip=clip, animations="disabled")
    full = Image.open(BytesIO(taken)).convert("RGB")
    picture = full.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    path = PICTURES / f"{name}.png"
    picture.save(path, optimize=True)
    print(f"{path.relative_to(CHECKOUT)}: {picture.width} x {picture.height}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    sys.exit(main())
