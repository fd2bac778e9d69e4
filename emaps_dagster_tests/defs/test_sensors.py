"""What the sensors say and ask for, evaluated on the real definitions with a real instance, tables and API."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyspark.sql import SparkSession

from emaps_dagster.contracts.errors import FetchError, LakehouseError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.definitions import build_definitions
from emaps_dagster.defs.instance.runs import tags_of
from emaps_dagster.monitoring import revision_scan as looks
from emaps_dagster.monitoring import revisions
from emaps_dagster.simulator.api import Answer, json_answer
from emaps_dagster.simulator.faults import Fault
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support import evaluating
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.daemon_harness import Chat
from emaps_dagster_tests.support.evaluating import hours_asked, look, ranges
from harness.dagster_runs import quick_instance

NOW = utc(2024, 5, 4, 10, 20)
START = utc(2024, 5, 1)
TOKEN = "a-token-of-these-looks"
# Two hours between them were never asked for.
HELD = (Window(START, utc(2024, 5, 2, 4)), Window(utc(2024, 5, 2, 6), utc(2024, 5, 4, 10)))


class Refusing(Simulator):
    """A provider that answers /updated-since by a status of its own, whatever the plan lists."""

    status: int | None = None

    def answer(self, target: str, token: str | None) -> tuple[Answer, Fault | None]:
        if self.status and "/updated-since" in target:
            return json_answer(self.status, {"error": "No such endpoint"}), None
        return super().answer(target, token)


@pytest.fixture(scope="module")
def held(embedded: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with the hours of HELD."""
    folder = tmp_path_factory.mktemp("held") / "warehouse"
    evaluating.fill(embedded, folder, HELD, NOW)
    return folder


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    # What the plan serves is only said to who has a token.
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    with Refusing(zones=("GR",), now=NOW, token=TOKEN) as simulator:
        yield simulator


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with quick_instance() as one:
        yield one


def settings(sim: Simulator, folder: Path, now: datetime = NOW, **given: Any) -> Settings:
    return Settings(api_url=sim.url, warehouse=folder, fixed_now=now, **{"start": START, **given}, _env_file=None)


@pytest.fixture
def world(
    sim: Refusing, instance: dg.DagsterInstance, held: Path, tmp_path: Path
) -> Callable[..., tuple[Any, list[str]]]:
    """A look of a sensor on a warehouse with the hours of HELD; with the calls that it made."""
    folder = tmp_path / "warehouse"
    shutil.copytree(held, folder)
    # A run has tried the hole as well, so that no tick catches it up.
    evaluating.made(instance, ("GR",), Window(START, utc(2024, 5, 4, 10)))

    def evaluate(name: str, cursor: str | None = None, now: datetime = NOW) -> tuple[Any, list[str]]:
        sim.set_now(now)
        before = len(sim.requests)
        found = look(settings(sim, folder, now), name, instance, cursor)
        return found, [request.path.split("?")[0].removeprefix("/v3/") for request in sim.requests[before:]]

    return evaluate


# --- before the first hour ------------------------------------------------------------------------


