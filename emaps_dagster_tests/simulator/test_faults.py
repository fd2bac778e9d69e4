"""What goes wrong on demand: faults over real HTTP, and facts planted in the provider."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import CARBON, POWER, Feed
from emaps_dagster.simulator.provider import Provider
from emaps_dagster.simulator.server import FAULT_KINDS, Fault, Simulator

TOKEN = "a-token-that-must-stay-secret"
NOW = datetime(2024, 5, 4, 10, 7, tzinfo=timezone.utc)
NOON = datetime(2024, 5, 2, 12, tzinfo=timezone.utc)
DAY = Window(NOON - 12 * HOUR, NOON + 12 * HOUR)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(token=TOKEN, zones=("GR", "BG"), now=NOW) as simulator:
        yield simulator


def get(
    sim: Simulator, path: str = "power-breakdown/history", zone: str = "GR", *, patience: float = 30
) -> requests.Response:
    headers = {"auth-token": TOKEN}
    return requests.get(f"{sim.url}/{path}", params={"zone": zone}, headers=headers, timeout=patience)


def hours(rows: list[dict[str, Any]]) -> list[str]:
    return [row["datetime"] for row in rows]


# What a client sees of each kind, given the fault's answer and the good one.
SEEN: dict[str, Any] = {
    "invalid_token": lambda bad, _: (bad.status_code, bad.json()["error"]) == (401, "Invalid auth-token"),
    "not_in_plan": lambda bad, _: (
        (bad.status_code, bad.json()["error"])
        == (401, "Request unauthorized for zoneKey=GR,requestType=history,dataType=power-breakdown.")
    ),
    "not_in_trial": lambda bad, _: (
        (bad.status_code, bad.json()) == (401, {"error": "This endpoint is not included in your API trial"})
    ),
    "gone": lambda bad, _: (bad.status_code, "power-breakdown has been" in bad.json()["error"]) == (410, True),
    "quarter_hours": lambda bad, good: (
        bad.json()["temporalGranularity"] == "15_minutes"
        and [row["datetime"][14:19] for row in bad.json()["history"]] == ["00:00", "15:00", "30:00", "45:00"] * 24
        and bad.json()["history"][::4] == good.json()["history"]
    ),
    # Of electricity-mix only: test_v4.py.
    "other_breakdown": lambda bad, good: bad.content == good.content,
    "not_found": lambda bad, _: (bad.status_code, bad.json()) == (404, {"error": 'No recent data for zone "GR"'}),
    "rate_limited": lambda bad, _: (bad.status_code, bad.headers["retry-after"]) == (429, "1"),
    "server_error": lambda bad, _: bad.status_code == 503,
    "echo_token": lambda bad, _: bad.status_code == 400 and TOKEN in bad.text,
    "html": lambda bad, _: bad.status_code == 200 and bad.text.startswith("<!DOCTYPE html>"),
    "not_utf8": lambda bad, good: b"\xf6" in bad.content and bad.content.replace(b"\xf6", b"o") == good.content,
    "wrong_zone": lambda bad, _: {bad.json()["zone"], *(r["zone"] for r in bad.json()["history"])} == {"US-CAR-DUK"},
    "sandbox": lambda bad, _: (
        bad.json()["_disclaimer"].startswith("SANDBOX MODE")
        and {row["estimationMethod"] for row in bad.json()["history"]} == {"SANDBOX_MODE_DATA"}
    ),
    "empty": lambda bad, good: bad.json() == {**good.json(), "history": []},
    "missing_rows": lambda bad, good: (
        bad.json()["history"] == [row for place, row in enumerate(good.json()["history"]) if place % 3 != 1]
    ),
    "null_row": lambda bad, good: (
        bad.json()["history"][:3] == [good.json()["history"][0], None, good.json()["history"][2]]
    ),
    "null_values": lambda bad, good: (
        {row["powerConsumptionTotal"] for row in bad.json()["history"]} == {None}
        and {mw for row in bad.json()["history"] for mw in row["powerProductionBreakdown"].values()} == {None}
        and hours(bad.json()["history"]) == hours(good.json()["history"])
    ),
    "long_numbers": lambda bad, good: (
        [row["powerImportBreakdown"]["AL"] for row in bad.json()["history"]]
        == [row["powerImportBreakdown"]["AL"] / 3 for row in good.json()["history"]]
        and hours(bad.json()["history"]) == hours(good.json()["history"])
        and len(re.findall(r"\d\.\d{13,}[,}]", bad.text)) > 100
    ),
    "cut_off": lambda bad, good: bad.content == good.content[: len(good.content) // 2],
    "wrong_clock": lambda bad, good: (
        parsedate_to_datetime(good.headers["Date"]) - parsedate_to_datetime(bad.headers["Date"]) == timedelta(days=1)
        and bad.content == good.content
    ),
    "duplicated_rows": lambda bad, good: (
        bad.json()["history"] == [row for row in good.json()["history"] for _ in range(2)]
    ),
    "unordered_rows": lambda bad, good: bad.json()["history"] == good.json()["history"][::-1],
}
# What requests raises instead of an answer.
RAISED: dict[str, type[requests.RequestException]] = {
    "reset": requests.ConnectionError,
    "truncated": requests.exceptions.ChunkedEncodingError,
    "slow": requests.exceptions.ReadTimeout,
    "dripping": requests.ConnectionError,
}


def test_every_kind_of_fault_has_its_expectation() -> None:
    assert sorted((*SEEN, *RAISED)) == sorted(FAULT_KINDS)


@pytest.mark.parametrize("kind", SEEN)
def test_a_fault_does_what_it_says_once(sim: Simulator, kind: Any) -> None:
    good = get(sim)
    sim.inject(Fault(kind))
    assert SEEN[kind](get(sim), good)
    assert get(sim).content == good.content


@pytest.mark.parametrize("kind", RAISED)
def test_a_fault_of_the_connection_is_an_error_of_the_client_once(sim: Simulator, kind: Any) -> None:
    good = get(sim)
    sim.inject(Fault(kind, seconds=1))
    with pytest.raises(RAISED[kind]) as caught:
        get(sim, patience=0.5 if kind in ("slow", "dripping") else 30)
    if kind == "reset":
        assert "Connection reset by peer" in str(caught.value) or "ConnectionResetError" in str(caught.value)
    assert get(sim).content == good.content


@pytest.mark.parametrize(
    "fault",
    [
        Fault("server_error", feed="carbon-intensity", times=None),
        Fault("server_error", zone="BG", times=None),
        Fault("server_error", endpoint="latest", times=None),
        Fault("server_error", feed="power-breakdown", zone="BG", endpoint="latest", times=None),
    ],
)
def test_a_fault_hits_only_what_it_names(sim: Simulator, fault: Fault) -> None:
    sim.inject(fault)
    for feed in ("power-breakdown", "carbon-intensity"):
        for endpoint in ("latest", "history"):
            for zone in ("GR", "BG"):
                meant = (fault.feed or feed, fault.endpoint or endpoint, fault.zone or zone) == (feed, endpoint, zone)
                assert get(sim, f"{feed}/{endpoint}", zone).status_code == (503 if meant else 200)


def test_faults_count_down_in_their_order_and_can_be_cleared(sim: Simulator) -> None:
    sim.inject(Fault("rate_limited", times=2, retry_after=7))
    sim.inject(Fault("not_found"))
    seen = [get(sim) for _ in range(4)]
    assert [answer.status_code for answer in seen] == [429, 429, 404, 200]
    assert seen[0].headers["retry-after"] == "7"
    assert [request.status for request in sim.requests] == [429, 429, 404, 200]
    sim.inject(Fault("server_error", times=None))
    assert [get(sim).status_code for _ in range(5)] == [503] * 5
    sim.clear_faults()
    assert get(sim).status_code == 200


def test_endpoints_that_carry_no_signal_fail_only_by_name(sim: Simulator) -> None:
    sim.inject(Fault("server_error", times=None))
    assert requests.get(sim.url.removesuffix("/v3") + "/health", timeout=5).status_code == 200
    sim.inject(Fault("server_error", endpoint="health"))
    sim.inject(Fault("server_error", endpoint="zones"))
    assert requests.get(sim.url.removesuffix("/v3") + "/health", timeout=5).status_code == 503
    assert requests.get(sim.url + "/zones", timeout=5).status_code == 503


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "fire"}, "fault kind 'fire': one of invalid_token, "),
        (
            {"kind": "slow", "feed": "power"},
            "fault feed 'power': one of power-breakdown, carbon-intensity, electricity-mix,",
        ),
        ({"kind": "slow", "endpoint": "future"}, "fault endpoint 'future': one of latest, "),
        ({"kind": "slow", "times": 0}, "fault times 0: at least 1"),
    ],
)
def test_a_fault_that_could_never_strike_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match="fault") as refused:
        Fault(**given)
    assert str(refused.value).startswith(says)


def row(provider: Provider, feed: Feed, hour: datetime, at: datetime = NOW) -> dict[str, Any]:
    found = provider.record(feed, "GR", hour, at)
    assert found is not None
    return found


def test_a_revision_shows_from_its_time_on_in_its_feed_with_its_variant() -> None:
    provider, at = Provider(), NOW - HOUR
    before = row(provider, POWER, NOON), row(provider, CARBON, NOON)
    provider.revise("GR", NOON, at=at, feed=POWER, variant=5)
    assert row(provider, POWER, NOON, at - timedelta(seconds=1)) == Provider().record(
        POWER, "GR", NOON, at - timedelta(seconds=1)
    )
    after = row(provider, POWER, NOON)
    assert after["powerConsumptionBreakdown"] != before[0]["powerConsumptionBreakdown"]
    assert (after["updatedAt"], after["createdAt"]) == ("2024-05-04T09:07:00.000Z", before[0]["createdAt"])
    assert row(provider, CARBON, NOON) == before[1]
    # The same variant is the same opinion; the latest revision shows, whatever the order of planting.
    provider.revise("GR", NOON, at=at - 2 * HOUR, feed=POWER, variant=6)
    assert row(provider, POWER, NOON) == after
    provider.revise("GR", NOON, at=at, feed=POWER, variant=7)
    provider.revise("GR", NOON, at=at, feed=POWER, variant=5)
    assert row(provider, POWER, NOON) == after


def test_a_revision_can_claim_an_older_update() -> None:
    provider = Provider()
    before = row(provider, POWER, NOON)
    provider.revise("GR", NOON, at=NOW - HOUR, variant=5, updated_at=NOON)
    after = row(provider, POWER, NOON)
    assert (after["updatedAt"], before["updatedAt"] > after["updatedAt"]) == ("2024-05-02T12:00:00.000Z", True)
    assert after["powerConsumptionTotal"] != before["powerConsumptionTotal"]


def test_a_revision_can_cover_many_hours() -> None:
    provider = Provider()
    good = provider.rows(CARBON, "GR", DAY, NOW)
    provider.revise("GR", NOON, end=NOON + 3 * HOUR, at=NOW)
    changed = [a["datetime"][11:13] for a, b in zip(provider.rows(CARBON, "GR", DAY, NOW), good, strict=True) if a != b]
    assert changed == ["12", "13", "14"]


def test_withheld_hours_are_missing_in_their_feed_while_they_are() -> None:
    provider, back = Provider(), NOW + HOUR
    good = provider.rows(POWER, "GR", DAY, NOW)
    provider.withhold("GR", NOON, NOON + 2 * HOUR, feed=POWER, until=back)
    assert provider.rows(POWER, "GR", DAY, NOW) == good[:12] + good[14:]
    assert len(provider.rows(CARBON, "GR", DAY, NOW)) == 24
    assert len(provider.rows(POWER, "GR", DAY, back)) == 24
    assert len(provider.rows(POWER, "BG", DAY, NOW)) == 24


def test_a_neighbour_vanishes_and_another_appears_and_the_rest_balances() -> None:
    provider = Provider()
    provider.drop_neighbour("GR", "BG", NOON, NOON + 4 * HOUR)
    provider.add_neighbour("GR", "CY", NOON + HOUR)
    for feed in (POWER, CARBON):
        assert provider.rows(feed, "GR", DAY, NOW)[:12] == Provider().rows(feed, "GR", DAY, NOW)[:12]
        assert provider.rows(feed, "GR", DAY, NOW)[12:] != Provider().rows(feed, "GR", DAY, NOW)[12:]
    named = [set(one["powerImportBreakdown"]) for one in provider.rows(POWER, "GR", DAY, NOW)[11:17]]
    always = {"AL", "IT-SO", "MK", "TR"}
    assert named == [always | {"BG"}, always, *[always | {"CY"}] * 3, always | {"BG", "CY"}]
    for one in provider.rows(POWER, "GR", DAY, NOW):
        came = one["powerImportTotal"] - one["powerExportTotal"]
        made = sum(mw or 0 for mw in one["powerProductionBreakdown"].values())
        assert abs(one["powerConsumptionTotal"] - made - came) <= 2


def test_a_zone_without_neighbours_has_empty_maps_and_totals_that_are_null() -> None:
    found = Provider().record(POWER, "ZZ", NOON, NOW)
    assert found is not None
    flows = [found[f"power{name}{kind}"] for name in ("Import", "Export") for kind in ("Breakdown", "Total")]
    assert flows == [{}, None, {}, None]


def test_a_silent_mode_is_null_and_the_rest_balances() -> None:
    provider = Provider()
    provider.silence("GR", "gas", NOON, since=NOW - HOUR)
    provider.silence("GR", "carbonIntensity", NOON, NOON + HOUR, since=NOW)
    assert row(provider, POWER, NOON, NOW - 2 * HOUR)["powerProductionBreakdown"]["gas"] > 0
    assert row(provider, POWER, NOON - HOUR)["powerProductionBreakdown"]["gas"] > 0
    silent = row(provider, POWER, NOON)
    assert silent["powerProductionBreakdown"]["gas"] is None
    made = sum(mw or 0 for mw in silent["powerProductionBreakdown"].values())
    came = silent["powerImportTotal"] - silent["powerExportTotal"]
    assert abs(silent["powerConsumptionTotal"] - made - came) <= 2
    assert row(provider, CARBON, NOON)["carbonIntensity"] is None
    assert row(provider, CARBON, NOON + HOUR)["carbonIntensity"] > 0
    with pytest.raises(ValueError, match="silence 'lignite': one of nuclear, "):
        provider.silence("GR", "lignite", NOON)


def test_a_row_can_come_twice_also_with_other_values() -> None:
    provider = Provider()
    good = provider.rows(POWER, "GR", DAY, NOW)
    provider.duplicate("GR", NOON, feed=POWER)
    assert provider.rows(POWER, "GR", DAY, NOW) == [*good[:13], good[12], *good[13:]]
    provider.clear()
    provider.duplicate("GR", NOON, feed=POWER, variant=9)
    first, second = provider.rows(POWER, "GR", DAY, NOW)[12:14]
    assert first == good[12]
    assert (second["datetime"], second["updatedAt"]) == (first["datetime"], first["updatedAt"])
    assert second["powerConsumptionTotal"] != first["powerConsumptionTotal"]
    assert list(second) == list(first)


def test_rows_can_come_in_another_order_always_the_same() -> None:
    provider = Provider()
    good = provider.rows(POWER, "GR", DAY, NOW)
    provider.shuffle("GR", feed=POWER)
    mixed = provider.rows(POWER, "GR", DAY, NOW)
    assert mixed != good
    assert sorted(mixed, key=lambda one: str(one["datetime"])) == good
    assert provider.rows(POWER, "GR", DAY, NOW) == mixed
    # `latest` is the latest, whatever the order.
    latest = json.loads(provider.body(POWER, "GR", "latest", NOW))
    assert latest["datetime"] == "2024-05-04T10:00:00.000Z"


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="withhold: 2024-05-02T12:00:00 has no time zone"):
        Provider().withhold("GR", NOON.replace(tzinfo=None), NOON + HOUR)
    with pytest.raises(ValueError, match="the simulator's clock needs a time zone"):
        Simulator(now=NOW.replace(tzinfo=None))
