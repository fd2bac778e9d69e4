"""The token and its parts: in no error, log, pickle or stored body; and what else a client must not send or lose."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import (
    ProviderError,
    ProviderUnavailableError,
    RejectedBodyError,
    SettingsError,
)
from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster_tests.support.scripted_api import GOOD, TOKEN, Api, ask, body, visible_text


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 422, 429, 500])
@pytest.mark.parametrize("echo", [f"you sent {TOKEN}", json.dumps({"error": TOKEN, "message": TOKEN})])
def test_an_echoed_token_is_nowhere(api: Api, caplog: pytest.LogCaptureFixture, status: int, echo: str) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ProviderError) as caught:
        ask(api.then(status, echo), attempts=2)
    assert TOKEN not in visible_text(caught.value)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("fault", ["then_truncated", "then_reset"])
def test_network_faults_do_not_carry_the_token(api: Api, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    caplog.set_level(logging.DEBUG)
    getattr(api, fault)()
    with pytest.raises(ProviderUnavailableError) as caught:
        ask(api, attempts=2)
    assert TOKEN not in visible_text(caught.value)
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
    assert form not in visible_text(caught.value)


UNSENDABLE = ["first-half\nsecond-half", "first-half second-half", "first-half\n", "first-half\x00", "first-halfß", ""]


@pytest.mark.parametrize("token", UNSENDABLE)
def test_a_token_that_no_header_holds_is_refused_without_being_shown(api: Api, token: str) -> None:
    with pytest.raises(SettingsError, match=r"token cannot be sent: one word of printable ASCII") as caught:
        ask(api.then(200, GOOD), token=token)
    assert "first-half" not in visible_text(caught.value)
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
