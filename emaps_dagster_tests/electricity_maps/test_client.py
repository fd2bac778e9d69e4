"""Requests of the client and what it makes of each status, against a real HTTP server on loopback."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import (
    BadRequestError,
    InvalidTokenError,
    NoDataError,
    NotInPlanError,
    ProviderError,
    RejectedBodyError,
)
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import CARBON, POWER
from emaps_dagster.electricity_maps.client import ElectricityMapsClient, past_range_chunks
from emaps_dagster_tests.support.scripted_api import NOW, TOKEN, Api, ask, body, hour

# --- requests -------------------------------------------------------------------------------------


def test_a_200_is_kept_byte_for_byte_with_its_lineage(api: Api) -> None:
    row = '{"datetime":"2024-01-01T02:00:00.000Z","carbonIntensity":null}'
    text = f'{{"zone":"GR",  "history":[{row}, {row.replace("T02", "T01")}], "ε": 1}}\n'
    response = ask(api.then(200, text))
    assert response.body == text
    assert (response.feed, response.zone, response.endpoint) == (CARBON, "GR", "history")
    assert response.request == "/v3/carbon-intensity/history?zone=GR"
    assert response.source == "electricitymaps/v3/carbon-intensity/history"
    assert response.received_at == NOW
    assert response.window == Window(hour(1, 1), hour(1, 3))
    assert len(response.payload_sha256) == 64
    path, headers = api.requests[0]
    assert path == response.request
    assert headers["auth-token"] == TOKEN
    assert headers["user-agent"].startswith("emaps-dagster")


def test_past_range_asks_for_a_half_open_window(api: Api) -> None:
    row = {"datetime": "2024-01-01T00:00:00.000Z", "powerProductionBreakdown": {}, "powerConsumptionBreakdown": {}}
    api.then(200, body(row, key="data"))
    with ElectricityMapsClient(api.url, SecretStr(TOKEN)) as client:
        response = client.past_range(POWER, "GR", Window(hour(1), hour(11)))
    path, _, query = api.requests[0][0].partition("?")
    assert path == "/v3/power-breakdown/past-range"
    assert query.replace("%3A", ":") == "zone=GR&start=2024-01-01T00:00:00Z&end=2024-01-11T00:00:00Z"
    assert response.window == Window(hour(1), hour(1, 1))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (hour(1), hour(1)),
        (hour(2), hour(1)),
        (hour(1), hour(11, 1)),
        (datetime(2024, 1, 1), datetime(2024, 1, 2)),  # noqa: DTZ001 a naive time is the case
        (hour(1).replace(minute=30), hour(2)),
        (hour(1).astimezone(timezone(timedelta(hours=2))), hour(2)),
    ],
)
def test_past_range_refuses_a_window_that_the_api_would_misread(api: Api, start: datetime, end: datetime) -> None:
    with ElectricityMapsClient(api.url, None) as client, pytest.raises(ValueError, match=r"hour|10 days"):
        client.past_range(POWER, "GR", Window(start, end))
    assert api.requests == []


def test_past_range_refuses_rows_far_outside_the_window(api: Api) -> None:
    api.then(200, body({"datetime": "2023-12-30T23:00:00Z", "carbonIntensity": 1}, key="data"))
    with (
        ElectricityMapsClient(api.url, None) as client,
        pytest.raises(RejectedBodyError, match="outside the requested range"),
    ):
        client.past_range(CARBON, "GR", Window(hour(1), hour(2)))


def test_chunks_are_ten_days_and_the_rest() -> None:
    def chunks(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
        return [(chunk.start, chunk.end) for chunk in past_range_chunks(Window(start, end))]

    assert chunks(hour(1), hour(1, 1)) == [(hour(1), hour(1, 1))]
    assert chunks(hour(1), hour(11)) == [(hour(1), hour(11))]
    assert chunks(hour(1), hour(25, 5)) == [(hour(1), hour(11)), (hour(11), hour(21)), (hour(21), hour(25, 5))]


def test_zones_live_under_the_version_and_health_at_the_root(api: Api) -> None:
    api.then(200, {"GR": {"zoneName": "Greece"}}).then(200, {"status": "ok"})
    with ElectricityMapsClient(api.url, None) as client:
        assert client.zones() == {"GR": {"zoneName": "Greece"}}
        assert client.health() == {"status": "ok"}
    assert [path for path, _ in api.requests] == ["/v3/zones", "/health"]


def test_an_answer_that_is_no_object_is_an_error_of_the_tree(api: Api) -> None:
    api.then(200, "[1]")
    with ElectricityMapsClient(api.url, None) as client, pytest.raises(ProviderError, match="zones"):
        client.zones()


# --- statuses -------------------------------------------------------------------------------------

KEY = {"error": "Invalid auth-token", "message": "The key is of no use"}
PLAN = {"error": "Request unauthorized for zoneKey=GR,requestType=past.", "message": "You do not have access"}


@pytest.mark.parametrize(
    ("status", "content", "kind", "says"),
    [
        (401, KEY, InvalidTokenError, "EMAPS_API_TOKEN"),
        (401, "<html><body>no</body></html>", InvalidTokenError, "EMAPS_API_TOKEN"),
        (401, PLAN, NotInPlanError, "plan"),
        (401, {"message": "Token unauthorized for zoneKey GR"}, NotInPlanError, "plan"),
        (401, {"error": "Endpoint not available"}, NotInPlanError, "plan"),
        (403, "", NotInPlanError, "plan"),
        (404, {"error": 'No recent data for zone "GR"'}, NoDataError, "No recent data"),
        (400, {"status": "error", "message": "Missing start"}, BadRequestError, "Missing start"),
        (400, "[1, 2]", BadRequestError, "400"),
        (422, "not json", BadRequestError, "not json"),
        (418, "", BadRequestError, "418"),
    ],
)
def test_a_refusal_has_its_own_error_and_is_asked_once(
    api: Api, status: int, content: object, kind: type[ProviderError], says: str
) -> None:
    with pytest.raises(ProviderError) as caught:
        ask(api.then(status, content))
    assert type(caught.value) is kind
    message = str(caught.value)
    for part in ("GR", "carbon-intensity/history", "the last 24 hours", str(status), says):
        assert part in message
    assert len(api.requests) == 1


def test_without_a_token_no_header_is_sent_and_the_error_says_to_set_one(api: Api) -> None:
    with pytest.raises(InvalidTokenError, match=r"Set EMAPS_API_TOKEN.*Databricks"):
        ask(api.then(401, KEY), token=None)
    assert "auth-token" not in api.requests[0][1]


def test_a_redirect_is_not_followed(api: Api) -> None:
    other = Api()
    try:
        with pytest.raises(BadRequestError, match="302"):
            ask(api.then(302, "", Location=other.url))
        assert other.requests == []
    finally:
        other.stop()


def test_a_long_html_body_is_quoted_in_one_short_line(api: Api) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(api.then(400, "<html>\n<b>" + "long\n" * 5000))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
