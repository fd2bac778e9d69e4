"""The client against a real HTTP server on loopback. Which bodies it lets in: test_bodies.py."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import pickle
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import (
    BadRequestError,
    InvalidTokenError,
    NoDataError,
    NotInPlanError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RejectedBodyError,
    SettingsError,
)
from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import CARBON, POWER
from emaps_dagster.electricity_maps.client import ElectricityMapsClient, past_range_chunks

TOKEN = "s3cret/Token+0123456789"
NOW = datetime(2024, 3, 6, 19, 30, tzinfo=timezone.utc)


def hour(day: int, of_day: int = 0) -> datetime:
    return datetime(2024, 1, day, of_day, tzinfo=timezone.utc)


def body(*rows: dict[str, Any], key: str = "history", **envelope: Any) -> dict[str, Any]:
    rows = rows or ({"datetime": "2024-01-01T00:00:00.000Z", "carbonIntensity": 300},)
    return {"zone": "GR", key: list(rows), **envelope}


class Api:
    """Answers by script, one entry a request; the last entry answers all that follow."""

    def __init__(self) -> None:
        self.script: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                api.script[min(len(api.requests), len(api.script)) - 1](self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v3"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def then(self, status: int, content: object = "", **headers: str) -> Api:
        sent = content if isinstance(content, bytes) else None
        if sent is None:
            sent = (content if isinstance(content, str) else json.dumps(content)).encode()

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(sent)))
            handler.end_headers()
            handler.wfile.write(sent)

        self.script.append(answer)
        return self

    def then_truncated(self) -> Api:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"zone": "GR"')

        self.script.append(answer)
        return self

    def then_reset(self) -> Api:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            handler.close_connection = True
            # The handler flushes its file afterwards; give it one that is not the closed socket's.
            handler.wfile = io.BytesIO()

        self.script.append(answer)
        return self

    def then_slow(self, seconds: float) -> Api:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            time.sleep(seconds)

        self.script.append(answer)
        return self


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("NO_PROXY", "*")
    server = Api()
    yield server
    server.stop()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have waited before each further try."""
    taken: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", taken.append)
    return taken


def ask(api: Api, url: str | None = None, token: str | None = TOKEN, **options: Any) -> AcceptedResponse:
    options = {"backoff_seconds": 0.01, "attempts": 3, "timeout": (5, 30), **options}
    secret = None if token is None else SecretStr(token)
    with ElectricityMapsClient(url or api.url, secret, clock=lambda: NOW, **options) as client:
        return client.history(CARBON, "GR")


def tell(error: BaseException) -> str:
    """Everything a person or a log can get out of an exception and its chain."""
    lines = traceback.format_exception(error)
    seen = [str(error), repr(error), *lines, repr(pickle.dumps(error))]
    link: BaseException | None = error.__context__
    while link is not None:
        seen += [repr(link), repr(vars(link))]
        link = link.__context__
    return "\n".join(seen)


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
    with ElectricityMapsClient(api.url, None) as client, pytest.raises(RejectedBodyError, match="outside the range"):
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


# --- retries --------------------------------------------------------------------------------------

GOOD = body()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 520])
def test_a_passing_fault_is_retried(api: Api, status: int) -> None:
    assert ask(api.then(status).then(status).then(200, GOOD)).window.start == hour(1)
    assert len(api.requests) == 3


def test_a_truncated_body_is_retried_and_never_returned(api: Api) -> None:
    assert json.loads(ask(api.then_truncated().then(200, GOOD)).body) == GOOD
    assert len(api.requests) == 2


def test_a_reset_connection_is_retried(api: Api) -> None:
    assert json.loads(ask(api.then_reset().then(200, GOOD)).body) == GOOD


def test_a_slow_answer_is_retried(api: Api) -> None:
    assert json.loads(ask(api.then_slow(2).then(200, GOOD), timeout=(5, 1)).body) == GOOD


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitedError), (503, ProviderUnavailableError)])
def test_a_lasting_fault_is_an_error_after_the_last_try(api: Api, status: int, kind: type[ProviderError]) -> None:
    with pytest.raises(kind, match=r"carbon-intensity/history of zone GR, the last 24 hours.*3 tries"):
        ask(api.then(status))
    assert len(api.requests) == 3


def test_a_closed_port_is_unavailable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        pytest.raises(ProviderUnavailableError, match=r"GR.*refused"),
        ElectricityMapsClient(f"http://127.0.0.1:{port}/v3", None, attempts=2, backoff_seconds=0.01) as client,
    ):
        client.history(CARBON, "GR")


def test_retry_after_in_seconds_is_honoured(api: Api) -> None:
    began = time.monotonic()
    ask(api.then(429, Retry_After="1").then(200, GOOD))
    assert time.monotonic() - began >= 1.0


def test_retry_after_as_a_date_is_honoured(api: Api) -> None:
    at = datetime.now(timezone.utc) + timedelta(seconds=2)
    ask(api.then(503, Retry_After=format_datetime(at, usegmt=True)).then(200, GOOD))
    # The header has whole seconds.
    assert datetime.now(timezone.utc) >= at.replace(microsecond=0)


