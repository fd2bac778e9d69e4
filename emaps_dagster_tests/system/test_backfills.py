"""Long backfills: what they cost is said before, how far they are meanwhile, and a killed one goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pydantic import SecretStr

from emaps_dagster.contracts.tables import CARBON_DATA
from emaps_dagster.contracts.windows import HOUR, Window, utc_now
from emaps_dagster.contracts.zones import POWER
from emaps_dagster.defs.assets.bronze import resumes_since
from emaps_dagster.defs.names import RESUME_TAG
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.fetch import count_requests, fetch
from emaps_dagster.pipeline.ingest import Progress
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.support.builders import utc

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token"
# The hourly job's bronze alone: what lies above is made of whatever bronze has, as other tests show.
_BRONZE_ALONE = """
import dagster as dg

from emaps_dagster.definitions import build_definitions
from emaps_dagster.contracts.settings import read_settings

whole = build_definitions(read_settings())
bronze = dg.define_asset_job("bronze", selection=["bronze/carbon_data", "bronze/power_data"])
defs = dg.Definitions(assets=whole.assets, jobs=[bronze], resources=whole.resources, executor=whole.executor)
# Dagster's command wants one only.
del whole
"""
NOW = utc(2024, 5, 4, 10) + timedelta(minutes=7)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(token=TOKEN, zones=("GR", "BG"), now=NOW) as simulator:
        yield simulator


# --- cost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "cost"),
    [
        (utc(2023, 1, 1), utc(2024, 1, 1), 37),
        (utc(2024, 5, 4, 9), utc(2024, 5, 4, 10), 1),
        (utc(2024, 5, 3, 10), utc(2024, 5, 3, 11), 1),
        (utc(2024, 4, 20), utc(2024, 5, 4, 10), 3),
    ],
)
def test_the_calls_of_a_window_are_known_before_it_is_fetched(
    sim: Simulator, start: datetime, end: datetime, cost: int
) -> None:
    window = Window(start, end)
    assert count_requests(window, NOW) == cost
    with ElectricityMapsClient(sim.url, SecretStr(TOKEN), clock=sim.now) as client:
        list(fetch(client, POWER, ("GR",), window, NOW))
    assert len(sim.requests) == cost


def test_calls_are_spaced_when_the_limit_is_known(sim: Simulator) -> None:
    began = time.monotonic()
    with ElectricityMapsClient(sim.url, SecretStr(TOKEN), clock=sim.now, calls_per_minute=300) as client:
        list(fetch(client, POWER, ("GR",), Window(utc(2024, 1, 1), utc(2024, 2, 10)), NOW))
    assert len(sim.requests) == 4
    assert time.monotonic() - began >= 3 * 0.2


# --- progress -------------------------------------------------------------------------------------


def test_a_backfill_says_how_far_it_is_and_a_tick_says_nothing() -> None:
    said: list[str] = []
    progress = Progress(CARBON_DATA, planned=37, answered=10, log=said.append)
    progress.after_batch(10, [Window(utc(2024, 1, 1), utc(2024, 1, 11))] * 10)
    assert said[0] == (
        "bronze.carbon_data: goes on where an earlier attempt ended: 10 of 37 calls are answered and stored."
    )
    assert said[1].startswith("bronze.carbon_data: 2,400 hours stored, 20 of 37 calls answered, 17 left, about 0:00:")
    Progress(CARBON_DATA, planned=1, answered=0, log=said.append).after_batch(
        1, [Window(utc(2024, 1, 1), utc(2024, 1, 2))]
    )
    assert len(said) == 2


# --- going on -------------------------------------------------------------------------------------


def test_a_retry_goes_on_from_the_first_try_and_a_first_try_or_one_of_long_ago_does_not() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        first = create_run_for_test(instance)
        retry = create_run_for_test(instance, root_run_id=first.run_id, parent_run_id=first.run_id)
        now = utc_now()
        assert resumes_since(first, instance, now) is None
        since = resumes_since(retry, instance, now)
        assert since is not None
        assert timedelta(0) <= now - since < timedelta(minutes=5)
        assert resumes_since(retry, instance, now + timedelta(days=2)) is None
        # On a cluster the run's instance is an empty one.
        with dg.DagsterInstance.ephemeral() as elsewhere:
            assert resumes_since(retry, elsewhere, now) is None
        tagged = create_run_for_test(instance, tags={RESUME_TAG: "2024-05-04T06:00Z"})
        assert resumes_since(tagged, instance, NOW) == utc(2024, 5, 4, 6)


def test_what_was_answered_is_not_requested_again_and_the_rest_is(sim: Simulator) -> None:
    window = Window(utc(2024, 3, 1), utc(2024, 4, 5))
    with ElectricityMapsClient(sim.url, SecretStr(TOKEN), clock=sim.now) as client:
        answered = {client.past_range_request(POWER, "GR", Window(utc(2024, 3, 11), utc(2024, 3, 21)))}
        got = list(fetch(client, POWER, ("GR", "BG"), window, NOW, answered))
    assert len(got) == 7
    assert not answered & {request.path for request in sim.requests}


def test_a_killed_backfill_goes_on_where_it_stopped(tmp_path: Path) -> None:
    # Twelve calls a feed, of as few hours as can be: Dagster stores events of each.
    zones = ("GR", "AL", "BG", "IT-SO", "MK", "RO", "RS", "TR", "HU", "FR", "ES", "PT")
    end = utc_now().replace(minute=0, second=0, microsecond=0) - 48 * HOUR
    start = end - 5 * 24 * HOUR
    home, warehouse = tmp_path / "home", tmp_path / "warehouse"
    home.mkdir()
    code = tmp_path / "bronze_alone.py"
    code.write_text(_BRONZE_ALONE)
    (home / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nevent_log_storage:\n  module: emaps_dagster.defs.instance.storage.sqlite\n"
        f"  class: OpenSqliteEventLog\n  config: {{base_dir: {home}/events}}\n"
    )
    with Simulator(token=TOKEN, zones=zones) as simulator:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EMAPS_")},
            "EMAPS_API_TOKEN": TOKEN,
            "EMAPS_API_URL": simulator.url,
            "EMAPS_ZONES": ",".join(zones),
            "EMAPS_WAREHOUSE": str(warehouse),
            "EMAPS_START": f"{start:%Y-%m-%dT%H:00}",
            "DAGSTER_HOME": str(home),
            "PYTHONPATH": str(ROOT),
        }

        def run(**more: str) -> subprocess.Popen[bytes]:
            names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
            keys = (f"{start:%Y-%m-%d-%H:00}", f"{end - HOUR:%Y-%m-%d-%H:00}")
            tags = json.dumps({**dict(zip(names, keys, strict=True)), **more})
            command = ("job", "execute", "-f", str(code), "-j", "bronze", "--tags", tags)
            arguments = [sys.executable, "-m", "dagster", *command]
            log = (tmp_path / "log").open("ab")
            with log:
                return subprocess.Popen(arguments, env=environment, cwd=tmp_path, stdout=log, stderr=log)

        began = datetime.now(timezone.utc)
        simulator.inject(Fault("slow", times=None, seconds=0.6))
        process = run()
        try:
            while not (stored := _requests(warehouse)):
                assert process.poll() is None
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        asked = [request.path for request in simulator.requests]
        assert len(asked) < 24
        simulator.clear_faults()
        simulator.requests.clear()
        again = run(**{RESUME_TAG: began.isoformat()})
        assert again.wait(240) == 0
        asked_again = Counter(request.path for request in simulator.requests)
    assert not stored & set(asked_again)
    assert sum(asked_again.values()) == 24 - len(stored)
    assert max(Counter(_all_requests(warehouse)).values()) == 1
    assert len(_all_requests(warehouse)) == 24


def _all_requests(warehouse: Path) -> list[str]:
    found: list[str] = []
    for name in ("carbon_data", "power_data"):
        try:
            table = DeltaTable(str(warehouse / "bronze" / name)).to_pyarrow_table(columns=["request"])
        except TableNotFoundError:
            continue
        found += table["request"].to_pylist()
    return found


def _requests(warehouse: Path) -> set[str]:
    return set(_all_requests(warehouse))
