"""What Dagster's instance says of our runs: which go on, which are dead, why one failed, what the plan serves."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.defs.instance.runs import active_runs, heartbeat_timeout, outcome_of, tags_of
from emaps_dagster.defs.resources.api_plan import plan_of
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.support.builders import utc

HOURS = Window(utc(2024, 5, 4, 6), utc(2024, 5, 4, 9))
NOW = utc(2024, 5, 4, 10)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as one:
        yield one


def started(instance: dg.DagsterInstance, job: str = "hourly", **tags: str) -> dg.DagsterRun:
    run = create_run_for_test(
        instance, job_name=job, tags={**tags_of(HOURS), **tags}, status=dg.DagsterRunStatus.STARTED
    )
    instance.report_engine_event("its process began", run)
    return run


def test_a_run_that_goes_on_is_known_by_its_hours(instance: dg.DagsterInstance) -> None:
    mine = started(instance)
    in_the_ui = started(instance, job="__ASSET_JOB")
    started(instance, job="rebuild")
    create_run_for_test(instance, job_name="hourly", tags=tags_of(HOURS), status=dg.DagsterRunStatus.SUCCESS)
    assert active_runs(instance, 3600) == {mine.run_id: HOURS, in_the_ui.run_id: HOURS}


def test_a_run_of_which_nothing_is_heard_is_reported_as_failed_and_holds_up_nothing(
    instance: dg.DagsterInstance,
) -> None:
    run = started(instance)
    assert active_runs(instance, silence=-1) == {}
    (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    assert record.dagster_run.status == dg.DagsterRunStatus.FAILURE
    (cause,) = outcome_of(instance, record).causes
    assert cause.sentence == ("Nothing was heard of this run for 0 minutes: its process has died. It can be retried.")


def test_a_queued_run_may_wait_for_ever(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, job_name="hourly", tags=tags_of(HOURS), status=dg.DagsterRunStatus.NOT_STARTED)
    assert active_runs(instance, silence=-1) == {run.run_id: HOURS}


def test_a_step_on_a_cluster_may_be_silent_until_it_ends() -> None:
    assert heartbeat_timeout(Settings(_env_file=None)) == 3600
    assert heartbeat_timeout(Settings(deployment="databricks", _env_file=None)) == 3600 + 28800


def test_the_plan_is_requested_once_a_day_and_kept_while_the_provider_is_down(instance: dg.DagsterInstance) -> None:
    with Simulator(now=NOW, plan="free", zones=("GR",)) as sim:
        api = ElectricityMapsResource(api_url=sim.url, now=NOW.isoformat())
        for _ in range(3):
            plan = plan_of(instance, api, ("GR",), NOW)
        assert plan is not None
        assert [request.path for request in sim.requests] == ["/v3/zones"]
        sim.inject(Fault("server_error", times=None, endpoint="zones"))
        assert plan_of(instance, api, ("GR",), NOW + 25 * HOUR) == plan
        # Another list of zones is another question.
        assert plan_of(instance, api, ("GR", "BG"), NOW) is None
