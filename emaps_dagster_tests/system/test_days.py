"""An evening, days and a month on their own: outages, failing zones, revisions; Dagster's daemon loops on a fake clock.

The evening always runs. The month:
EMAPS_TEST_MONTH=1 .venv/bin/python -m pytest emaps_dagster_tests/system/test_days.py -s
With EMAPS_TEST_MONTH=checks its runs evaluate every check, and most of three hours is Dagster storing what they say.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import dagster as dg
import pytest
from deltalake import DeltaTable

from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import FEEDS
from emaps_dagster.defs.instance.runs import fetches, hours_of_run
from emaps_dagster.monitoring.hour_ranges import oldest_history_hour
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.daemon_harness import Chat, Machine, machine

# Dagster's daemon calls what Dagster deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")

# Tests run without the settings of whoever starts them.
_ASKED = os.environ.get("EMAPS_TEST_MONTH")
ZONES = ("GR", "BG")
TOKEN = "token-of-these-days"
BASE = utc(2024, 5, 6)


@dataclass(frozen=True)
class Trouble:
    """From one hour on until another something is wrong, counted from the begin of the story."""

    start: int
    end: int
    faults: tuple[Fault, ...] = ()
    asleep: bool = False


@dataclass(frozen=True)
class Life:
    """What happens: for how many hours, how often the machine looks, what is wrong when, which days are refetched."""

    hours: int
    step: int
    loaded: int
    troubles: tuple[Trouble, ...]
    refetched: tuple[int, ...]
    base: datetime = BASE

    def trouble(self, hour: int) -> Trouble | None:
        return next((one for one in self.troubles if one.start <= hour < one.end), None)


def down(start: int, end: int) -> Trouble:
    endpoints = (None, "updated-since", "zones")
    return Trouble(start, end, tuple(Fault("server_error", times=None, endpoint=name) for name in endpoints))


def failing(start: int, end: int, zone: str) -> Trouble:
    return Trouble(start, end, (Fault("not_found", times=None, zone=zone),))


def asleep(start: int, end: int) -> Trouble:
    return Trouble(start, end, asleep=True)


# The last six hours of a day, so that it holds the hour in which the provider revises.
EVENING = Life(
    hours=6,
    step=1,
    loaded=47,
    troubles=(down(1, 2), failing(3, 5, "BG")),
    refetched=(1,),
    base=BASE + 18 * HOUR,
)
DAYS = Life(
    hours=112,
    step=4,
    loaded=23,
    troubles=(down(8, 9), failing(12, 36, "BG"), asleep(38, 66), down(72, 99)),
    refetched=(1,),
)
MONTH = Life(
    hours=30 * 24,
    step=1,
    loaded=92 * 24,
    troubles=(
        down(30, 31),
        failing(72, 96, "BG"),
        asleep(200, 248),
        down(320, 350),
        failing(420, 444, "GR"),
        down(500, 501),
    ),
    refetched=(1, 7, 30, 90),
)


def live(life: Life, here: Machine, chat: Chat, late: Callable[[str], None]) -> None:
    """Sets the clock forward; what an evaluation leaves undone is passed to `late`."""
    told: set[Trouble] = set()
    began = time.monotonic()
    for hour in range(0, life.hours, life.step):
        if hour % 24 == 0:
            print(f"day {hour // 24} after {time.monotonic() - began:.0f} s, {len(here.runs())} runs", flush=True)
        trouble = life.trouble(hour)
        now = life.base + hour * HOUR
        if now.hour // life.step == 23 // life.step:
            _revise(here.simulator, life, now)
        if trouble and trouble.asleep:
            here.restart()
            continue
        here.simulator.clear_faults()
        for fault in trouble.faults if trouble else ():
            here.simulator.inject(fault)
        here.set(now + timedelta(minutes=7))
        here.tick()
        # Half as often as the sensors are due: what they leave behind is judged after each look.
        here.set(now + timedelta(minutes=50))
        here.look()
        here.assert_no_look_failed()
        if trouble:
            told.add(trouble)
            continue
        for problem in stale(here, life):
            late(f"{here.now}: {problem}")
    assert told == {one for one in life.troubles if not one.asleep}


def _revise(simulator: Simulator, life: Life, now: datetime) -> None:
    """The provider goes over the days that it refetches, and changes two hours of each zone."""
    for days in life.refetched:
        day = now.replace(hour=0) - days * 24 * HOUR
        for number, zone in enumerate(ZONES):
            simulator.provider.revise(
                zone, day + (5 + number) * HOUR, at=now + timedelta(minutes=9), end=day + (7 + number) * HOUR
            )


def stale(here: Machine, life: Life) -> Iterator[str]:
    """Hours that no tick carries any more and that are not what the provider says now."""
    start, end = life.base - life.loaded * HOUR, oldest_history_hour(here.now)
    if start >= end:
        return
    settled = Window(start, end)
    names = ["zone", "datetime", *(f"updated_at_{feed.name}" for feed in FEEDS)]
    # Twice an hour on three months: only what is compared is read.
    silver = DeltaTable(str(here.warehouse / "silver" / "energy_data")).to_pyarrow_table(columns=names).to_pylist()
    for feed, zone in product(FEEDS, ZONES):
        said = here.simulator.provider.updated_at(feed, zone, settled, here.now)
        for row in silver:
            hour, stored = row["datetime"], row[f"updated_at_{feed.name}"]
            if row["zone"] == zone and stored != said.get(hour, stored):
                yield f"{zone} {hour} {feed.name}: stored {stored}, the provider says {said[hour]}"


def judge(life: Life, here: Machine) -> None:
    """Nothing that the provider has is missing, no hour is left failed, nothing waits."""
    whole = Window(life.base - life.loaded * HOUR, floor_hour(here.now))
    wanted = {(zone, hour) for zone in ZONES for hour in whole.hours()}
    silver = here.rows(ENERGY_DATA)
    assert {key for key, row in silver.items() if row["ingested_at_power"] and row["ingested_at_carbon"]} >= wanted
    assert set(here.rows(ml_features(ZONES))) >= wanted
    assert here.said("gaps") == "Nothing is missing."
    gold = dg.AssetKey(ml_features(ZONES).asset_key)
    keys = here.instance.get_materialized_partitions(gold)
    assert len(keys) == len(list(whole.hours()))
    failed = (
        here.instance.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations(
            gold
        )
    )
    assert failed == {}


def budget(life: Life, here: Machine) -> dict[str, float]:
    """Calls that docs/operations.md promises not to exceed, for these zones and this time."""
    troubles = [life.trouble(hour) for hour in range(0, life.hours, life.step)]
    asleep = sum(one is not None and one.asleep for one in troubles)
    outages = sum(one is not None and len(one.faults) > 1 for one in troubles)
    ticks = len(troubles) - asleep
    asked = [run for run in here.runs() if run.tags.get("emaps/triggered_by") in ("gaps", "revisions") and fetches(run)]
    windows = [hours for hours in map(hours_of_run, asked) if hours]
    pieces = sum(math.ceil(window.duration / timedelta(days=10)) for window in windows)
    # What lies in the last day comes with /history, what lies before it with past-range.
    pieces += sum(run.tags["emaps/triggered_by"] == "gaps" for run in asked)
    each = len(ZONES)
    return {
        # What was missed for more than a day is fetched with the tick.
        "feeds": 2 * each * (ticks + sum(one.asleep for one in life.troubles) + pieces),
        "updated-since": each * ticks,
        # While the plan cannot be known, the tick and the looks of two sensors ask for it.
        "zones": 1 + life.hours / 24 + outages * 3,
    }


@pytest.fixture
def chat() -> Iterator[Chat]:
    with Chat() as one:
        yield one


def _run(life: Life, folder: Path, chat: Chat, *, checks: bool) -> tuple[Machine, list[str]]:
    late: list[str] = []
    settings = {
        "api_token": TOKEN,
        "zones": ",".join(ZONES),
        "alert_webhook": chat.url,
        "ui_url": "http://dagster:3000",
    }
    start = life.base - life.loaded * HOUR
    simulator = Simulator(token=TOKEN, zones=ZONES, now=life.base)
    opened = machine(folder, simulator, life.base, checks=checks, start=f"{start:%Y-%m-%dT%H:00}", **settings)
    with simulator, opened as here:
        # As after `make dev` was started: Dagster notes when the schedule began.
        here.tick()
        if life.loaded > 23:
            here.backfill(Window(start, life.base - 23 * HOUR))
        began, sent = time.monotonic(), len(simulator.requests)
        live(life, here, chat, late.append)
        calls = here.calls(sent)
        spent = {
            "feeds": calls["history"] + calls.get("past-range", 0),
            "updated-since": calls["updated-since"],
            "zones": calls["zones"],
        }
        allowed = budget(life, here)
        # A long run says all that it found, whatever is wrong first.
        print(f"{life.hours} h in {time.monotonic() - began:.0f} s, {len(here.runs())} runs")
        print(f"calls {calls}, in all {spent}, allowed {allowed}")
        print(*chat.messages, *late, sep="\n\n")
        judge(life, here)
        assert all(spent[name] <= allowed[name] for name in spent), (spent, allowed)
        return here, late


@pytest.mark.timeout(900)
def test_an_evening_with_an_outage_a_failing_zone_and_a_revision_leaves_no_hole_and_one_alert_a_cause(
    tmp_path: Path, chat: Chat
) -> None:
    _, late = _run(EVENING, tmp_path, chat, checks=False)
    assert late == []
    assert subjects(chat) == [
        "hourly failed for BG, GR",
        "hourly works again for BG, GR",
        "hourly failed for BG",
        "hourly works again for BG",
    ]
    assert not any(TOKEN in message or "s3cret" in message for message in chat.messages)


@pytest.mark.skipif(_ASKED is None, reason="the long run of test_days.py: EMAPS_TEST_MONTH=1")
def test_days_with_outages_a_failing_zone_and_revisions_leave_no_hole_and_one_alert_a_cause(
    tmp_path: Path, chat: Chat
) -> None:
    _, late = _run(DAYS, tmp_path, chat, checks=False)
    assert late == []
    assert subjects(chat) == [
        "hourly failed for BG, GR",
        "hourly failed for BG",
        "hourly works again for BG, GR",
        "hourly failed for BG, GR",
        "hourly works again for BG, GR",
    ]
    assert not any(TOKEN in message or "s3cret" in message for message in chat.messages)


@pytest.mark.skipif(_ASKED is None, reason="the long run of test_days.py: EMAPS_TEST_MONTH=1")
@pytest.mark.timeout(0)
def test_a_month_with_outages_a_failing_zone_and_revisions_leaves_no_hole_and_one_alert_a_cause(
    tmp_path: Path, chat: Chat
) -> None:
    _, late = _run(MONTH, tmp_path, chat, checks=_ASKED == "checks")
    assert late == []
    failed, over = "hourly failed for {}", "hourly works again for {}"
    zones = ["BG, GR", "BG", "BG, GR", "GR", "BG, GR"]
    assert subjects(chat) == [line.format(zone) for zone in zones for line in (failed, over)]


def subjects(chat: Chat) -> list[str]:
    return [message.splitlines()[0].strip("*").removeprefix("emaps_dagster: ") for message in chat.messages]
