"""Dagster's command `dg` finds the project: `[tool.dg]` of pyproject.toml."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
DG = Path(sys.executable).with_name("dg")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    return {**os.environ, "DAGSTER_HOME": str(home), "DG_CLI_CONFIG": str(tmp_path / "dg.toml"), "NO_COLOR": "1"}


def dg(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [DG, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dg_lists_the_assets_and_finds_the_definitions_right(environment: dict[str, str]) -> None:
    listed = json.loads(dg(environment, "list", "defs", "--json"))
    names = {asset["asset_key"] for asset in listed["assets"]}
    assert names == {"bronze/power_data", "bronze/carbon_data", "silver/energy_data", "gold/ml_features", "health"}
    dg(environment, "check", "defs")


@pytest.mark.long("`make dev` is looked at in test_ui.py, and `dg` loads the definitions in the test above")
def test_dg_dev_serves_the_definitions(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [DG, "dev", "--host", "127.0.0.1", "--port", str(port)]
    said = tmp_path / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    query = {"query": "{ repositoriesOrError { ... on RepositoryConnection { nodes { jobs { name } } } } }"}
    jobs: set[str] = set()
    try:
        for _ in range(600):
            try:
                answer = requests.post(f"http://127.0.0.1:{port}/graphql", json=query, timeout=10).json()
                nodes = answer["data"]["repositoriesOrError"]["nodes"]
                jobs = {job["name"] for node in nodes for job in node["jobs"]}
            except (requests.RequestException, KeyError):
                jobs = set()
            if jobs or process.poll() is not None:
                break
            time.sleep(0.2)
    finally:
        end(process)
    assert {"hourly", "rebuild", "withdraw", "maintenance", "health_report", "backfill_cost"} <= jobs, said.read_text()


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupts the command, then ends all that it started, whatever signals this shell has it ignore."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            continue
        break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
