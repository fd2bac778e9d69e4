"""EMAPS_CALLS_PER_MINUTE is one limit for all processes with the same host and token."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import RateLimitedError
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.pace import Pace, pace_file
from emaps_dagster_tests.support.scripted_api import GOOD, TOKEN, Api

PROGRAM = """
import sys
from pydantic import SecretStr
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.contracts.zones import CARBON
for _ in range(2):
    with ElectricityMapsClient(sys.argv[1], SecretStr(sys.argv[2]), calls_per_minute=60) as client:
        client.history(CARBON, "GR")
"""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = Api()
    yield server
    server.stop()


def test_two_processes_keep_one_limit(api: Api, tmp_path: Path) -> None:
    arrivals: list[float] = []
    good = api.then(200, GOOD).script.pop()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        arrivals.append(time.monotonic())
        good(handler)

    api.script.append(answer)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM, api.url, TOKEN]
    processes = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(arrivals) == 4
    # The wait that the limit promises; a call counts until its answer.
    assert min(later - earlier for earlier, later in itertools.pairwise(arrivals)) >= 1.0


def test_a_sensor_does_not_wait_beyond_its_time_and_names_what_to_do(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    monkeypatch.setenv("EMAPS_CALLS_PER_MINUTE", "1")
    api.then(200, GOOD)
    resource = ElectricityMapsResource(api_url=api.url)
    with resource.client() as client:
        client.history(CARBON, "GR")
    with resource.sensor_client() as client, pytest.raises(RateLimitedError, match=r"EMAPS_CALLS_PER_MINUTE.* \d+ s"):
        client.zones()
    assert len(api.requests) == 1
    monkeypatch.setenv("EMAPS_CALLS_PER_MINUTE", "6000")
    with resource.sensor_client() as client:
        client.history(CARBON, "GR")
    assert len(api.requests) == 2


def test_below_the_limit_of_the_plan_no_call_is_refused(api: Api) -> None:
    good, refuse = api.then(200, GOOD).then(429, "").script
    arrivals: list[float] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        arrivals.append(time.monotonic())
        (refuse if len(arrivals) > 1 and arrivals[-1] - arrivals[-2] < 0.4 else good)(handler)

    api.script[:] = [answer]
    for limit in (None, 120):
        with ElectricityMapsClient(api.url, attempts=1, calls_per_minute=limit) as client:
            client.history(CARBON, "GR")
            if limit is None:
                with pytest.raises(RateLimitedError, match="with EMAPS_CALLS_PER_MINUTE below the plan's limit"):
                    client.history(CARBON, "GR")
                time.sleep(0.5)
            else:
                client.history(CARBON, "GR")
    assert len(arrivals) == 4


def test_another_token_and_another_host_have_a_limit_of_their_own() -> None:
    same = pace_file("https://api.example.org/v3", SecretStr(TOKEN))
    assert pace_file("https://API.example.org/v4/", SecretStr(TOKEN)) == same
    assert pace_file("https://api.example.org/v3", SecretStr("another")) != same
    assert pace_file("https://other.example.org/v3", SecretStr(TOKEN)) != same
    assert TOKEN not in str(same)


@pytest.mark.parametrize("left", ["", "garbage", "nan", "1e18"])
def test_what_a_crash_or_a_restart_of_the_machine_left_is_passed_over(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    file = folder / "x.calls"
    file.write_text(left)
    Pace(file, 600).wait()
    assert 0 < float(file.read_text()) <= time.monotonic()


def test_without_its_file_the_limit_holds_in_the_process_and_a_warning_says_so(
    api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"emaps_dagster-{os.getuid()}").write_text("in the way")
    api.then(200, GOOD)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with ElectricityMapsClient(api.url, calls_per_minute=120) as client:
                client.history(CARBON, "GR")
    assert time.monotonic() - began >= 0.5
    assert "EMAPS_CALLS_PER_MINUTE holds for this process alone" in caplog.text
