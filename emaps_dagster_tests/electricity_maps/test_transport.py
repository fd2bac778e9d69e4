"""How a response is read: its deadline, its end, its length, over real sockets."""

from __future__ import annotations

import gzip
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from emaps_dagster.contracts.errors import (
    NoDataError,
    ProviderError,
    ProviderUnavailableError,
    RejectedBodyError,
    ResponseTooLongError,
)
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.error_bodies import is_cut_off
from emaps_dagster.electricity_maps.transport import MOST_BYTES
from emaps_dagster_tests.support.scripted_api import GOOD, TOKEN, Api, ask, visible_text

WHOLE = json.dumps({**GOOD, "note": "a {brace} in a string"}).encode()


def raw(head: str, *parts: bytes, pause: float = 0.0) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer as bytes, after which the connection ends; a client that goes away ends it, too."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        try:
            for part in (head.replace("\n", "\r\n").encode(), *parts):
                handler.wfile.write(part)
                time.sleep(pause)
        except ConnectionError:
            pass

    return answer


def drip(content: bytes) -> list[bytes]:
    return [content[place : place + 2] for place in range(0, len(content), 2)]


# --- the deadline ---------------------------------------------------------------------------------

DRIPS: dict[str, tuple[str, list[bytes]]] = {
    "a body": (f"HTTP/1.1 200 OK\nContent-Length: {len(WHOLE)}\n\n", drip(WHOLE)),
    "a body without length": ("HTTP/1.0 200 OK\n\n", drip(WHOLE)),
    "chunks": ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", [b"2\r\n" + two + b"\r\n" for two in drip(WHOLE)]),
    "headers": ("HTTP/1.1 200 OK\n", drip(b"X-Header: " + b"x" * 200)),
    "the status line": ("HTTP", drip(b" " * 200)),
    "the body of an error": ("HTTP/1.1 401 Unauthorized\nContent-Length: 200\n\n", drip(b"x" * 200)),
}


@pytest.mark.parametrize("what", DRIPS)
def test_a_response_that_drips_is_given_up_at_its_deadline_and_requested_again(api: Api, what: str) -> None:
    head, parts = DRIPS[what]
    # No pause between bytes is as long as the timeout for one.
    api.script.append(raw(head, *parts, pause=0.1))
    assert json.loads(ask(api.then(200, GOOD), timeout=(1, 0.4)).body) == GOOD
    assert len(api.requests) == 2


def test_a_response_that_always_drips_is_an_error_that_names_the_deadline(api: Api) -> None:
    api.script.append(raw(DRIPS["a body"][0], *DRIPS["a body"][1], pause=0.1))
    with pytest.raises(ProviderUnavailableError, match=r"not complete after 1\.5 s\) after 2 tries") as caught:
        ask(api, timeout=(1, 1.0), attempts=2)
    assert TOKEN not in visible_text(caught.value)


def test_a_deadline_is_of_one_response_and_not_of_a_client(api: Api) -> None:
    api.script.append(
        raw(f"HTTP/1.1 200 OK\nConnection: close\nContent-Length: {len(WHOLE)}\n\n", WHOLE[:9], WHOLE[9:], pause=0.3)
    )
    with ElectricityMapsClient(api.url, timeout=(1, 2.0), attempts=1) as client:
        for _ in range(4):
            client.history(CARBON, "GR")
    assert len(api.requests) == 4


# --- the end --------------------------------------------------------------------------------------

