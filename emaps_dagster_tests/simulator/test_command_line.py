"""`python -m emaps_dagster.simulator` as a process: its address, its clock, its end, wrong options."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
import requests

from emaps_dagster.contracts.zones import POWER
from emaps_dagster.simulator.__main__ import main
from emaps_dagster.simulator.provider import Provider

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-that-must-stay-secret"


def start_command(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "emaps_dagster.simulator", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_serves_obeys_and_ends_by_sigterm() -> None:
    with start_command("--port", "0", "--zones", "GR", "--token", TOKEN, "--now", "2024-05-04T10:07:00Z") as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v3", url)

            def latest() -> str:
                query = f"{url}/power-breakdown/latest?zone=GR"
                return str(requests.get(query, headers={"auth-token": TOKEN}, timeout=10).json().get("datetime"))

            control = url.removesuffix("/v3") + "/_control"
            assert latest() == "2024-05-04T10:00:00.000Z"
            assert requests.post(control, json={"now": "2024-05-04T13:59:59Z"}, timeout=10).status_code == 204
            assert latest() == "2024-05-04T13:00:00.000Z"
            gap = {"do": "withhold", "zone": "GR", "start": "2024-05-04T12:00Z", "end": "2024-05-04T14:00Z"}
            assert requests.post(control, json={"perturb": gap}, timeout=10).status_code == 204
            assert latest() == "2024-05-04T11:00:00.000Z"
            requests.post(control, json={"fault": {"kind": "server_error", "times": 2}}, timeout=10)
            assert [latest() for _ in range(3)] == ["None", "None", "2024-05-04T11:00:00.000Z"]
            for wrong in ({"fault": {"kind": "fire"}}, {"perturb": {"do": "eat"}}, {"noww": 1}, {"now": "soon"}):
                refused = requests.post(control, json=wrong, timeout=10)
                assert (refused.status_code, list(refused.json())) == (400, ["status", "message"])
            status = requests.get(control, timeout=10).json()
            assert (status["now"], status["faults"], status["planted"]) == ("2024-05-04T13:59:59+00:00", [], 1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--port", "web"], "argument --port: 'web': a number from 0 to 65535 is allowed"),
        (["--now", "soon"], "argument --now: 'soon': a time such as 2024-05-04T10:07:00Z is allowed"),
        (["--zones", ","], "argument --zones: ',': at least one zone key is needed, such as GR"),
        (["--fault", "fire"], "argument --fault: 'fire': one of invalid_token, "),
        (["--fault", "slow:0"], "argument --fault: 'slow:0': after the colon stands how many times, at least 1"),
        (["--plan", "gold"], "argument --plan: invalid choice"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(
    options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_port_in_use_is_one_clear_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit):
            main(["--port", str(port)])
    assert f"--port {port}: Address already in use; 0 takes a free one" in capsys.readouterr().err


def test_another_process_with_another_hash_seed_sends_the_same_bytes() -> None:
    code = (
        "from datetime import datetime, timezone; from emaps_dagster.simulator.provider import Provider;"
        "from emaps_dagster.contracts.zones import POWER; import sys;"
        "at = datetime(2024, 3, 6, 19, 20, tzinfo=timezone.utc); p = Provider(); p.shuffle('GR');"
        "sys.stdout.buffer.write(p.body(POWER, 'GR', 'history', at))"
    )
    here = Provider()
    here.shuffle("GR")
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "TZ": "America/New_York"}
    there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert there.stdout == here.body(POWER, "GR", "history", datetime(2024, 3, 6, 19, 20, tzinfo=timezone.utc))
