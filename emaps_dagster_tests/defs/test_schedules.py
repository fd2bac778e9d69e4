"""Which hours the hourly schedule asks for, evaluated on the real definitions with a real instance and API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.evaluating import made, ranges, tick

NOW = utc(2024, 5, 4, 10, 7)
START = utc(2024, 5, 1)
TOKEN = "a-token-of-these-looks"


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    with Simulator(zones=("GR",), now=NOW, token=TOKEN) as simulator:
        yield simulator


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp() as one:
        yield one


def settings(sim: Simulator, folder: Path, start: datetime = START) -> Settings:
    return Settings(api_url=sim.url, warehouse=folder, fixed_now=NOW, start=start, _env_file=None)


@pytest.mark.parametrize("start", [utc(2024, 5, 4, 10), utc(2024, 5, 4, 11), utc(2031, 1, 1)])
def test_a_start_that_is_not_over_yet_is_said_and_nothing_is_asked(
    start: datetime, sim: Simulator, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    found = tick(settings(sim, tmp_path, start), "hourly_tick", instance, NOW)
    assert found.run_requests == []
    assert found.skip_message == (
        f"The first hour, {start:%Y-%m-%dT%H:%MZ}, is not over yet (EMAPS_START): there is nothing to do before "
        f"{start + HOUR:%Y-%m-%dT%H:%MZ}."
    )
    assert sim.requests == []


def test_the_last_complete_hour_is_requested(sim: Simulator, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    made(instance, ("GR",), Window(START, utc(2024, 5, 4, 9)))
    found = tick(settings(sim, tmp_path), "hourly_tick", instance, NOW)
    assert ranges(found) == [("2024-05-04-09:00", "2024-05-04-09:00")]
    assert found.run_requests[0].tags["emaps/triggered_by"] == "hourly_tick"


def test_missed_ticks_are_in_the_same_run(sim: Simulator, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    made(instance, ("GR",), Window(START, utc(2024, 5, 4, 4)))
    found = tick(settings(sim, tmp_path), "hourly_tick", instance, NOW)
    assert ranges(found) == [("2024-05-04-04:00", "2024-05-04-09:00")]
