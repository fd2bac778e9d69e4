"""What was fetched on one machine is stored on another as if it had been fetched there."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import ProviderUnavailableError, RejectedBodyError
from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import POWER
from emaps_dagster.electricity_maps import recorded
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.fetch import FetchFailure, fetch
from emaps_dagster.electricity_maps.recorded import RecordedClient, record
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.support.builders import utc

TOKEN = "a-token-that-stays-here"
NOW = datetime(2024, 5, 4, 10, 7, tzinfo=timezone.utc)
# Older hours by /past-range, in two calls, and the last day by /history.
WINDOW = Window(utc(2024, 4, 20), utc(2024, 5, 4, 10))
LAST = Window(WINDOW.end - HOUR, WINDOW.end)
ZONES = ("GR", "BG")


@pytest.fixture
def client() -> Iterator[ElectricityMapsClient]:
    with Simulator(token=TOKEN, zones=ZONES, now=NOW) as simulator:
        simulator.inject(Fault("html", feed="power-breakdown"))
        with ElectricityMapsClient(simulator.url, SecretStr(TOKEN), clock=lambda: NOW) as client:
            yield client


def test_recorded_answers_and_failures_are_those_of_the_fetch(client: ElectricityMapsClient) -> None:
    recording = record(client, client._base_url, (POWER,), ZONES, WINDOW, NOW)
    sent = pickle.dumps(recording)
    assert TOKEN.encode() not in sent
    direct = list(fetch(client, POWER, ZONES, WINDOW, NOW))
    with RecordedClient(pickle.loads(sent)) as replayed:
        given = list(fetch(replayed, POWER, ZONES, WINDOW, NOW))
    # The first call met the fault: a body that is kept as evidence. Asked again it is well.
    failure, *rest = given
    assert isinstance(failure, FetchFailure)
    assert isinstance(failure.error, RejectedBodyError)
    assert failure.error.response.body.startswith("<")
    # Of each zone a day of /history and two chunks, the same bodies to the byte.
    assert len(direct) == 6
    bodies = {(one.zone, one.endpoint, one.window): one.body for one in direct if isinstance(one, AcceptedResponse)}
    again = {(one.zone, one.endpoint, one.window): one.body for one in rest if isinstance(one, AcceptedResponse)}
    assert len(again) >= 5
    assert again.items() <= bodies.items()


def test_a_call_that_was_not_recorded_is_an_error_with_its_remedy(client: ElectricityMapsClient) -> None:
    recording = record(client, client._base_url, (POWER,), ("GR",), LAST, NOW)
    with RecordedClient(recording) as replayed, pytest.raises(ProviderUnavailableError) as caught:
        replayed.history(POWER, "BG")
    assert str(caught.value) == (
        "power of zone BG, the last 24 hours: this was not fetched on Dagster's machine (EMAPS_DATABRICKS_FETCH=host). "
        "Run these partitions again."
    )
    asked = client.past_range_request(POWER, "GR", WINDOW)
    assert replayed.past_range_request(POWER, "GR", WINDOW) == asked


def test_a_recording_is_for_its_table(client: ElectricityMapsClient) -> None:
    recording = record(client, client._base_url, (POWER,), ("GR",), LAST, NOW)
    recorded.give({"bronze.power_data": recording})
    assert recorded.recording_of("bronze.power_data") is recording
    assert recorded.recording_of("bronze.carbon_data") is None
    recorded.give({})
    assert recorded.recording_of("bronze.power_data") is None
