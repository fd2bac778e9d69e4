"""The simulated API's contract: bodies as recorded, endpoints, plans, errors; no Spark, no Dagster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests

from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import CARBON, MODE_KEYS, POWER
from emaps_dagster.simulator.provider import Provider
from emaps_dagster.simulator.server import FIRST_HOUR, Simulator

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


def test_a_power_row_has_these_keys_in_this_order(sim: Simulator) -> None:
    _, row = ask(sim, "/v3/power-breakdown/past", zone="GR", datetime="2024-03-06T02:00:00Z")
    assert list(row) == [
        "zone", "datetime", "updatedAt", "createdAt", "powerConsumptionBreakdown", "powerProductionBreakdown",
        "powerImportBreakdown", "powerExportBreakdown", "fossilFreePercentage", "renewablePercentage",
        "powerConsumptionTotal", "powerProductionTotal", "powerImportTotal", "powerExportTotal",
        "isEstimated", "estimationMethod",
    ]  # fmt: skip
    assert all(MILLISECONDS.fullmatch(row[name]) for name in ("datetime", "updatedAt", "createdAt"))
    assert tuple(row["powerProductionBreakdown"]) == tuple(row["powerConsumptionBreakdown"]) == MODE_KEYS
    silent = [mode for mode, megawatts in row["powerProductionBreakdown"].items() if megawatts is None]
    assert silent == ["nuclear", "geothermal"]
    assert None not in row["powerConsumptionBreakdown"].values()
    assert set(row["powerImportBreakdown"]) == set(row["powerExportBreakdown"]) == {"AL", "BG", "IT-SO", "MK", "TR"}
    assert (row["isEstimated"], row["estimationMethod"]) == (False, None)
    assert row["createdAt"] < row["datetime"]


def test_a_carbon_row_has_these_keys_in_this_order(sim: Simulator) -> None:
    _, row = ask(sim, "/v3/carbon-intensity/latest", zone="GR")
    assert list(row) == [
        "zone", "carbonIntensity", "datetime", "updatedAt", "createdAt", "emissionFactorType", "isEstimated",
        "estimationMethod",
    ]  # fmt: skip
    assert (row["zone"], row["datetime"]) == ("GR", "2024-03-06T19:00:00.000Z")
    assert (row["isEstimated"], row["estimationMethod"]) == (True, "TIME_SLICER_AVERAGE")
    assert type(row["carbonIntensity"]) is int


@pytest.mark.parametrize(
    ("now", "named"), [(RECORDED, False), (datetime(2025, 10, 24, 11, 20, tzinfo=timezone.utc), True)]
)
def test_bodies_name_their_granularity_since_2025(sim: Simulator, now: datetime, named: bool) -> None:
    sim.set_now(now)
    for endpoint in ("latest", "history"):
        body = ask(sim, f"/v3/power-breakdown/{endpoint}", zone="GR")[1]
        assert body.get("temporalGranularity") == ("hourly" if named else None)


def test_history_is_24_hours_the_last_of_them_running(sim: Simulator) -> None:
    hours = [row["datetime"][:16] for row in ask(sim, "/v3/carbon-intensity/history", zone="GR")[1]["history"]]
    assert (len(hours), hours[0], hours[-1]) == (24, "2024-03-05T20:00", "2024-03-06T19:00")


def test_past_range_excludes_its_end_and_what_has_not_begun(sim: Simulator) -> None:
    def hours(start: str, end: str) -> list[str]:
        _, body = ask(sim, "/v3/carbon-intensity/past-range", zone="GR", start=start, end=end)
        return [row["datetime"][5:13] for row in body["data"]]

    assert hours("2024-03-01T22:00:00Z", "2024-03-02T01:00:00Z") == ["03-01T22", "03-01T23", "03-02T00"]
    assert hours("2024-03-01T22:00:00+02:00", "2024-03-01T21:30:00Z") == ["03-01T20", "03-01T21"]
    assert hours("2024-03-06T18:00:00Z", "2024-03-06T23:00:00Z") == ["03-06T18", "03-06T19"]
    assert hours("2020-12-31T22:00:00Z", "2021-01-01T01:00:00Z") == ["01-01T00"]


@pytest.mark.parametrize(
    ("path", "query", "says"),
    [
        ("past-range", {"end": "2024-01-02"}, 'Missing or invalid date parameter "start"'),
        ("past-range", {"start": "soon", "end": "2024-01-02"}, 'Missing or invalid date parameter "start"'),
        ("past-range", {"start": "2024-01-02", "end": "2024-01-02"}, 'Missing or invalid date parameter "end"'),
        ("past-range", {"start": "2024-01-01T00:00Z", "end": "2024-01-11T00:00Z"}, None),
        ("past-range", {"start": "2024-01-01T00:00Z", "end": "2024-01-11T01:00Z"}, "longer than 10 days"),
        ("past", {}, 'Missing or invalid date parameter "datetime"'),
        ("history", {"temporalGranularity": "daily"}, "temporalGranularity"),
        ("history", {"emissionFactorType": "marginal"}, "emissionFactorType"),
    ],
)
def test_wrong_parameters_are_a_400_with_its_reason(
    sim: Simulator, path: str, query: dict[str, str], says: str | None
) -> None:
    status, body = ask(sim, f"/v3/carbon-intensity/{path}", zone="GR", **query)
    if says is None:
        assert (status, len(body["data"])) == (200, 240)
    else:
        assert (status, list(body), body["status"]) == (400, ["status", "message"], "error")
        assert says in body["message"]


def test_a_request_without_a_zone_gets_the_zone_of_its_caller(sim: Simulator) -> None:
    assert ask(sim, "/v3/carbon-intensity/latest")[1]["zone"] == "DK-DK2"
    assert ask(sim, "/v3/carbon-intensity/latest", disableCallerLookup="true")[0] == 400


def test_estimates_can_be_left_out_and_factors_chosen(sim: Simulator) -> None:
    _, whole = ask(sim, "/v3/power-breakdown/history", zone="GR")
    _, measured = ask(sim, "/v3/power-breakdown/history", zone="GR", disableEstimations="true")
    assert measured["history"] == [row for row in whole["history"] if not row["isEstimated"]]
    assert ask(sim, "/v3/power-breakdown/latest", zone="GR", disableEstimations="true")[1] == measured["history"][-1]
    _, direct = ask(sim, "/v3/carbon-intensity/latest", zone="GR", emissionFactorType="direct")
    _, lifecycle = ask(sim, "/v3/carbon-intensity/latest", zone="GR")
    assert direct["emissionFactorType"] == "direct"
    assert direct["carbonIntensity"] < lifecycle["carbonIntensity"]


@pytest.mark.parametrize(
    ("path", "free"),
    [
        ("carbon-intensity/latest", 200),
        ("power-breakdown/history", 200),
        ("power-breakdown/past?datetime=2024-03-01T00:00Z", 401),
        ("power-breakdown/past-range?start=2024-03-01T00:00Z&end=2024-03-02T00:00Z", 401),
        ("updated-since?since=2024-03-01T00:00Z", 401),
    ],
)
def test_a_free_plan_has_latest_and_history_only(sim: Simulator, path: str, free: int) -> None:
    assert ask(sim, f"/v3/{path}", zone="GR")[0] == 200
    sim.account = replace(sim.account, plan="free")
    status, body = ask(sim, f"/v3/{path}", zone="GR")
    assert status == free
    assert status == 200 or body["error"].startswith("Request unauthorized for zoneKey=GR,requestType=")


def test_zones_show_the_access_of_a_token_and_nothing_without_one(sim: Simulator) -> None:
    assert ask(sim, "/v3/zones", token=None)[1]["GR"] == {"zoneName": "Greece"}
    assert ask(sim, "/v3/zones")[1]["IT-SO"] == {"countryName": "Italy", "zoneName": "South Italy", "access": ["*"]}
    sim.account = replace(sim.account, plan="free")
    assert "power-breakdown/history" in ask(sim, "/v3/zones")[1]["GR"]["access"]
    assert ask(sim, "/v3/zones", token="wrong")[0] == 401


def test_health_is_at_the_root_and_unknown_paths_are_404(sim: Simulator) -> None:
    assert ask(sim, "/health", token=None) == (200, {"monitors": {"state": "ok"}, "status": "ok"})
    for path in (
        "/v3/health",
        "/v3/power-breakdown",
        "/v3/power-breakdown/next",
        "/v3/electricity-mix/history",
        "/v5/zones",
        "/",
    ):
        assert ask(sim, path)[0] == 404


def test_updated_since_lists_late_changes_of_either_feed(sim: Simulator) -> None:
    revised = datetime(2024, 2, 1, 5, tzinfo=timezone.utc)
    sim.provider.revise("GR", revised, at=RECORDED - 2 * HOUR, feed=CARBON)
    _, body = ask(sim, "/v3/updated-since", zone="GR", since="2024-03-06T17:00:00Z")
    assert list(body) == ["zone", "updates", "threshold", "limit", "limitReached"]
    assert (body["zone"], body["threshold"], body["limit"], body["limitReached"]) == ("GR", "P1D", 100, False)
    assert body["updates"] == [
        {"datetime": "2024-02-01T05:00:00.000Z", "updatedAt": "2024-03-06T17:20:00.000Z"},
        {"datetime": "2024-03-05T18:00:00.000Z", "updatedAt": "2024-03-06T18:48:01.880Z"},
    ]
    _, soon = ask(sim, "/v3/updated-since", zone="GR", since="2024-03-06T10:00:00Z", threshold="PT1H", limit="3")
    assert (len(soon["updates"]), soon["limitReached"]) == (3, True)
    narrow = {"start": "2024-02-01T05:00Z", "end": "2024-02-01T06:00Z"}
    _, one = ask(sim, "/v3/updated-since", zone="GR", since="2024-01-01T00:00Z", **narrow)
    assert [entry["datetime"][:13] for entry in one["updates"]] == ["2024-02-01T05"]
    for wrong in ({"limit": "1001"}, {"limit": "0"}, {"threshold": "a day"}, {"threshold": "P"}, {"since": "never"}):
        query = {"since": "2024-03-06T17:00:00Z", **wrong}
        assert ask(sim, "/v3/updated-since", zone="GR", **query)[0] == 400, wrong


def test_updated_since_agrees_with_the_rows(sim: Simulator) -> None:
    since = RECORDED - timedelta(days=2)
    window = Window(datetime(2024, 2, 1, tzinfo=timezone.utc), datetime(2024, 3, 6, tzinfo=timezone.utc))
    found = sim.provider.updates("GR", since, RECORDED, window, threshold=timedelta(0))
    newest: dict[str, str] = {}
    for feed in (POWER, CARBON):
        for row in sim.provider.rows(feed, "GR", window, RECORDED):
            newest[row["datetime"]] = max(newest.get(row["datetime"], ""), row["updatedAt"])
    limit = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert len(found) > 20
    assert {one["datetime"]: one["updatedAt"] for one in found} == {h: t for h, t in newest.items() if t > limit}


@pytest.mark.parametrize("endpoint", ["latest", "history", "past", "past-range"])
def test_the_body_without_http_is_the_body_over_http(sim: Simulator, endpoint: Any) -> None:
    window = Window(datetime(2024, 3, 1, tzinfo=timezone.utc), datetime(2024, 3, 1, 1, tzinfo=timezone.utc))
    times = {"datetime": "2024-03-01T00:00Z", "start": "2024-03-01T00:00Z", "end": "2024-03-01T01:00Z"}
    for feed in (POWER, CARBON):
        headers = {"auth-token": TOKEN}
        url = f"{sim.url}/{feed.endpoint}/{endpoint}"
        sent = requests.get(url, params={"zone": "GR", **times}, headers=headers, timeout=10)
        assert sent.headers["content-type"] == "application/json; charset=utf-8"
        asked = window if endpoint.startswith("past") else None
        assert sent.content == Provider().body(feed, "GR", endpoint, RECORDED, asked)


def test_a_year_over_http_is_37_answers_with_every_hour_once(sim: Simulator) -> None:
    sim.set_now(datetime(2025, 1, 10, tzinfo=timezone.utc))
    hours, start = [], datetime(2024, 1, 1, tzinfo=timezone.utc)
    while start.year == 2024:
        end = min(start + timedelta(days=10), datetime(2025, 1, 1, tzinfo=timezone.utc))
        query = {"start": start.isoformat(), "end": end.isoformat()}
        rows = ask(sim, "/v3/power-breakdown/past-range", zone="GR", **query)[1]["data"]
        hours += [row["datetime"] for row in rows]
        start = end
    assert len(sim.requests) == 37
    assert (hours[0], hours[-1]) == ("2024-01-01T00:00:00.000Z", "2024-12-31T23:00:00.000Z")
    assert len(hours) == len(set(hours)) == 8784


def test_the_first_hour_is_the_first_of_2021() -> None:
    provider = Provider()
    assert provider.record(POWER, "GR", FIRST_HOUR, RECORDED) is not None
    assert provider.record(POWER, "GR", FIRST_HOUR - HOUR, RECORDED) is None
