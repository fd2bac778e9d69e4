"""A server that answers as a test scripts it, and one request to it by the client."""

from __future__ import annotations

import io
import json
import pickle
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr

from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.electricity_maps.client import ElectricityMapsClient

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


GOOD = body()


def ask(api: Api, url: str | None = None, token: str | None = TOKEN, **options: Any) -> AcceptedResponse:
    options = {"backoff_seconds": 0.01, "attempts": 3, "timeout": (5, 30), **options}
    secret = None if token is None else SecretStr(token)
    with ElectricityMapsClient(url or api.url, secret, clock=lambda: NOW, **options) as client:
        return client.history(CARBON, "GR")


def visible_text(error: BaseException) -> str:
    """Everything a person or a log can get out of an exception and its chain."""
    lines = traceback.format_exception(error)
    seen = [str(error), repr(error), *lines, repr(pickle.dumps(error))]
    link: BaseException | None = error.__context__
    while link is not None:
        seen += [repr(link), repr(vars(link))]
        link = link.__context__
    return "\n".join(seen)
