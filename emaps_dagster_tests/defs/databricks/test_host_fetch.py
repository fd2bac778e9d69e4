"""EMAPS_DATABRICKS_FETCH=host: the cost of a backfill is reported by the machine that reaches the API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest

from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.launched_jobs import run_job
from harness.databricks_emulator.workspace import LACKING, Workspace

pytestmark = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))

NOW = datetime(2026, 11, 24, 21, 7, tzinfo=timezone.utc)
TOKEN = "token-of-electricity-maps"
YEAR = {"start": "2023-01-01", "end": "2024-01-01"}


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    # No secret: nothing that is launched here could ask the API.
    with Workspace(tmp_path / "workspace", spark=False) as made:
        yield made


@pytest.mark.parametrize(("plan", "warned"), [("paid", []), ("free", ["GR"])])
def test_the_cost_of_a_backfill_and_the_plan_are_known_where_this_machine_fetches(
    workspace: Workspace, plan: str, warned: list[str]
) -> None:
    with Simulator(token=TOKEN, zones=("GR",), now=NOW, plan=plan) as sim, dg.DagsterInstance.ephemeral() as instance:
        settings = {
            "EMAPS_DEPLOYMENT": "databricks",
            "EMAPS_DATABRICKS_HOST": workspace.host,
            "EMAPS_DATABRICKS_TOKEN": workspace.token,
            "EMAPS_DATABRICKS_COMPUTE": "serverless",
            "EMAPS_DATABRICKS_STAGING": workspace.volume,
            "EMAPS_DATABRICKS_FETCH": "host",
            "EMAPS_API_URL": sim.url,
            "EMAPS_API_TOKEN": TOKEN,
            "EMAPS_FIXED_NOW": NOW.isoformat(),
        }
        result = run_job(settings, "backfill_cost", instance, run_config=YEAR)
        said = [entry.user_message for entry in instance.all_logs(result.run_id)]
        assert (
            "[2023-01-01T00:00Z, 2024-01-01T00:00Z), 8760 hours: 74 calls (1 zone, 2 signals, 37 each). Nothing was "
            "fetched." in said
        )
        assert [text for text in said if "is not known" in text] == []
        unserved = [text.rpartition("for ")[2] for text in said if "the plan does not serve" in text]
        assert unserved == warned
        assert [request.path for request in sim.requests] == ["/v3/zones"]
    assert workspace.runs == []
