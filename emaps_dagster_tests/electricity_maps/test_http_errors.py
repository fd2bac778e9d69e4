"""How answers of the API, of gateways and of firewalls are explained: status, headers, body -> error, cause, remedy.

The API's bodies are the recorded ones (error_bodies.json); the others are what common servers send.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import (
    BadRequestError,
    BlockedError,
    InvalidTokenError,
    NoDataError,
    NotInPlanError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RejectedBodyError,
    WrongAddressError,
)
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.scripted_api import GOOD, NOW, TOKEN, Api, ask, visible_text

NGINX = (
    "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body><center><h1>404 Not Found</h1></center></body></html>"
)
EXPRESS = (
    '<!DOCTYPE html><html><head><meta charset="utf-8"><title>Error</title></head><body><pre>Cannot GET /</pre></body>'
)
FORTINET = "<html><head><title>Web Filter Block Override</title></head><body>Access Blocked</body></html>"
CLOUDFLARE = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>"
PLAN = {
    "error": "Request unauthorized for zoneKey=PT,requestType=past,dataType=power-breakdown.",
    "message": "You do not have access to this specific endpoint for this specific zone.",
}
KEY = {"error": "Invalid auth-token", "message": "The provided token is invalid. If this token used to work, ..."}
NO_DATA = {"error": 'No recent data for zone "GR"'}
LIMIT = {"error": "Rate limit exceeded", "message": "You have exceeded your hourly limit"}


# Status, headers, body; error; tries; words of cause and remedy.
ANSWERS: list[Any] = [
    # The API's own.
    (401, {}, KEY, InvalidTokenError, 1, ["HTTP 401: Invalid auth-token", "Set EMAPS_API_TOKEN"]),
    (401, {}, PLAN, NotInPlanError, 1, ["zoneKey=PT", "Change EMAPS_ZONES, the range, or the plan"]),
    (403, {}, PLAN, NotInPlanError, 1, ["HTTP 403", "Change EMAPS_ZONES, the range, or the plan"]),
    (401, {}, LIMIT, RateLimitedError, 3, ["HTTP 401 (Rate limit exceeded", "EMAPS_CALLS_PER_MINUTE"]),
    (403, {}, {"message": "Too many requests"}, RateLimitedError, 3, ["HTTP 403 (Too many requests)"]),
    (429, {"Retry-After": "0"}, "", RateLimitedError, 3, ["HTTP 429 (no body)", "Run these partitions again later"]),
    (429, {}, "<html><title>1015: You are being rate limited</title>", RateLimitedError, 3, ["1015: You are being"]),
    (404, {}, NO_DATA, NoDataError, 1, ["HTTP 404: No recent data", "Check the zone key"]),
    (404, {}, {"status": "error", "message": "No data for 2024-01-01T00:00:00Z"}, NoDataError, 1, ["no data"]),
    (400, {}, {"message": 'Missing or invalid date parameter "start"'}, BadRequestError, 1, ['parameter "start"']),
    (422, {}, {"status": "error", "message": "Unknown zone"}, BadRequestError, 1, ["Unknown zone", "EMAPS_ZONES"]),
    (402, {}, {"message": "Payment required"}, NotInPlanError, 1, ["Payment required", "the plan"]),
    # A gateway's: the address is wrong.
    (404, {}, NGINX, WrongAddressError, 1, ["HTTP 404: 404 Not Found", "Set EMAPS_API_URL"]),
    (404, {}, EXPRESS, WrongAddressError, 1, ["HTTP 404: Error", "Set EMAPS_API_URL"]),
    (404, {}, "", WrongAddressError, 1, ["HTTP 404: no body", "Set EMAPS_API_URL"]),
    (404, {}, "404 page not found\n", WrongAddressError, 1, ["404 page not found", "Set EMAPS_API_URL"]),
    (404, {}, {"message": "no Route matched with those values"}, WrongAddressError, 1, ["Set EMAPS_API_URL"]),
    (404, {}, {"detail": "Not Found"}, WrongAddressError, 1, ["HTTP 404: Not Found", "Set EMAPS_API_URL"]),
    (404, {}, {"status": 404, "error": "Not Found", "path": "/v3"}, WrongAddressError, 1, ["Set EMAPS_API_URL"]),
    (404, {}, {"statusCode": 404, "message": "Resource not found"}, WrongAddressError, 1, ["Set EMAPS_API_URL"]),
    (404, {}, {"error": {"code": 404, "message": "Not found"}}, WrongAddressError, 1, ["HTTP 404: Not found"]),
    (405, {}, NGINX.replace("404 Not Found", "405 Not Allowed"), WrongAddressError, 1, ["HTTP 405", "EMAPS_API_URL"]),
    (401, {}, "<html><title>Login</title>", InvalidTokenError, 1, ["HTTP 401: Login", "check EMAPS_API_URL"]),
    # A firewall's.
    (403, {}, FORTINET, BlockedError, 1, ["Web Filter Block Override", "firewall", "not concerned"]),
    (403, {}, CLOUDFLARE, BlockedError, 1, ["Just a moment...", "the provider's protection"]),
    (403, {}, "Forbidden", BlockedError, 1, ["HTTP 403: Forbidden", "firewall"]),
    (403, {}, {"message": "Forbidden"}, BlockedError, 1, ["HTTP 403: Forbidden", "firewall"]),
    (403, {}, "", NotInPlanError, 1, ["the plan", "or a proxy or firewall on the way refused it"]),
    (407, {}, "<html><title>Proxy login</title>", BlockedError, 1, ["HTTP 407: Proxy login", "proxy"]),
    # What passes.
    (408, {}, "", ProviderUnavailableError, 3, ["HTTP 408 (no body) after 3 tries"]),
    (425, {}, "", ProviderUnavailableError, 3, ["HTTP 425 (no body) after 3 tries"]),
    (500, {}, NGINX.replace("404 Not Found", "500 Oops"), ProviderUnavailableError, 3, ["HTTP 500 (500 Oops)"]),
    (503, {"Retry-After": "0"}, "", ProviderUnavailableError, 3, ["HTTP 503", "status page"]),
    (520, {}, CLOUDFLARE, ProviderUnavailableError, 3, ["HTTP 520 (Just a moment...)"]),
    (530, {}, "error code: 1016", ProviderUnavailableError, 3, ["HTTP 530 (error code: 1016)"]),
    # No content.
    (204, {}, "", NoDataError, 1, ["the provider has no data (HTTP 204 without a body)"]),
    (205, {}, "", NoDataError, 1, ["HTTP 205 without a body"]),
    (200, {}, "", NoDataError, 1, ["HTTP 200 without a body"]),
    # Not ready, a part, and what a proxy made of it.
    (202, {}, "", ProviderUnavailableError, 3, ["HTTP 202 (no body) after 3 tries"]),
    (206, {}, '{"zone"', ProviderUnavailableError, 3, ["HTTP 206", "after 3 tries"]),
    (203, {}, "<html><title>Portal</title>", WrongAddressError, 1, ["HTTP 203: Portal", "check EMAPS_API_URL"]),
    # A 200 that holds an error.
    (200, {}, NO_DATA, NoDataError, 1, ["HTTP 200 with the error: No recent data", "Check the zone key"]),
    (200, {}, {"status": "no-data", "data": {}}, NoDataError, 1, ["HTTP 200 with the error: no-data"]),
    (200, {}, KEY, InvalidTokenError, 1, ["HTTP 200 with the error: Invalid auth-token", "Set EMAPS_API_TOKEN"]),
    (200, {}, PLAN, NotInPlanError, 1, ["HTTP 200 with the error: Request unauthorized", "the plan"]),
    (200, {}, LIMIT, RateLimitedError, 3, ["HTTP 200 (Rate limit exceeded"]),
    (200, {}, {"error": "Internal failure"}, RejectedBodyError, 1, ["an error and no data: Internal failure"]),
    (200, {}, {"message": "Unexpected token < in JSON"}, RejectedBodyError, 1, ["no data: Unexpected token <"]),
    (200, {}, {"zone": "GR", "error": "Try later"}, RejectedBodyError, 1, ["an error and no data: Try later"]),
    (200, {}, {"errors": [{"detail": "Parser down"}]}, RejectedBodyError, 1, ["an error and no data: Parser down"]),
    (200, {}, {"error": {"message": "Parser down"}}, RejectedBodyError, 1, ["an error and no data: Parser down"]),
]


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "tries", "says"),
    [pytest.param(*answer, id=f"{answer[0]}-{place}") for place, answer in enumerate(ANSWERS)],
)
def test_an_answer_is_explained_by_its_cause_and_remedy(
    api: Api, status: int, headers: dict[str, str], body: Any, kind: type[ProviderError], tries: int, says: list[str]
) -> None:
    with pytest.raises(ProviderError) as caught:
        ask(api.then(status, body, **{name.replace("-", "_"): value for name, value in headers.items()}))
    assert type(caught.value) is kind
    for part in ("carbon-intensity/history", "zone GR", *says):
        assert part in str(caught.value)
    assert len(api.requests) == tries
    if isinstance(caught.value, RejectedBodyError):
        # The evidence is kept.
        assert caught.value.response.body == json.dumps(body)


@pytest.mark.parametrize("body", [{"error": None, "message": ""}, {"message": "v3 ends in 2027"}])
def test_a_note_beside_the_rows_is_no_error(api: Api, body: dict[str, Any]) -> None:
    assert json.loads(ask(api.then(200, {**GOOD, **body})).body) == {**GOOD, **body}


@pytest.mark.parametrize("words", [LIMIT, {"error": "Quota exceeded"}, {"message": "Too many calls"}])
def test_a_401_about_the_rate_limit_is_tried_again(api: Api, words: dict[str, str]) -> None:
    assert json.loads(ask(api.then(401, words).then(200, GOOD)).body) == GOOD
    assert len(api.requests) == 2


@pytest.mark.parametrize("endpoint", ["zones", "health"])
def test_an_error_is_no_list_of_zones_and_no_health(api: Api, endpoint: str) -> None:
    api.then(200, {"error": "Internal failure"})
    with ElectricityMapsClient(api.url) as client, pytest.raises(ProviderError, match="Internal failure"):
        getattr(client, endpoint)()


# --- redirects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_names_its_target_and_the_address_to_set_which_works(api: Api, status: int) -> None:
    new = Api()
    try:
        new.then(200, GOOD)
        moved = f"{new.url.replace('/v3', '/proxy/v4')}"
        api.then(status, "", Location=f"{moved}/carbon-intensity/history?zone=GR&auth-token={TOKEN}#{TOKEN}")
        with pytest.raises(WrongAddressError) as caught:
            ask(api)
        assert f"It leads to {moved}/carbon-intensity/history. Set EMAPS_API_URL={moved}" in str(caught.value)
        assert new.requests == []
        assert TOKEN not in visible_text(caught.value)
        named = re.search(r"EMAPS_API_URL=(\S+)", str(caught.value))
        assert named is not None
        assert ask(api, named[1]).source == "electricitymaps/v4/carbon-intensity/history"
    finally:
        new.stop()


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("https://portal.example.org/login?next=secret", "It leads to https://portal.example.org/login. Set EMAPS_"),
        ("/login", "It leads to {root}/login. Set EMAPS_API_URL to the API's address"),
        ("https://user:password@example.org/x", "It leads to https://example.org/x. Set EMAPS_API_URL to"),
        ("//example.org/v3/carbon-intensity/history", "Set EMAPS_API_URL=http://example.org/v3"),
        # A slash more at the end: the same address would be redirected again.
        ("{root}/v3/carbon-intensity/history/", "Set EMAPS_API_URL to the API's address"),
        (f"/{TOKEN}/x", "It leads to {root}/[token]/x."),
        ("http://[broken", "Its target cannot be read."),
        ("", "It names no target. Set EMAPS_API_URL to the API's address"),
        (None, "It names no target."),
    ],
)
def test_a_redirect_elsewhere_names_its_target_without_secrets(api: Api, location: str | None, says: str) -> None:
    root = api.url.removesuffix("/v3")
    headers = {} if location is None else {"Location": location.replace("{root}", root)}
    with pytest.raises(WrongAddressError) as caught:
        ask(api.then(302, "", **headers))
    assert says.replace("{root}", root) in str(caught.value)
    for secret in (TOKEN, "password", "secret"):
        assert secret not in str(caught.value)


def test_the_address_that_a_gateways_404_asks_for_works(api: Api) -> None:
    api.then(404, NGINX)
    with pytest.raises(WrongAddressError, match="Set EMAPS_API_URL"):
        ask(api, api.url.removesuffix("/v3"))
    api.script[:] = []
    assert ask(api.then(200, GOOD)).received_at == NOW


# --- what a person is asked to do -----------------------------------------------------------------

# What comes first, its error, what the message asks for; then it has come about, and the same is asked again.
CAUSES: dict[str, tuple[int, Any, type[ProviderError], str]] = {
    "no data yet": (404, NO_DATA, NoDataError, "run these partitions again when the provider has them"),
    "nothing yet": (204, "", NoDataError, "run these partitions again when the provider has them"),
    "an error in a 200": (200, NO_DATA, NoDataError, "run these partitions again when the provider has them"),
    "firewall": (403, FORTINET, BlockedError, "Have the host of EMAPS_API_URL allowed there"),
    "plan": (401, PLAN, NotInPlanError, "Change EMAPS_ZONES, the range, or the plan"),
    "token": (401, KEY, InvalidTokenError, "a new token can take a while to work"),
    "limit": (429, LIMIT, RateLimitedError, "Run these partitions again later"),
    "down": (503, "", ProviderUnavailableError, "then run these partitions again"),
    "sandbox": (200, {**GOOD, "_disclaimer": "SANDBOX"}, RejectedBodyError, "run these hours again later"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_when_it_has_come_about_the_same_question_is_answered(api: Api, cause: str) -> None:
    status, body, kind, asked = CAUSES[cause]
    with pytest.raises(kind, match=asked):
        ask(api.then(status, body), attempts=1)
    api.script[:] = []
    assert json.loads(ask(api.then(200, GOOD), attempts=1).body) == GOOD


def test_token_zone_range_and_plan_are_changed_as_the_messages_say() -> None:
    old, end = utc(2024, 5, 1), utc(2024, 5, 2)
    with Simulator(token=TOKEN, zones=("GR",), now=utc(2024, 5, 4, 10, 7), plan="free") as sim:

        def client(token: str = TOKEN) -> ElectricityMapsClient:
            return ElectricityMapsClient(sim.url, SecretStr(token), clock=sim.now, attempts=1)

        with client("another") as wrong, pytest.raises(InvalidTokenError, match="Set EMAPS_API_TOKEN"):
            wrong.history(CARBON, "GR")
        with client() as right:
            with pytest.raises(ProviderError, match=r"Change EMAPS_ZONES|Check EMAPS_API_URL and EMAPS_ZONES|zone key"):
                right.history(CARBON, "FR")
            with pytest.raises(NotInPlanError, match="Change EMAPS_ZONES, the range, or the plan"):
                right.past_range(CARBON, "GR", Window(old, end))
            # The token, the zone and the range.
            assert right.history(CARBON, "GR").window.end == utc(2024, 5, 4, 11)
            sim.account = replace(sim.account, plan="paid")
            assert right.past_range(CARBON, "GR", Window(old, end)).window.start == old


# --- source ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/v3", "v3"),
        ("/v4", "v4"),
        ("/proxy/v4/", "v4"),
        ("/v3.1", "v3.1"),
        ("", "unversioned"),
        ("/api", "unversioned"),
    ],
)
def test_the_source_names_the_version_of_the_base_url(api: Api, path: str, version: str) -> None:
    api.then(200, GOOD).then(200, {"zone": "GR", "data": GOOD["history"]})
    root = api.url.removesuffix("/v3")
    with ElectricityMapsClient(root + path, SecretStr(TOKEN)) as client:
        history = client.history(CARBON, "GR")
        hour = history.window.start
        assert hour is not None
        assert history.window.end is not None
        past = client.past_range(CARBON, "GR", Window(hour, history.window.end))
    assert history.source == f"electricitymaps/{version}/carbon-intensity/history"
    assert past.source == f"electricitymaps/{version}/carbon-intensity/past-range"
