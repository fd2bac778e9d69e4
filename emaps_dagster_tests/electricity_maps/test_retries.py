"""Which faults are retried, after which pauses, and the error after the last try."""

from __future__ import annotations

import json
import logging
import socket
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from emaps_dagster.contracts.errors import (
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
)
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster_tests.support.scripted_api import GOOD, Api, ask, hour


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 520])
def test_a_passing_fault_is_retried(api: Api, status: int) -> None:
    assert ask(api.then(status).then(status).then(200, GOOD)).window.start == hour(1)
    assert len(api.requests) == 3


def test_a_truncated_body_is_retried_and_never_returned(api: Api) -> None:
    assert json.loads(ask(api.then_truncated().then(200, GOOD)).body) == GOOD
    assert len(api.requests) == 2


def test_a_reset_connection_is_retried(api: Api) -> None:
    assert json.loads(ask(api.then_reset().then(200, GOOD)).body) == GOOD


def test_a_slow_answer_is_retried(api: Api) -> None:
    assert json.loads(ask(api.then_slow(2).then(200, GOOD), timeout=(5, 1)).body) == GOOD


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitedError), (503, ProviderUnavailableError)])
def test_a_lasting_fault_is_an_error_after_the_last_try(api: Api, status: int, kind: type[ProviderError]) -> None:
    with pytest.raises(kind, match=r"carbon-intensity/history of zone GR, the last 24 hours.*3 tries"):
        ask(api.then(status))
    assert len(api.requests) == 3


def test_a_closed_port_is_unavailable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        pytest.raises(ProviderUnavailableError, match=r"GR.*refused"),
        ElectricityMapsClient(f"http://127.0.0.1:{port}/v3", None, attempts=2, backoff_seconds=0.01) as client,
    ):
        client.history(CARBON, "GR")


def test_retry_after_in_seconds_is_honoured(api: Api) -> None:
    began = time.monotonic()
    ask(api.then(429, Retry_After="1").then(200, GOOD))
    assert time.monotonic() - began >= 1.0


def test_retry_after_as_a_date_is_honoured(api: Api) -> None:
    at = datetime.now(timezone.utc) + timedelta(seconds=2)
    ask(api.then(503, Retry_After=format_datetime(at, usegmt=True)).then(200, GOOD))
    # The header has whole seconds.
    assert datetime.now(timezone.utc) >= at.replace(microsecond=0)


@pytest.mark.parametrize(
    "value", ["soon", "-5", "", "1_0", "9" * 500, "Thu, 99 Foo 2024", "Thu, 01 Jan 99999 00:00:00 GMT"]
)
def test_an_unreadable_retry_after_falls_back_to_backoff(api: Api, value: str, pauses: list[float]) -> None:
    ask(api.then(429, Retry_After=value).then(200, GOOD))
    assert len(pauses) == 1
    assert 0 <= pauses[0] <= 0.01


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitedError), (503, ProviderUnavailableError)])
def test_a_retry_after_beyond_patience_is_an_error_naming_the_wait_and_the_one_try(
    api: Api, status: int, kind: type[ProviderError], pauses: list[float]
) -> None:
    with pytest.raises(kind, match=r"after 1 try\. The provider asks to wait 3600 s\."):
        ask(api.then(status, Retry_After="3600"))
    assert (len(api.requests), pauses) == (1, [])


def test_only_the_clients_pauses_are_recorded(pauses: list[float]) -> None:
    # Recorded for all threads of the process, a thread that waits would run round without a pause.
    time.sleep(0)
    assert pauses == []


def test_giving_up_at_the_second_try_says_so(api: Api) -> None:
    with pytest.raises(RateLimitedError, match=r"after 2 tries\. The provider asks to wait 3600 s\."):
        ask(api.then(503).then(429, Retry_After="3600"))


def test_requests_and_retries_are_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="emaps_dagster.electricity_maps.client")
    ask(api.then(503).then(200, GOOD))
    levels = [record.levelname for record in caplog.records if record.name == "emaps_dagster.electricity_maps.client"]
    assert levels == ["INFO", "WARNING", "INFO"]
    assert "/v3/carbon-intensity/history?zone=GR" in caplog.text