HALF = WHOLE[: len(WHOLE) // 2]
CUTS = {
    "no length": ("HTTP/1.0 200 OK\n\n", HALF),
    "no length, behind a brace": ("HTTP/1.0 200 OK\n\n", WHOLE[: WHOLE.index(b"}") + 1]),
    "no length and nothing": ("HTTP/1.0 200 OK\n\n", b""),
    "less than the length": (f"HTTP/1.1 200 OK\nContent-Length: {len(WHOLE)}\n\n", HALF),
    "nothing of the length": (f"HTTP/1.1 200 OK\nContent-Length: {len(WHOLE)}\n\n", b""),
    "a chunk that is too short": ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", b"ff\r\n" + HALF),
    "no last chunk": (
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n",
        f"{len(HALF):x}\r\n".encode() + HALF + b"\r\n",
    ),
    # A proxy that hands on what it got of a body that was cut off.
    "a wrong length": (f"HTTP/1.1 200 OK\nContent-Length: {len(HALF)}\n\n", HALF),
    "gzip": ("HTTP/1.0 200 OK\nContent-Encoding: gzip\n\n", gzip.compress(WHOLE)[:-40]),
    "in the headers": ("HTTP/1.1 200 OK\nContent-Le", b""),
    "before the status": ("", b""),
}


@pytest.mark.parametrize("what", CUTS)
def test_a_body_that_is_cut_off_is_requested_again(api: Api, what: str) -> None:
    head, content = CUTS[what]
    api.script.append(raw(head, content))
    assert json.loads(ask(api.then(200, GOOD)).body) == GOOD
    assert len(api.requests) == 2


def test_a_body_that_is_always_cut_off_is_kept_as_evidence(api: Api) -> None:
    api.script.append(raw(*CUTS["no length"]))
    with pytest.raises(RejectedBodyError, match=r"its body was cut off in every try, at last after \d+ char") as caught:
        ask(api)
    assert caught.value.response.body == HALF.decode()
    assert len(api.requests) == 3


def test_an_empty_body_that_may_be_cut_off_is_unavailable_in_the_end(api: Api) -> None:
    api.script.append(raw(*CUTS["no length and nothing"]))
    with pytest.raises(ProviderUnavailableError, match=r"cut off after 0 bytes after 3 tries"):
        ask(api)
    api.script[:] = []
    with pytest.raises(NoDataError):
        ask(api.then(200, ""))


@pytest.mark.parametrize("where", ["zones", "updates"])
def test_a_list_that_is_cut_off_is_requested_again(api: Api, where: str) -> None:
    whole: dict[str, Any] = {"GR": {"zoneName": "Greece"}, "BG": {"zoneName": "Bulgaria"}}
    api.script.append(raw("HTTP/1.0 200 OK\n\n", json.dumps(whole)[:30].encode()))
    if where == "zones":
        api.then(200, whole)
    with ElectricityMapsClient(api.url, backoff_seconds=0.01, attempts=2) as client:
        if where == "zones":
            assert client.zones() == whole
        else:
            with pytest.raises(ProviderError, match="is no usable JSON object"):
                client.zones()
    assert len(api.requests) == 2


@pytest.mark.parametrize(
    ("content", "cut"),
    [
        (b'{"a": 1}', False),
        (b' {"a": "}"}\n', False),
        (b'{"a": "{"}', False),
        (b'{"a": {}', True),
        (b'{"a": "{}', True),
        (b'{"a": 1', True),
        (b"{", True),
        (b"", False),
        (b"[1, 2", False),
        (b"<html><body>", False),
        (b'{"a": 1} and more', False),
        (b'{"a":' * 5000, False),
    ],
)
def test_a_json_object_without_its_end_is_known(content: bytes, *, cut: bool) -> None:
    assert is_cut_off(content) is cut


# --- the length -----------------------------------------------------------------------------------


def endless(sent: list[int]) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n")
        try:
            for _ in range(400):
                handler.wfile.write(b" " * 1_000_000)
                sent.append(1_000_000)
        except ConnectionError:
            pass

    return answer


def test_a_body_that_is_too_long_is_not_read_to_its_end_nor_requested_again(api: Api) -> None:
    sent: list[int] = []
    api.script.append(endless(sent))
    with pytest.raises(ResponseTooLongError, match=r"longer than 16 MB.*Check that EMAPS_API_URL") as caught:
        ask(api)
    assert len(api.requests) == 1
    # What the system's buffers hold was sent as well.
    assert sum(sent) < 100_000_000
    for part in ("carbon-intensity/history of zone GR", "the last 24 hours"):
        assert part in str(caught.value)
    assert TOKEN not in visible_text(caught.value)
    # The remedy: the address of the API.
    right = Api()
    try:
        assert json.loads(ask(api, right.then(200, GOOD).url).body) == GOOD
    finally:
        right.stop()


def test_a_small_body_that_unfolds_to_gigabytes_is_too_long(api: Api) -> None:
    block = gzip.compress(b" " * 100_000_000)
    assert len(block) < 200_000
    with pytest.raises(ResponseTooLongError, match="16 MB"):
        ask(api.then(200, block * 20, Content_Encoding="gzip"))
    assert len(api.requests) == 1


def test_a_body_as_long_as_the_limit_is_taken(api: Api) -> None:
    content = json.dumps(GOOD).encode().ljust(MOST_BYTES)
    assert len(ask(api.then(200, content)).body) == MOST_BYTES


def test_a_long_error_is_an_error_of_its_status(api: Api) -> None:
    with pytest.raises(ProviderError, match="HTTP 401"):
        ask(api.then(401, "<html>" + "x" * 1_000_000))


# --- connections ----------------------------------------------------------------------------------


def test_a_connection_is_used_again_after_a_whole_response_and_closed_after_a_broken_one() -> None:
    ports: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answers in ([WHOLE, WHOLE, b"x" * 20_000_000], [WHOLE]):
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as lines:
                    for content in answers:
                        while lines.readline().strip():
                            pass
                        ports.append(connection.getpeername()[1])
                        try:
                            connection.sendall(
                                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content
                            )
                        except ConnectionError:
                            break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with ElectricityMapsClient(f"http://127.0.0.1:{listener.getsockname()[1]}/v3", attempts=1) as client:
            client.history(CARBON, "GR")
            client.history(CARBON, "GR")
            with pytest.raises(ResponseTooLongError):
                client.history(CARBON, "GR")
            client.history(CARBON, "GR")
        thread.join(10)
    assert ports[0] == ports[1] == ports[2] != ports[3]


def test_an_interrupt_ends_a_read_at_once(api: Api) -> None:
    api.script.append(raw(f"HTTP/1.1 200 OK\nContent-Length: {len(WHOLE)}\n\n", *drip(WHOLE), pause=0.2))
    program = (
        # A shell starts what it runs in the background with interrupts ignored, and its children inherit that.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from emaps_dagster.electricity_maps.client import ElectricityMapsClient as C\n"
        "from emaps_dagster.contracts.zones import CARBON\n"
        f"with C({api.url!r}) as client:\n    client.history(CARBON, 'GR')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True)
    while not api.requests:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0, said
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert len(api.requests) == 1


def test_nothing_of_a_broken_response_is_logged_with_the_token(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for what in ("less than the length", "a chunk that is too short", "no length"):
        api.script.append(raw(*CUTS[what]))
    with pytest.raises(ProviderError) as caught:
        ask(api)
    assert TOKEN not in visible_text(caught.value)
    assert TOKEN not in caplog.text
