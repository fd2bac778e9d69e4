"""Bodies and records of v4's signals that must not be loaded, and those that must."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import NotInPlanError, RejectedBodyError
from emaps_dagster.contracts.responses import AcceptedResponse, RawResponse
from emaps_dagster.contracts.signals import CARBON_FREE, FLOWS, MIX, MIX_SIGNALS, RENEWABLE, TRACED_MIX
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import Feed
from emaps_dagster.electricity_maps.client import ElectricityMapsClient, admit
from emaps_dagster.electricity_maps.fetch import FetchFailure, fetch
from emaps_dagster.simulator.server import Fault, Simulator

UTC = timezone.utc
NOW = datetime(2026, 8, 22, 20, 3, tzinfo=UTC)
HOURS = Window(datetime(2026, 8, 22, 19, tzinfo=UTC), datetime(2026, 8, 22, 20, tzinfo=UTC))
RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "emaps_v4_fixtures"
recorded = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recorded bodies are not beside this checkout")
STAMPS = {"datetime": "2026-08-22T18:00:00.000Z", "updatedAt": "2026-08-22T18:49:00.000Z"}
GOOD: dict[Feed, dict[str, Any]] = {
    MIX: {
        **STAMPS,
        "estimationMethod": "MEASURED",
        "breakdownType": "normal",
        "mix": {
            "gas": 1.25,
            "wind": None,
            "hydro storage": {"charge": 0, "discharge": None},
            "flows": {"exports": 1, "imports": 2},
        },
    },
    TRACED_MIX: {**STAMPS, "breakdownType": "flow-traced", "mix": {"gas": 1, "battery storage": {"discharge": 0.06}}},
    FLOWS: {**STAMPS, "import": {}, "export": {"IT-SO": 5}},
    RENEWABLE: {**STAMPS, "zone": "GR", "unit": "%", "value": 91},
    CARBON_FREE: {**STAMPS, "zone": "GR", "unit": "%", "value": None},
}


def response(feed: Feed, body: Any, zone: str = "GR") -> RawResponse:
    text = body if isinstance(body, str) else json.dumps(body)
    return RawResponse(feed, zone, "history", f"/v4/{feed.endpoint}/history?zone={zone}", text, NOW)


def with_rows(*rows: Any, **envelope: Any) -> dict[str, Any]:
    return {"zone": "GR", "temporalGranularity": "hourly", "history": list(rows), **envelope}


@pytest.mark.parametrize("feed", MIX_SIGNALS, ids=lambda feed: feed.name)
def test_a_good_body_is_admitted_whole(feed: Feed) -> None:
    admitted = admit(response(feed, with_rows(GOOD[feed])))
    assert (admitted.trusted_json, admitted.rejected) == (None, ())
    assert f"{admitted.window.start:%H:%M}" == "18:00"


def test_modes_and_storages_that_the_api_adds_and_a_zone_does_not_have_cost_no_record() -> None:
    added = {"fusion": 0, "tidal": None, "heat storage": {"charge": 0, "discharge": None}}
    mix = {**GOOD[MIX]["mix"], **added}
    assert admit(response(MIX, with_rows({**GOOD[MIX], "mix": mix}))).rejected == ()


@pytest.mark.parametrize(
    ("feed", "changes", "reason"),
    [
        (MIX, {"breakdownType": "flow-traced"}, "breakdownType of row 2026-08-22T18:00:00.000Z is 'flow-traced'"),
        (MIX, {"breakdownType": None}, "is 'None', not 'normal'"),
        (MIX, {"mix": {"fusion": 50}}, "has the mode 'fusion', which zones.py does not know"),
        (MIX, {"mix": {"fusion": False}}, "has the mode 'fusion', which zones.py does not know"),
        (MIX, {"mix": {"heat storage": {"charge": 5, "discharge": None}}}, "has the mode 'heat storage'"),
        (MIX, {"mix": {"hydro storage": -5}}, "mix.hydro storage of row 2026-08-22T18:00:00.000Z is not an object"),
        (MIX, {"mix": {"hydro discharge": 5}}, "has the mode 'hydro discharge'"),
        (MIX, {"mix": {"battery storage": {"charge": -5}}}, "mix.battery storage.charge of row"),
        (MIX, {"mix": {"battery storage": {"net": 5}}}, "has the key 'net', not charge or discharge"),
        (MIX, {"mix": {"flows": {"imports": "5"}}}, "mix.flows.imports of row"),
        (MIX, {"mix": {"gas": 2_147_220_000}}, "mix.gas of row 2026-08-22T18:00:00.000Z is beyond 1e+09"),
        (MIX, {"mix": None}, "mix of row 2026-08-22T18:00:00.000Z is not an object"),
        (MIX, {"updatedAt": None}, "has no updatedAt, so its version is unknown"),
        (MIX, {"unit": "GW"}, "unit of row 2026-08-22T18:00:00.000Z is 'GW', not 'MW'"),
        (MIX, {"temporalGranularity": "15_minutes"}, "is '15_minutes', not 'hourly'"),
        (TRACED_MIX, {"breakdownType": "normal"}, "is 'normal', not 'flow-traced'"),
        (FLOWS, {"import": []}, "import of row 2026-08-22T18:00:00.000Z is not an object"),
        (FLOWS, {"export": {"": 5}}, "has '' where a zone key belongs"),
        (FLOWS, {"import": {"BG": "5"}}, "import.BG of row 2026-08-22T18:00:00.000Z is not a number"),
        (RENEWABLE, {"value": "91"}, "value of row 2026-08-22T18:00:00.000Z is not a number"),
        (RENEWABLE, {"unit": "MW"}, "is 'MW', not '%'"),
        (RENEWABLE, {"flowTraced": False}, "is false, so it is of production instead of consumption"),
        (CARBON_FREE, {"zone": "BG"}, "is for zone 'BG', not 'GR'"),
    ],
)
def test_a_bad_record_is_quarantined_and_its_neighbour_is_loaded(
    feed: Feed, changes: dict[str, Any], reason: str
) -> None:
    later = {**GOOD[feed], "datetime": "2026-08-22T19:00:00.000Z"}
    admitted = admit(response(feed, with_rows({**GOOD[feed], **changes}, later)))
    [record] = admitted.rejected
    assert reason in record.reason
    assert (record.position, f"{record.hour:%H:%M}") == (0, "18:00")
    assert json.loads(admitted.trusted_body)["history"] == [later]


@pytest.mark.parametrize(
    ("feed", "body", "reason"),
    [
        (MIX, with_rows({**GOOD[MIX], "estimationMethod": "SANDBOX_MODE_DATA"}), "sandbox data"),
        (MIX, with_rows(GOOD[MIX], unit="GW"), "its unit is 'GW', not 'MW'"),
        (MIX, with_rows(GOOD[MIX], zone="BG"), "it is for zone 'BG', not 'GR'"),
        (MIX, with_rows(GOOD[MIX], temporalGranularity="15_minutes"), "'15_minutes', not 'hourly'"),
        (MIX, with_rows(GOOD[TRACED_MIX]), "is 'flow-traced', not 'normal', as is that of every row"),
        (TRACED_MIX, with_rows(GOOD[MIX]), "is 'normal', not 'flow-traced', as is that of every row"),
        (FLOWS, with_rows(GOOD[MIX]), "lacks the key 'import', so it is no row of electricity-flows, nor is any other"),
        (FLOWS, with_rows(), "it has no rows"),
        (RENEWABLE, with_rows(GOOD[FLOWS]), "lacks the key 'value', so it is no row of renewable-energy"),
        (RENEWABLE, with_rows(GOOD[RENEWABLE], flowTraced=False), "flowTraced of the body is false"),
    ],
)
def test_a_body_of_something_else_is_rejected(feed: Feed, body: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedBodyError, match="is not loaded") as caught:
        admit(response(feed, body))
    assert reason in caught.value.reason


@recorded
@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDINGS.glob("electricity-*_history*")))
def test_every_recorded_history_is_admitted_whole(name: str) -> None:
    feed = TRACED_MIX if "flow-traced" in name else FLOWS if "flows" in name else MIX
    text = (RECORDINGS / f"{name}.json").read_text("utf-8")
    admitted = admit(response(feed, text, zone="FR" if "_FR_" in name else "DK-DK2"))
    assert (admitted.trusted_json, len(json.loads(text)["history"])) == (None, 24)


@recorded
def test_the_recorded_sandbox_mix_is_rejected() -> None:
    [path] = RECORDINGS.glob("sandbox_electricity-mix_*")
    with pytest.raises(RejectedBodyError, match="sandbox"):
        admit(response(MIX, path.read_text("utf-8"), zone="FR"))


# --- over HTTP ------------------------------------------------------------------------------------


def outcomes_of(sim: Simulator, window: Window = HOURS) -> list[AcceptedResponse | FetchFailure]:
    with ElectricityMapsClient(sim.url, SecretStr("a-token"), clock=sim.now, attempts=1) as client:
        return list(fetch(client, MIX_SIGNALS, ("GR",), window, NOW))


def test_the_signals_of_each_range_are_requested_side_by_side() -> None:
    with Simulator(now=NOW, version="v4") as sim:
        window = Window(datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 8, 22, 20, tzinfo=UTC))
        outcomes = outcomes_of(sim, window)
        asked = [request.path for request in sim.requests]
    assert all(isinstance(outcome, AcceptedResponse) for outcome in outcomes)
    names = [path.split("?")[0].removeprefix("/v4/") for path in asked]
    signals = ["electricity-mix"] * 2 + ["electricity-flows", "renewable-energy", "carbon-free-energy"]
    assert names == [f"{name}/history" for name in signals] + 3 * [f"{name}/past-range" for name in signals]
    assert asked[1] == "/v4/electricity-mix/history?zone=GR&breakdownType=flow-traced"
    assert asked[6].startswith("/v4/electricity-mix/past-range?zone=GR&breakdownType=flow-traced&start=2026-08-01T00")


@pytest.mark.parametrize("unanswered", [0, 1], ids=["both mixes have the mark", "flow-traced has it alone"])
def test_flows_of_a_sandbox_key_are_refused_though_they_carry_no_mark(unanswered: int) -> None:
    with Simulator(now=NOW, version="v4") as sim:
        if unanswered:
            sim.inject(Fault("server_error", feed="electricity-mix", times=1))
        sim.inject(Fault("sandbox", times=None))
        outcomes = outcomes_of(sim)
        sim.clear_faults()
        mended = outcomes_of(sim)
    assert all(isinstance(outcome, FetchFailure) for outcome in outcomes)
    reasons = [str(one.error) for one in outcomes if isinstance(one, FetchFailure)]
    assert "electricity-mix of the same call is marked as the provider's sandbox data" in reasons[2]
    assert all(isinstance(outcome, AcceptedResponse) for outcome in mended)


@pytest.mark.parametrize("kind", ["not_in_plan", "not_in_trial"])
def test_a_plan_without_percentages_is_no_failure_and_one_without_flows_is(kind: Any) -> None:
    with Simulator(now=NOW, version="v4") as sim:
        for name in ("renewable-energy", "carbon-free-energy"):
            sim.inject(Fault(kind, feed=name, times=None))
        outcomes = outcomes_of(sim)
        failures = [one for one in outcomes if isinstance(one, FetchFailure)]
        assert [one.is_tolerated for one in failures] == [True, True]
        assert len(outcomes) == 5
        sim.inject(Fault(kind, feed="electricity-flows", times=None))
        [failed] = [one for one in outcomes_of(sim) if isinstance(one, FetchFailure) and not one.is_tolerated]
    assert type(failed.error) is NotInPlanError
    assert "electricity-flows/history of zone GR" in str(failed.error)
    # test_roads.py performs it.
    assert "`python -m emaps_dagster.cli.preflight` says whether the token is served power-breakdown" in str(
        failed.error
    )
