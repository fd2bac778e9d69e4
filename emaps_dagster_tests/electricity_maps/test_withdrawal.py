"""power-breakdown refused for a zone whose carbon-intensity is served, against the simulator over HTTP."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import GoneError, NoDataError, NotInPlanError, ProviderError, WithdrawnError
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import POWER
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.fetch import FetchFailure, fetch
from emaps_dagster.simulator.server import Fault, Simulator

UTC = timezone.utc
NOW = datetime(2026, 8, 22, 20, 3, tzinfo=UTC)
RECENT = Window(datetime(2026, 8, 22, 19, tzinfo=UTC), datetime(2026, 8, 22, 20, tzinfo=UTC))
OLD = Window(datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 8, 2, tzinfo=UTC))


def failure_of(sim: Simulator, window: Window) -> ProviderError:
    with ElectricityMapsClient(sim.url, SecretStr("a-token"), clock=sim.now, attempts=1) as client:
        [failed] = fetch(client, POWER, ("GR",), window, NOW)
    assert isinstance(failed, FetchFailure)
    return failed.error


@pytest.mark.parametrize(("version", "remedy"), [("v3", "Set EMAPS_API_URL="), ("v4", "Set EMAPS_POWER_SIGNAL=")])
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("not_in_plan", "Request unauthorized for zoneKey=GR,requestType=history,dataType=power-breakdown."),
        ("not_in_trial", "This endpoint is not included in your API trial"),
        ("invalid_token", "HTTP 401"),
        ("not_found", "HTTP 404"),
        ("gone", "HTTP 410"),
    ],
)
def test_a_refusal_of_power_breakdown_alone_names_withdrawal_and_the_other_road(
    version: Any, remedy: str, kind: Any, says: str
) -> None:
    with Simulator(now=NOW, version=version) as sim:
        sim.inject(Fault(kind, feed="power-breakdown", times=None))
        error = failure_of(sim, RECENT)
        asked = [request.path for request in sim.requests]
    assert type(error) is WithdrawnError
    for part in (
        says,
        "power-breakdown/history of zone GR",
        "But carbon-intensity/history of the same zone is answered",
        "power-breakdown is withdrawn, or not in the token's plan",
        remedy,
        "EMAPS_POWER_SIGNAL=electricity-mix",
    ):
        assert part in str(error)
    assert asked == [f"/{version}/power-breakdown/history?zone=GR", f"/{version}/carbon-intensity/history?zone=GR"]


@pytest.mark.parametrize(
    ("kind", "error"), [("not_in_plan", NotInPlanError), ("not_found", NoDataError), ("gone", GoneError)]
)
def test_a_refusal_of_both_feeds_is_not_taken_for_a_withdrawal(kind: Any, error: type[ProviderError]) -> None:
    with Simulator(now=NOW, version="v4") as sim:
        sim.inject(Fault(kind, times=None))
        assert type(failure_of(sim, RECENT)) is error


def test_old_hours_are_compared_with_old_hours_and_a_range_without_data_is_no_withdrawal() -> None:
    with Simulator(now=NOW, version="v4") as sim:
        sim.inject(Fault("not_in_plan", feed="power-breakdown", times=None))
        error = failure_of(sim, OLD)
        assert type(error) is WithdrawnError
        assert "carbon-intensity/past-range of the same zone is answered" in str(error)
        sim.clear_faults()
        sim.inject(Fault("not_found", feed="power-breakdown"))
        assert type(failure_of(sim, OLD)) is NoDataError


def test_a_plan_without_past_range_is_no_withdrawal() -> None:
    with Simulator(now=NOW, version="v4", plan="free") as sim:
        error = failure_of(sim, Window(OLD.start, OLD.start + HOUR))
    assert type(error) is NotInPlanError
    assert "Hours older than a day need a plan with past-range" in str(error)
