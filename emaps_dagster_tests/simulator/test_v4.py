"""The simulated v4: bodies against the recorded ones, numbers against v3, and the traps of the contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

from emaps_dagster.contracts.signals import FLOWS
from emaps_dagster.simulator.server import Fault, Simulator

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "emaps_v4_fixtures"
NOW = datetime(2026, 8, 22, 20, 3, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
MIX = {"zone": "GR", "breakdownType": "normal"}
TRACED = {"zone": "GR", "breakdownType": "flow-traced"}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(now=NOW, version="v4") as simulator:
        yield simulator


def ask(sim: Simulator, path: str, **query: str) -> tuple[int, Any]:
    answer = requests.get(sim.url.removesuffix("/v4") + path, params={"zone": "GR", **query}, timeout=10)
    return answer.status_code, answer.json()


def history(sim: Simulator, signal: str, **query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ask(sim, f"/v4/{signal}/history", **query)[1]["history"]
    return rows


def shape(value: Any) -> Any:
    """Keys in their order, and types; maps of flows may name any neighbour, and a number may have decimals."""
    if isinstance(value, dict):
        return [(key, "flows" if key in ("import", "export") else shape(part)) for key, part in value.items()]
    if isinstance(value, list):
        return [shape(value[-1])]
    return "number" if type(value) in (int, float, type(None)) else type(value).__name__


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recorded bodies are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "path", "query"),
    [
        ("electricity-mix_latest_normal", "electricity-mix/latest", {"breakdownType": "normal"}),
        ("electricity-mix_latest_flow-traced", "electricity-mix/latest", {"breakdownType": "flow-traced"}),
        ("electricity-mix_history_normal", "electricity-mix/history", {}),
        ("electricity-mix_history_flow-traced", "electricity-mix/history", {"breakdownType": "flow-traced"}),
        ("electricity-flows_latest", "electricity-flows/latest", {}),
        ("electricity-flows_history", "electricity-flows/history", {}),
        ("renewable-energy_latest", "renewable-energy/latest", {}),
        ("carbon-free-energy_latest", "carbon-free-energy/latest", {}),
        ("carbon-intensity_history", "carbon-intensity/history", {}),
        ("carbon-intensity_latest", "carbon-intensity/latest", {}),
        ("power-breakdown_latest", "power-breakdown/latest", {}),
    ],
)
def test_a_body_has_the_keys_and_types_of_the_recorded_one(
    sim: Simulator, name: str, path: str, query: dict[str, str]
) -> None:
    recorded = json.loads((RECORDINGS / f"{name}_DK-DK2_20260822T2003Z.json").read_text("utf-8"))
    status, ours = ask(sim, f"/v4/{path}", **query)
    assert status == 200
    if "power" in name:
        for body in (recorded, ours):
            body |= {f"power{way}Breakdown": {} for way in ("Import", "Export")}
    assert shape(ours) == shape(recorded)


def test_v4_rounds_to_v3_in_every_column_of_the_same_hour_and_version(sim: Simulator) -> None:
    _, body = ask(sim, "/v3/power-breakdown/history")
    power = {row["datetime"]: row for row in body["history"]}
    assert history(sim, "power-breakdown") == list(power.values())
    by_signal = {
        name: history(sim, signal, **query)
        for name, signal, query in (
            ("mix", "electricity-mix", {}),
            ("traced", "electricity-mix", {"breakdownType": "flow-traced"}),
            ("flows", "electricity-flows", {}),
            ("renewable", "renewable-energy", {}),
            ("free", "carbon-free-energy", {}),
        )
    }
    decimals = 0
    for rows in zip(*by_signal.values(), strict=True):
        mix, traced, flows, renewable, free = rows
        row = power[mix["datetime"]]
        assert {one["datetime"] for one in rows} == {row["datetime"]}
        assert {one["updatedAt"] for one in rows} == {row["updatedAt"]}
        for key, whole in row["powerProductionBreakdown"].items():
            storage = mix["mix"].get(key.replace("discharge", "storage"))
            if isinstance(storage, dict):
                value = storage["discharge"] if storage["discharge"] is not None else -storage["charge"] or None
            else:
                value = mix["mix"][key]
            assert (value is None and whole is None) or round(value) == whole
        consumed = {
            key: traced["mix"][key] if key in traced["mix"] else traced["mix"][key.replace("discharge", "storage")]
            for key in row["powerConsumptionBreakdown"]
        }
        values = {key: value["discharge"] if isinstance(value, dict) else value for key, value in consumed.items()}
        assert {key: round(value) for key, value in values.items()} == row["powerConsumptionBreakdown"]
        assert round(sum(values.values()), 2) == row["powerConsumptionTotal"]
        decimals += sum(value != round(value) for value in values.values())
        assert mix["mix"]["flows"] == {"exports": row["powerExportTotal"], "imports": row["powerImportTotal"]}
        assert (flows["import"], flows["export"]) == (row["powerImportBreakdown"], row["powerExportBreakdown"])
        assert (renewable["value"], free["value"]) == (row["renewablePercentage"], row["fossilFreePercentage"])
        assert renewable["createdAt"] == row["createdAt"]
        method = row["estimationMethod"]
        assert mix["estimationMethod"] == (f"ESTIMATED_{method}" if row["isEstimated"] else "MEASURED")
        assert mix.get("isEstimated", False) is row["isEstimated"]
    assert decimals > 50


def test_an_unknown_breakdown_type_is_refused_and_v3_has_no_signals(sim: Simulator) -> None:
    assert ask(sim, "/v4/electricity-mix/latest", breakdownType="production") == (
        400,
        {"status": "error", "message": "Valid breakdown types are: normal, flow-traced"},
    )
    assert ask(sim, "/v3/electricity-mix/history")[0] == 404
    # Only the mix has a type: the others ignore it.
    assert ask(sim, "/v4/electricity-flows/history", breakdownType="production")[0] == 200


def test_one_signal_may_be_revised_between_two_calls_of_a_run(sim: Simulator) -> None:
    hour = NOW.replace(minute=0) - 5 * HOUR
    before = history(sim, "electricity-flows")[-6]
    sim.provider.revise("GR", hour, at=NOW - timedelta(minutes=1), feed=FLOWS)
    flows, mix = history(sim, "electricity-flows")[-6], history(sim, "electricity-mix")[-6]
    assert flows["updatedAt"] == "2026-08-22T20:02:00.000Z"
    assert mix["updatedAt"] == before["updatedAt"] != flows["updatedAt"]


def test_the_traps_of_flows_storages_and_marks(sim: Simulator) -> None:
    hour = NOW.replace(minute=0) - 6 * HOUR
    order = {"zone": "GR", "start": hour.isoformat(), "end": (hour + HOUR).isoformat()}
    good = history(sim, "electricity-flows")
    neighbour = next(iter(good[-7]["export"]), None) or next(iter(good[-7]["import"]))
    sim.control({"perturb": {"do": "swap_flows", "neighbour": neighbour, **order}})
    swapped = history(sim, "electricity-flows")[-7]
    assert swapped["import"].get(neighbour) == good[-7]["export"].get(neighbour)
    assert swapped["export"].get(neighbour) == good[-7]["import"].get(neighbour)
    sim.control({"perturb": {"do": "clear"}})
    sim.control({"perturb": {"do": "both_ways", "neighbour": neighbour, **order}})
    both = history(sim, "electricity-flows")[-7]
    assert neighbour in both["import"].keys() & both["export"].keys()
    sim.control({"perturb": {"do": "clear"}})
    sim.control({"perturb": {"do": "carry_flows", **order}})
    carried, mix = history(sim, "electricity-flows"), history(sim, "electricity-mix")
    assert (carried[-7]["import"], carried[-7]["export"]) == (good[-8]["import"], good[-8]["export"])
    assert mix[-7]["mix"]["flows"]["exports"] == sum(good[-8]["export"].values())
    sim.control({"perturb": {"do": "clear"}})
    for neighbour in ("AL", "BG", "IT-SO", "MK", "TR"):
        sim.control({"perturb": {"do": "drop_neighbour", "neighbour": neighbour, **order}})
    assert history(sim, "electricity-flows")[-7]["import"] == {}
    sim.control({"perturb": {"do": "silence", "mode": "hydro discharge", **order}})
    assert history(sim, "electricity-mix")[-7]["mix"]["hydro storage"] == {"charge": 0, "discharge": None}


def test_sandbox_marks_and_other_forms_of_a_body(sim: Simulator) -> None:
    sim.inject(Fault("sandbox", times=None))
    mix, flows = (ask(sim, f"/v4/{signal}/history")[1] for signal in ("electricity-mix", "electricity-flows"))
    assert {row["estimationMethod"] for row in mix["history"]} == {"SANDBOX_MODE_DATA"}
    assert "_disclaimer" not in mix
    assert "breakdownType" not in mix["history"][0]
    assert "SANDBOX" not in json.dumps(flows)
    sim.clear_faults()
    sim.inject(Fault("other_breakdown", feed="electricity-mix"))
    assert {row["breakdownType"] for row in history(sim, "electricity-mix")} == {"flow-traced"}
    sim.inject(Fault("quarter_hours", feed="electricity-flows"))
    body = ask(sim, "/v4/electricity-flows/history")[1]
    assert (body["temporalGranularity"], len(body["history"])) == ("15_minutes", 96)
