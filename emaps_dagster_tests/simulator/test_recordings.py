"""The simulated bodies against the recorded ones: keys in their order, types, null where they have null."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

from emaps_dagster.simulator.server import Simulator

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "emaps_v3_fixtures"
pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recorded bodies are not beside this checkout")

TOKEN = "a-token-that-must-stay-secret"
# The moment of the recorded bodies of DE.
RECORDED = datetime(2024, 3, 6, 19, 20, tzinfo=timezone.utc)
MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(token=TOKEN, zones=("GR", "DE", "DK-DK2", "IT-SO", "US-CAR-DUK"), now=RECORDED) as simulator:
        yield simulator


def ask(sim: Simulator, path: str, *, token: str | None = TOKEN, **query: str) -> tuple[int, Any]:
    """Status and parsed body of a GET over HTTP."""
    headers = {"auth-token": token} if token else {}
    answer = requests.get(sim.url.removesuffix("/v3") + path, params=query, headers=headers, timeout=10)
    return answer.status_code, answer.json()


def shape(value: Any) -> Any:
    """A body without its values: keys in order, types, the form of times; a list is the shapes it holds."""
    if isinstance(value, dict):
        return [(key, shape(part)) for key, part in value.items()]
    if isinstance(value, list):
        return sorted({repr(shape(part)) for part in value})
    if isinstance(value, str) and MILLISECONDS.fullmatch(value):
        return "time"
    return type(value).__name__


def row_shape(row: dict[str, Any]) -> Any:
    """The shape of a power row whose maps may name any neighbours, all with whole numbers."""
    flows = ("powerImportBreakdown", "powerExportBreakdown")
    assert all(type(mw) is int and mw >= 0 for name in flows for mw in row[name].values())
    return shape({**row, **{name: {} for name in flows}})


def recording(name: str) -> Any:
    return json.loads((RECORDINGS / name).read_text(encoding="utf-8"))


def test_power_history_has_the_shape_of_the_recorded_body(sim: Simulator) -> None:
    theirs = recording("aioem_power_breakdown_history.json")
    _, ours = ask(sim, "/v3/power-breakdown/history", zone="DE")
    assert list(ours) == list(theirs) == ["zone", "history"]
    assert [row["datetime"] for row in ours["history"]] == [row["datetime"] for row in theirs["history"]]
    # Measured rows, then estimated ones, have one shape each: the same in both bodies, nulls in the same places.
    assert {repr(row_shape(row)) for row in ours["history"]} == {repr(row_shape(row)) for row in theirs["history"]}
    measured = [row for row in ours["history"] if not row["isEstimated"]]
    for name in ("powerImportBreakdown", "powerExportBreakdown"):
        assert all(set(row[name]) == set(theirs["history"][0][name]) for row in measured)
        assert all(set(row[name]) <= set(theirs["history"][0][name]) for row in ours["history"])


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("carbon-intensity/history", {"zone": "DE"}, "aioem_carbon_intensity_history.json"),
        ("carbon-intensity/latest", {"zone": "US-CAR-DUK"}, "aioem_latest_carbon_intensity.json"),
        (
            "carbon-intensity/past-range",
            {"zone": "DK-DK2", "start": "2024-02-18T02:00:00Z", "end": "2024-02-18T04:00:00Z"},
            "ifem_carbon_intensity_past_range.json",
        ),
    ],
)
def test_carbon_bodies_have_the_shape_of_the_recorded_ones(
    sim: Simulator, path: str, query: dict[str, str], name: str
) -> None:
    status, ours = ask(sim, f"/v3/{path}", **query)
    assert (status, shape(ours)) == (200, shape(recording(name)))


def test_power_latest_has_the_shape_of_the_recorded_body(sim: Simulator) -> None:
    _, ours = ask(sim, "/v3/power-breakdown/latest", zone="DE")
    assert row_shape(ours) == row_shape(recording("aioem_latest_power_breakdown.json"))


def test_zones_have_the_shape_of_the_recorded_ones(sim: Simulator) -> None:
    theirs = recording("aioem_zones.json")
    status, ours = ask(sim, "/v3/zones", token=None)
    assert status == 200
    assert {zone: shape(facts) for zone, facts in ours.items()} == {zone: shape(theirs[zone]) for zone in ours}
    assert ours["GR"] == theirs["GR"]


def test_errors_have_the_shape_of_the_recorded_ones(sim: Simulator) -> None:
    told = {entry["when"]: entry for entry in recording("error_bodies.json")}
    sim.account = replace(sim.account, zones=("PT",), plan="free")
    past = {"zone": "PT", "start": "2024-01-01T00:00:00Z", "end": "2024-01-02T00:00:00Z"}
    answers = {
        "no auth-token header": ask(sim, "/v3/power-breakdown/latest", token=None, zone="PT"),
        "wrong or revoked token": ask(sim, "/v3/power-breakdown/latest", token="wrong", zone="PT"),
        "endpoint or zone not in the plan": ask(sim, "/v3/power-breakdown/past-range", **past),
        "no data": ask(sim, "/v3/power-breakdown/latest", zone="US-MIDW-MISO"),
    }
    for when, (status, body) in answers.items():
        assert (status, shape(body)) == (told[when]["status"], shape(told[when]["body"])), when
    assert (
        answers["endpoint or zone not in the plan"][1]["error"]
        == (told["endpoint or zone not in the plan"]["body"]["error"])
    )
    assert answers["no data"][1] == told["no data"]["body"]
