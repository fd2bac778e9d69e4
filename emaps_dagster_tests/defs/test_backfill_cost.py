"""The job `backfill_cost` logs the calls of a backfill and fetches nothing."""

from __future__ import annotations

import dagster as dg
import pytest

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.definitions import build_definitions
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.builders import utc

TOKEN = "a-token"
NOW = utc(2024, 5, 4, 10, 7)


def test_the_cost_of_a_backfill_is_a_job_that_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    monkeypatch.setenv("EMAPS_CALLS_PER_MINUTE", "30")
    with Simulator(token=TOKEN, zones=("GR", "BG"), now=NOW) as sim:
        settings = Settings(api_url=sim.url, zones=("GR", "BG"), fixed_now=NOW, _env_file=None)
        job = build_definitions(settings).resolve_job_def("backfill_cost")
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(run_config={"start": "2023-01-01", "end": "2024-01-01"}, instance=instance)
            said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert (
        "[2023-01-01T00:00Z, 2024-01-01T00:00Z), 8760 hours: 148 calls (2 zones, 2 signals, 37 each), "
        "0:04:56 at EMAPS_CALLS_PER_MINUTE=30. Nothing was fetched." in said
    )
    assert [request.path for request in sim.requests] == ["/v3/zones"]
