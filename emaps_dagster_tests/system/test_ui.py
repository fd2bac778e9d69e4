"""`make dev` in a real browser: what a person sees of the demo's data, and what a person does there by clicks.

The tests follow one another through one session of Dagster's UI; the last one ends it.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from emaps_dagster.cli.demo.dev import ask
from emaps_dagster.cli.demo.folder import DemoFolder
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster_tests.conftest import DemoRun
from emaps_dagster_tests.support.browser import (
    CHROMIUM,
    PATIENCE_SECONDS,
    Dev,
    dev_on,
    hours_in,
    launch,
    open_graph,
    open_hours_of_a_check,
    tab,
    wait_until,
)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium, and the UI is looked at, too"
)

# Hours before the demo's that the UI offers and nobody has materialized.
MISSING = 6
_BACKFILLS = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { status numPartitions } } } }"
_RUNS = "{ runsOrError(limit: 50) { ... on Runs { results { jobName status } } } }"
_INSTIGATOR = """query ($of: InstigationSelector!) { instigationStateOrError(instigationSelector: $of) {
    ... on InstigationState { status } } }"""


@dataclass
class Story:
    """The session, and the hour at which the demo's data begins."""

    dev: Dev
    first_hour: datetime

    @property
    def missing(self) -> list[datetime]:
        return [self.first_hour - number * HOUR for number in range(MISSING, 0, -1)]

    @property
    def hole(self) -> datetime:
        """An hour that the provider does not have."""
        return self.missing[3]