@pytest.mark.parametrize("start", [utc(2024, 5, 4, 10), utc(2024, 5, 4, 11), utc(2031, 1, 1)])
@pytest.mark.parametrize("name", ["gaps", "revisions"])
def test_a_start_that_is_not_over_yet_is_said_and_nothing_is_asked(
    start: datetime, name: str, sim: Refusing, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    found = look(settings(sim, tmp_path / "warehouse", start=start), name, instance)
    assert found.skip_message == (
        f"The first hour, {start:%Y-%m-%dT%H:%MZ}, is not over yet (EMAPS_START): there is nothing to do before "
        f"{start + HOUR:%Y-%m-%dT%H:%MZ}."
    )
    assert sim.requests == []
    assert not (tmp_path / "warehouse").exists()


def test_from_the_first_complete_hour_on_the_sensors_work(
    sim: Refusing, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    first = settings(sim, tmp_path / "warehouse", start=utc(2024, 5, 4, 9))
    assert look(first, "gaps", instance).skip_message == "Nothing is missing."
    assert look(first, "revisions", instance).skip_message == "Nothing has changed."


# --- gaps -----------------------------------------------------------------------------------------


def test_a_hole_is_requested_once_and_then_after_a_pause(world: Callable[..., tuple[Any, list[str]]]) -> None:
    found, calls = world("gaps")
    assert ranges(found) == [("2024-05-02-04:00", "2024-05-02-05:00")]
    assert [request.tags["emaps/triggered_by"] for request in found.run_requests] == ["gaps"]
    assert calls == ["zones"]
    again, calls = world("gaps", found.cursor)
    assert again.run_requests == []
    assert again.skip_message == ("Requested before, and again after a pause: [2024-05-02T04:00Z, 2024-05-02T06:00Z).")
    assert calls == []
    later, _ = world("gaps", found.cursor, NOW + HOUR)
    assert ranges(later) == [("2024-05-02-04:00", "2024-05-02-05:00")]


def test_a_plan_without_past_range_says_that_the_hole_is_lost(
    world: Callable[..., tuple[Any, list[str]]], sim: Refusing
) -> None:
    sim.account = replace(sim.account, plan="free")
    found, _ = world("gaps")
    assert found.run_requests == []
    assert found.skip_message == (
        "Lost, since the plan serves no past-range: GR [2024-05-02T04:00Z, 2024-05-02T06:00Z). A plan that has it "
        "brings them back."
    )


# --- revisions ------------------------------------------------------------------------------------

REVISED = utc(2024, 5, 2, 12)
ASKED = [("2024-05-02-12:00", "2024-05-02-12:00")]


def test_a_revised_hour_is_requested_and_not_again(world: Callable[..., tuple[Any, list[str]]], sim: Refusing) -> None:
    sim.provider.revise("GR", REVISED, at=NOW - HOUR)
    found, calls = world("revisions")
    assert REVISED in hours_asked(found)
    assert calls == ["zones", "updated-since"]
    later = NOW + HOUR
    again, calls = world("revisions", found.cursor, later)
    assert calls == ["updated-since"]
    assert REVISED not in hours_asked(again)


_ANOTHER_STATUS = pytest.mark.long("another status by the same road")


@pytest.mark.parametrize(
    "status", [401, 403, *(pytest.param(status, marks=_ANOTHER_STATUS) for status in (400, 404, 410, 501))]
)
def test_a_list_of_updates_that_is_refused_is_replaced_by_the_daily_windows_and_said(
    status: int, world: Callable[..., tuple[Any, list[str]]], sim: Refusing
) -> None:
    sim.status = status
    sim.provider.revise("GR", REVISED, at=NOW - HOUR)
    found, calls = world("revisions")
    assert ranges(found) == ASKED
    # One window of the last 92 days holds hours: that of yesterday.
    windows = ["power-breakdown/past-range", "carbon-intensity/past-range"]
    assert calls == ["zones", "updated-since", *windows]
    # Half an hour later nothing is asked for again, and the page says why.
    quiet, calls = world("revisions", found.cursor, NOW + HOUR / 2)
    assert (quiet.run_requests, calls) == ([], [])
    assert quiet.skip_message.startswith(
        "The provider gives no list of updates of GR since 2024-05-04T10:20Z, though the plan has it: 48 hours of 1, "
        "7, 30, 90 days ago are read again daily instead, older revisions are not seen. The list is requested again "
        "after 2024-05-05T10:20Z. updated-since of zone GR, [2024-05-01T00:00Z, 2024-05-04T10:00Z)"
    )
    assert str(status) in quiet.skip_message
    # On the next day the windows are read again, and the list is asked for once.
    _, calls = world("revisions", found.cursor, NOW + 25 * HOUR)
    assert calls == ["zones", "updated-since", *windows]
    # As soon as it is answered, it is asked for from the first refusal on, and windows are left alone.
    sim.status = None
    sim.provider.revise("GR", REVISED, at=NOW + 2 * HOUR)
    well, calls = world("revisions", found.cursor, NOW + 25 * HOUR)
    assert calls == ["updated-since"]
    assert REVISED in hours_asked(well)
    assert "no list of updates" not in (well.skip_message or "")


def test_an_outage_is_waited_for_a_day_before_windows_are_read(
    world: Callable[..., tuple[Any, list[str]]], sim: Refusing
) -> None:
    sim.status = 503
    found, calls = world("revisions")
    assert calls == ["zones", "updated-since"]
    assert found.skip_message.startswith(
        "The list of updates of GR is requested again at the next evaluation. updated-since"
    )
    again, calls = world("revisions", found.cursor, NOW + 2 * HOUR)
    assert calls == ["updated-since"]
    _, calls = world("revisions", again.cursor, NOW + 24 * HOUR)
    assert calls == ["zones", "updated-since", "power-breakdown/past-range", "carbon-intensity/past-range"]
    # Nothing that was updated in the meantime is lost.
    sim.status = None
    sim.provider.revise("GR", REVISED, at=NOW + HOUR)
    well, _ = world("revisions", again.cursor, NOW + 5 * HOUR)
    assert REVISED in hours_asked(well)


def test_a_wrong_token_does_not_put_the_list_off_for_a_day(
    world: Callable[..., tuple[Any, list[str]]], sim: Refusing
) -> None:
    evaluated, _ = world("revisions")
    for endpoint in ("updated-since", None):
        sim.inject(Fault("invalid_token", times=None, endpoint=endpoint))
    wrong, calls = world("revisions", evaluated.cursor, NOW + HOUR)
    assert calls == ["updated-since", "power-breakdown/past-range"]
    sim.clear_faults()
    _, calls = world("revisions", wrong.cursor, NOW + HOUR * 3 / 2)
    assert calls == ["updated-since"]


class Slow:
    """Time as a sensor sees it when each call takes nine seconds: it stands still but for the calls."""

    def __init__(self, sim: Simulator, seconds: float) -> None:
        self.sim, self.seconds = sim, seconds

    def __call__(self) -> float:
        return len(self.sim.requests) * self.seconds


def test_a_long_list_is_read_in_as_many_evaluations_as_it_takes_and_no_question_is_put_twice(
    world: Callable[..., tuple[Any, list[str]]], sim: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the hours are restated; an answer lists 20 at most."""
    monkeypatch.setattr(revisions, "LONGEST_LIST", 20)
    clock = Slow(sim, 9.0)
    monkeypatch.setattr(looks.time, "monotonic", clock)
    sim.provider.revise("GR", START, at=NOW - HOUR, end=NOW)
    cursor, changed, asked = None, set[datetime](), []
    for number in range(9):
        began = clock()
        found, calls = world("revisions", cursor, NOW + number * HOUR / 2)
        assert clock() - began <= 25, "a look ends within its budget"
        cursor = found.cursor
        asked += [request.path for request in sim.requests[len(sim.requests) - len(calls) :]]
        changed |= hours_asked(found)
        if not revisions.RevisionsCursor.loads(cursor).scans:
            break
        assert found.run_requests or "more hours are requested at the next evaluation" in found.skip_message
    assert {hour for hour in Window(START, NOW.replace(minute=0)).hours() if hour < NOW - 24 * HOUR} <= changed
    assert len(asked) == len(set(asked)) == 1 + 1 + 5, "the plan, the whole, and 82 hours in pieces of 19"
    assert number == 3


def test_four_hundred_restated_days_take_eleven_calls_in_evaluations_of_25_seconds(
    sim: Refusing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above at its real size, without Dagster's statuses of 9,600 hours."""
    clock = Slow(sim, 5.0)
    monkeypatch.setattr(looks.time, "monotonic", clock)
    start = utc(2023, 3, 31, 10)
    here = settings(sim, tmp_path, start=start)
    hours = set(Window(start, utc(2024, 5, 4, 10)).hours())
    sim.provider.revise("GR", start, at=NOW - HOUR, end=NOW)
    api = build_definitions(here).resources["electricity_maps"]
    plan = looks.Plan(frozenset({"GR"}), frozenset({"GR"}))
    memory, changed, took = revisions.RevisionsCursor(), set[datetime](), []
    while not took or memory.scans:
        before = clock()
        one = looks.RevisionScan(NOW, here, memory, hours, [], looks.time_is_up())
        with api.sensor_client() as client:
            one.at_updates(client, plan)
        memory = revisions.RevisionsCursor.loads(one.memory(()).dumps())
        changed |= one.changed
        took.append(clock() - before)
    assert took == [15, 15, 15, 10]
    assert changed == {hour for hour in hours if hour < utc(2024, 5, 3, 11)}


# --- run_failure ----------------------------------------------------------------------------------


class EngineError(Exception):
    """What an engine raises: its message is for a terminal."""


def failed_run(instance: dg.DagsterInstance, raised: Callable[[], None]) -> None:
    """A run of the hourly job whose one step fails."""

    @dg.op(name="silver__energy_data")
    def step() -> None:
        raised()

    @dg.job(name="hourly")
    def hourly() -> None:
        step()

    tags = tags_of(Window(utc(2024, 5, 4, 9), utc(2024, 5, 4, 10)))
    assert not hourly.execute_in_process(instance=instance, tags=tags, raise_on_error=False).success


def engine_failed_alone() -> None:
    raise EngineError("\x1b[1;31mKernel error\x1b[0m: \x1b]0;title\x07invalid log")


def engine_failed() -> None:
    try:
        engine_failed_alone()
    except EngineError as error:
        raise LakehouseError("silver.energy_data at /w cannot be read: restore the file.") from error


def ours_twice() -> None:
    try:
        engine_failed()
    except LakehouseError as error:
        raise FetchError("Everything failed: run these hours again.") from error


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    with Chat() as one:
        monkeypatch.setenv("EMAPS_ALERT_WEBHOOK", one.url)
        yield one


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (engine_failed, "- silver__energy_data: silver.energy_data at /w cannot be read: restore the file."),
        (engine_failed_alone, "- silver__energy_data: Kernel error: invalid log"),
        (ours_twice, "- silver__energy_data: Everything failed: run these hours again."),
    ],
)
def test_an_alert_says_our_own_sentence_without_colours_once(
    raised: Callable[[], None], told: str, sim: Refusing, instance: dg.DagsterInstance, tmp_path: Path, chat: Chat
) -> None:
    here = settings(sim, tmp_path)
    assert look(here, "run_failure", instance).skip_message == "0 causes of failure open."
    failed_run(instance, raised)
    found = look(here, "run_failure", instance)
    (message,) = chat.messages
    title, job, hours, sentence, run, _ = message.splitlines()
    assert (title, job) == ("*emaps_dagster: hourly failed*", "The run of job hourly failed.")
    assert (hours, sentence) == ("Hours: [2024-05-04T09:00Z, 2024-05-04T10:00Z)", told)
    assert run.startswith("Run: http://127.0.0.1:3000/runs/")
    assert found.skip_message == "1 message sent. 1 cause of failure open."
    again = look(here, "run_failure", instance, found.cursor)
    assert (again.skip_message, len(chat.messages)) == ("1 cause of failure open.", 1)


def test_a_cause_that_is_over_is_reported_once_more(
    sim: Refusing, instance: dg.DagsterInstance, tmp_path: Path, chat: Chat
) -> None:
    here = settings(sim, tmp_path)
    failed_run(instance, engine_failed)
    cursor = look(here, "run_failure", instance).cursor

    @dg.job(name="hourly")
    def hourly() -> None:
        pass

    tags = tags_of(Window(utc(2024, 5, 4, 9), utc(2024, 5, 4, 10)))
    assert hourly.execute_in_process(instance=instance, tags=tags).success
    found = look(here, "run_failure", instance, cursor)
    assert found.skip_message == "1 message sent. 0 causes of failure open."
    assert chat.messages[1].startswith("*emaps_dagster: hourly works again*\nOver, after 1 run from ")
    assert (
        chat.messages[1]
        .splitlines()[1]
        .endswith(": silver__energy_data: silver.energy_data at /w cannot be read: restore the file.")
    )


def test_without_an_address_the_page_says_what_to_set(
    sim: Refusing, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_run(instance, engine_failed)
    assert look(settings(sim, tmp_path), "run_failure", instance).skip_message == (
        "No alert is delivered: set EMAPS_ALERT_WEBHOOK or EMAPS_ALERT_EMAIL. 1 cause of failure open."
    )
    with Chat() as chat:
        monkeypatch.setenv("EMAPS_ALERT_WEBHOOK", chat.url)
        found = look(settings(sim, tmp_path), "run_failure", instance)
        assert (found.skip_message, len(chat.messages)) == ("1 message sent. 1 cause of failure open.", 1)
