"""Deployment `spark` as its own process: an hourly run by the command line, beside one of the embedded deployment."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from emaps_dagster.contracts.errors import EngineError
from emaps_dagster.contracts.tables import ENERGY_DATA
from emaps_dagster.lakehouse import spark_sessions
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.support.command_line import check_evaluations, run_hourly_job
from emaps_dagster_tests.support.pipeline_harness import GOLD, stored_rows
from emaps_dagster_tests.support.reference_implementation import differences

TOKEN = "a-token-that-no-body-holds"
NOW = datetime(2024, 5, 4, 10, 7, tzinfo=timezone.utc)


@pytest.fixture
def java() -> None:
    try:
        spark_sessions._check_java()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("java")
def test_an_hourly_run_of_deployment_spark_leaves_the_same_gold_and_green_checks(tmp_path: Path) -> None:
    # By the long road, which reads and joins more; test_databricks_end_to_end.py takes power-breakdown.
    with Simulator(token=TOKEN, zones=("GR",), now=NOW, version="v4") as simulator:
        simulator.inject(Fault("long_numbers", times=None))
        homes = {name: tmp_path / name / "home" for name in ("embedded", "spark")}
        for deployment, home in homes.items():
            done = run_hourly_job(
                home,
                "2024-05-04-09:00",
                deployment=deployment,
                api_url=simulator.url,
                power_signal="electricity-mix",
                api_token=TOKEN,
                warehouse=home.parent / "warehouse",
                fixed_now="2024-05-04T10:07:00Z",
                start="2024-05-01",
            )
            assert done.returncode == 0, done.stderr.decode()[-3000:]
    one, other = (check_evaluations(home) for home in homes.values())
    passed = [sorted((e.check_name, str(e.partition), e.passed) for e in each) for each in (one, other)]
    assert passed[0] == passed[1]
    assert all(e.passed for e in other)
    # The running hour is left out.
    assert len(stored_rows(tmp_path / "spark" / "warehouse", GOLD)) == 23
    silver = stored_rows(tmp_path / "spark" / "warehouse", ENERGY_DATA)
    assert {row["source_power"] for row in silver.values()} == {"electricitymaps/v4/electricity-mix"}
    for table in (ENERGY_DATA, GOLD):
        ours, theirs = (stored_rows(tmp_path / name / "warehouse", table) for name in homes)
        assert ours
        assert differences(theirs, ours) == [], table.qualified_name