@pytest.fixture(scope="module")
def story(demo: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Dagster's UI on a copy of the demo whose partitions begin some hours earlier."""
    assert demo.code == 0, demo.output
    folder = DemoFolder(tmp_path_factory.mktemp("ui") / "demo")
    shutil.copytree(demo.folder, folder.root)
    first = min(hours_in(folder, "gold/ml_features"))
    folder.prepare("GR", first - MISSING * HOUR, folder.present)
    with dev_on(folder) as dev:
        yield Story(dev, first)


@pytest.fixture(scope="module")
def page(story: Story) -> Iterator[Page]:
    """One tab for all tests."""
    with tab() as page:
        yield page


def test_the_command_says_where_everything_is(story: Story) -> None:
    assert "Simulated Electricity Maps API: http://127.0.0.1:" in story.dev.said
    assert "The schedule hourly_tick is on: it runs at minute 7 of every hour." in story.dev.said


def test_the_lineage_shows_the_tables_in_their_layers_with_passed_checks(story: Story, page: Page) -> None:
    open_graph(story.dev, page)
    told = page.get_by_text(re.compile(r"^[1-9]\d* / \d+ Passed$"))
    # Four tables, and the page `health` that the demo has made.
    expect(told).to_have_count(5)
    for text in told.all_inner_texts():
        passed, _, of = text.removesuffix(" Passed").partition(" / ")
        assert passed == of


@pytest.mark.long("beyond the path from a click to a status")
def test_a_tables_page_says_what_it_is_and_what_to_do_and_shows_columns_with_units_and_origin(
    story: Story, page: Page
) -> None:
    page.goto(f"{story.dev.address}/assets/gold/ml_features?view=overview")
    for words in (
        "One row per zone and hour: values, time, lag and rolling features",
        "Is it well?",
        "If not:",
        "Fails if more than 6 hours since last materialization",
    ):
        expect(page.get_by_text(words).first).to_be_visible()
    search = page.get_by_placeholder("Filter columns")
    for column, unit, origin, meaning in (
        ("rolling_avg_carbon_intensity_24h", "gCO2eq_per_kWh", "carbon_intensity", "Mean of carbon_intensity over"),
        ("lag_production_solar_1h", "MW", "production_solar", "production_solar at exactly datetime - 1 h"),
    ):
        search.fill(column)
        row = page.get_by_role("row").filter(has_text=column).first
        for words in (f"unit: {unit}", f"source: energy_data.{origin}", "double", meaning):
            expect(row).to_contain_text(words)


@pytest.mark.long("beyond the path from a click to a status")
def test_the_last_hours_page_shows_the_mix_of_its_day(story: Story, page: Page) -> None:
    last = partition_key(max(story.dev.hours("gold/ml_features")))
    page.goto(f"{story.dev.address}/assets/gold/ml_features?view=partitions&partition={last}")
    page.get_by_role("row").filter(has_text="last_24h_mix").get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").get_by_alt_text("production mix and carbon intensity")
    expect(picture).to_be_visible()
    # A picture that the browser refused has no width of its own.
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 610
    page.get_by_role("button", name="Close").click()


def test_every_hour_has_its_own_status_of_a_check(story: Story, page: Page) -> None:
    open_hours_of_a_check(story.dev, page, "gold/ml_features", "lag_1h_is_the_previous_hour")
    # At the turn of an hour there is one more to be had, at minute 7 the schedule gets it.
    expect(page.get_by_text(re.compile(r"Passed \((25|26)\)"))).to_be_visible()
    expect(page.get_by_text(re.compile(rf"Missing \(({MISSING}|{MISSING + 1})\)"))).to_be_visible()


def test_one_partition_is_materialized_by_clicks(story: Story, page: Page) -> None:
    dialog = launch(story.dev, page, partition_key(story.missing[0]))
    expect(dialog.get_by_text("1 partition", exact=True)).to_be_visible()
    dialog.get_by_role("button", name=re.compile("^Launch")).last.click()
    expect(dialog).to_have_count(0)
    wait_until(lambda: story.missing[0] in story.dev.hours("gold/ml_features"))
    wait_until(lambda: set(_runs(story, "hourly")) == {"SUCCESS"})


def test_a_backfill_from_the_partitions_page_ends_green_and_the_tables_hold_its_hours(story: Story, page: Page) -> None:
    hole = story.hole
    story.dev.order(perturb={"do": "withhold", "zone": "GR", "start": hole.isoformat(), "end": str(hole + HOUR)})
    rest = story.missing[1:]
    dialog = launch(story.dev, page, partition_key(rest[0]), partition_key(rest[-1]))
    expect(dialog.get_by_text(f"{MISSING - 1} partitions", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_have_count(0)

    def backfills() -> list[tuple[str, int]]:
        found = ask(story.dev.address, _BACKFILLS)["partitionBackfillsOrError"]["results"]
        return [(backfill["status"], backfill["numPartitions"]) for backfill in found]

    ended = ("COMPLETED", "FAILED", "CANCELED")
    wait_until(lambda: any(n == MISSING - 1 and status.startswith(ended) for status, n in backfills()))
    assert ("COMPLETED_SUCCESS", MISSING - 1) in backfills()
    page.goto(f"{story.dev.address}/runs?view=backfills")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    for table in ("silver/energy_data", "gold/ml_features"):
        hours = story.dev.hours(table)
        assert hours[: MISSING - 1] == [hour for hour in story.missing if hour != hole]
        assert len(hours) in (25 + MISSING - 1, 26 + MISSING - 1)


def test_a_checks_failing_hour_says_what_is_missing(story: Story, page: Page) -> None:
    open_hours_of_a_check(story.dev, page, "silver/energy_data", "every_hour_is_present")
    expect(page.get_by_text("Failed (1)")).to_be_visible()
    # Dagster measures each name with a hidden copy of it.
    page.get_by_text(partition_key(story.hole), exact=True).locator("visible=true").last.click()
    expect(page.get_by_text("1 finding, the first: the hour is missing").first).to_be_visible()


def test_the_health_page_is_made_by_a_click_and_names_the_hole(story: Story, page: Page) -> None:
    page.goto(f"{story.dev.address}/assets/health")
    page.get_by_role("button", name="Materialize").first.click()
    wait_until(lambda: "SUCCESS" in _runs(story, "__ASSET_JOB"))
    page.reload()
    told = page.get_by_text("GR: 1 hour is missing or known from one feed only.").first
    expect(told).to_be_visible()
    expect(told).to_contain_text(partition_key(story.hole))


@pytest.mark.parametrize(
    "name",
    [
        "schedules/hourly_tick",
        pytest.param("schedules/hourly_health", marks=pytest.mark.long("another schedule")),
        "sensors/gaps",
    ],
)
def test_schedules_and_sensors_say_when_and_are_toggled_by_a_click(story: Story, page: Page, name: str) -> None:
    page.goto(f"{story.dev.address}/locations/emaps_dagster/{name}")
    when = {"hourly_tick": "At 7 minutes past the hour", "hourly_health": "At 17 minutes past the hour"}
    if words := when.get(name.split("/")[1]):
        expect(page.get_by_text(words).first).to_be_visible()
    switch = page.locator("label[class*=formatSwitch]").first
    assert _is_on(story, name)
    switch.click()
    wait_until(lambda: not _is_on(story, name))


def test_ctrl_c_ends_it_with_all_that_it_started(story: Story, page: Page) -> None:
    page.close()
    process = story.dev.process
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert process.stdout is not None
    assert "Ended; nothing is left running." in process.stdout.read()
    assert _using(story.dev.folder.root) == []


def _runs(story: Story, job: str) -> list[str]:
    """The statuses of the job's runs."""
    found = ask(story.dev.address, _RUNS)["runsOrError"]["results"]
    return [run["status"] for run in found if run["jobName"] == job]


def _is_on(story: Story, name: str) -> bool:
    of = {"repositoryLocationName": "emaps_dagster", "repositoryName": "__repository__", "name": name.split("/")[1]}
    found = ask(story.dev.address, _INSTIGATOR, of=of)["instigationStateOrError"]
    return bool(found["status"] == "RUNNING")


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