@pytest.mark.parametrize(
    "value", ["soon", "-5", "", "1_0", "9" * 500, "Thu, 99 Foo 2024", "Thu, 01 Jan 99999 00:00:00 GMT"]
)
def test_an_unreadable_retry_after_falls_back_to_backoff(api: Api, value: str, pauses: list[float]) -> None:
    ask(api.then(429, Retry_After=value).then(200, GOOD))
    assert len(pauses) == 1
    assert 0 <= pauses[0] <= 0.01


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitedError), (503, ProviderUnavailableError)])
def test_a_retry_after_beyond_patience_is_an_error_naming_the_wait_and_the_one_try(
    api: Api, status: int, kind: type[ProviderError], pauses: list[float]
) -> None:
    with pytest.raises(kind, match=r"after 1 try\. The provider asks to wait 3600 s\."):
        ask(api.then(status, Retry_After="3600"))
    assert (len(api.requests), pauses) == (1, [])


def test_giving_up_at_the_second_try_says_so(api: Api) -> None:
    with pytest.raises(RateLimitedError, match=r"after 2 tries\. The provider asks to wait 3600 s\."):
        ask(api.then(503).then(429, Retry_After="3600"))


def test_requests_and_retries_are_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="emaps_dagster.electricity_maps.client")
    ask(api.then(503).then(200, GOOD))
    levels = [record.levelname for record in caplog.records if record.name == "emaps_dagster.electricity_maps.client"]
    assert levels == ["INFO", "WARNING", "INFO"]
    assert "/v3/carbon-intensity/history?zone=GR" in caplog.text


# --- the token ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 422, 429, 500])
@pytest.mark.parametrize("echo", [f"you sent {TOKEN}", json.dumps({"error": TOKEN, "message": TOKEN})])
def test_an_echoed_token_is_nowhere(api: Api, caplog: pytest.LogCaptureFixture, status: int, echo: str) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ProviderError) as caught:
        ask(api.then(status, echo), attempts=2)
    assert TOKEN not in tell(caught.value)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("fault", ["then_truncated", "then_reset"])
def test_network_faults_do_not_carry_the_token(api: Api, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    caplog.set_level(logging.DEBUG)
    getattr(api, fault)()
    with pytest.raises(ProviderUnavailableError) as caught:
        ask(api, attempts=2)
    assert TOKEN not in tell(caught.value)
    assert TOKEN not in caplog.text


def test_the_client_neither_shows_nor_pickles_its_token() -> None:
    with ElectricityMapsClient("http://127.0.0.1:9/v3", SecretStr(TOKEN)) as client:
        assert TOKEN not in repr(client) + str(vars(client))
        with pytest.raises(TypeError, match="token"):
            pickle.dumps(client)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(TOKEN, id="as it is"),
        pytest.param(TOKEN.replace("/", "\\/"), id="as PHP escapes it"),
        pytest.param(TOKEN.replace("+", "\\u002B").replace("/", "\\u002f"), id="as JSON escapes it"),
        pytest.param(quote(TOKEN, safe=""), id="as a URL escapes it"),
        pytest.param(TOKEN.replace("/", "&#x2F;").replace("+", "&#43;"), id="as HTML escapes it"),
    ],
)
@pytest.mark.parametrize("usable", [True, False])
def test_a_200_that_repeats_the_token_is_refused_and_kept_without_it(api: Api, form: str, usable: bool) -> None:
    text = json.dumps(body(note="here", more="there") if usable else {"zone": "GR", "note": "here"})
    with pytest.raises(RejectedBodyError, match="repeats the API token") as caught:
        ask(api.then(200, text.replace("here", f"Bearer {form}")))
    kept = caught.value.response
    assert kept.body == text.replace("here", "Bearer [token]")
    assert kept.payload_sha256 == hashlib.sha256(kept.body.encode()).hexdigest()
    assert not isinstance(kept, AcceptedResponse)
    assert form not in tell(caught.value)


UNSENDABLE = ["first-half\nsecond-half", "first-half second-half", "first-half\n", "first-half\x00", "first-halfß", ""]


@pytest.mark.parametrize("token", UNSENDABLE)
def test_a_token_that_no_header_holds_is_refused_without_being_shown(api: Api, token: str) -> None:
    with pytest.raises(SettingsError, match=r"token cannot be sent: one word of printable ASCII") as caught:
        ask(api.then(200, GOOD), token=token)
    assert "first-half" not in tell(caught.value)
    assert api.requests == []


def test_a_body_that_is_not_utf8_is_refused_and_every_byte_of_it_kept(api: Api) -> None:
    with pytest.raises(RejectedBodyError, match="not UTF-8") as caught:
        ask(api.then(200, json.dumps(GOOD).encode().replace(b"history", b"hi\xff\xfestory")))
    assert caught.value.response.body == json.dumps(GOOD).replace("history", "hi\\xff\\xfestory")


def test_a_byte_order_mark_is_named(api: Api) -> None:
    with pytest.raises(RejectedBodyError, match="byte order mark"):
        ask(api.then(200, b"\xef\xbb\xbf" + json.dumps(GOOD).encode()))


def test_an_interrupt_that_falls_into_closing_connections_is_not_lost(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: HTTPConnection) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    api.then(200, body())
    client = ElectricityMapsClient(api.url)
    client.history(CARBON, "GR")
    monkeypatch.setattr(HTTPConnection, "close", interrupted)
    with pytest.raises(KeyboardInterrupt), client:
        pass
    with client:
        pass


def test_a_netrc_password_is_not_sent(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    ask(api.then(200, GOOD))
    assert "authorization" not in api.requests[0][1]
