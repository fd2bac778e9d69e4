"""The simulated API over HTTP: a server in a thread, with a clock that tests set and faults on demand.

Binds to 127.0.0.1 only. `POST /_control` sets clock, faults and perturbations from another process,
`GET /_control` returns them. api.py computes the responses of the API.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from emaps_dagster.contracts.windows import parse_utc, utc_now
from emaps_dagster.simulator import api
from emaps_dagster.simulator.api import Account, Answer, Plan
from emaps_dagster.simulator.faults import FAULT_KINDS, Fault, FaultKind, corrupt, replacement_response
from emaps_dagster.simulator.perturbations import FIRST_HOUR
from emaps_dagster.simulator.provider import Provider, Version

__all__ = ["FAULT_KINDS", "FIRST_HOUR", "Fault", "FaultKind", "Plan", "Request", "Simulator"]


@dataclass(frozen=True)
class Request:
    path: str
    status: int


class Simulator:
    """The server in a thread of this process; use it as a context manager.

    Args:
        seed: seed of the weather.
        zones: zone keys with data; None for any.
        token: token that clients must send; None disables the check.
        now: a fixed clock; None for the machine's.
        plan: `free` has latest and history only.
        version: that of `url`; the server answers both.
        port: 0 for a free port.
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        zones: tuple[str, ...] | None = None,
        token: str | None = None,
        now: datetime | None = None,
        plan: Plan = "paid",
        port: int = 0,
        version: Version = "v3",
    ) -> None:
        self.version: Version = version
        self.provider = Provider(seed)
        self.account = Account(zones, token, plan)
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.set_now(now)
        simulator = self

        class Handler(_Handler):
            owner = simulator

        self._server = _Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{self.version}"

    def __enter__(self) -> Simulator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def now(self) -> datetime:
        return self._now or utc_now()

    def set_now(self, now: datetime | None) -> None:
        """Stops the clock at a moment; None follows the machine's clock."""
        if now is not None and now.tzinfo is None:
            raise ValueError(f"the simulator's clock needs a time zone: {now.isoformat()} has none")
        self._now = now

    def inject(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    def answer(self, target: str, token: str | None) -> tuple[Answer, Fault | None]:
        """Status, headers and body for a GET, and the fault to apply while sending it."""
        to = api.route(target)
        fault = self._take_fault(to)
        if fault and (broken := replacement_response(fault, to, token)):
            return broken, fault
        good = api.answer(to, self.provider, self.account, token, self.now())
        return (corrupt(good, fault, to) if fault and good[0] == 200 else good), fault

    def _take_fault(self, to: api.Route) -> Fault | None:
        with self._lock:
            for place, fault in enumerate(self._faults):
                if fault.matches(to):
                    self._faults[place : place + 1] = fault.used()
                    return fault
        return None

    def control(self, orders: dict[str, Any]) -> None:
        """Applies the commands of another process, all keys optional.

        `now`: ISO 8601, null for the machine's clock; `fault`: fields of Fault; `clear_faults`: true;
        `perturb`: `{"do": "withhold", "zone": "GR", "start": ..., "end": ...}`, see Perturbations.

        Raises:
            ValueError: a command is unknown or has invalid values; it has no effect.
            TypeError: a command lacks an argument or has one too many.
        """
        unknown = orders.keys() - {"now", "fault", "clear_faults", "perturb", "revise"}
        if unknown:
            raise ValueError(f"order {', '.join(sorted(unknown))}: now, fault, clear_faults, perturb are allowed")
        now = parse_utc(orders["now"]) if orders.get("now") else None
        fault = Fault(**orders["fault"]) if "fault" in orders else None
        if "revise" in orders:
            orders = {**orders, "perturb": {"do": "revise", **orders["revise"]}}
        if "perturb" in orders:
            self.provider.apply_command(orders["perturb"])
        if "now" in orders:
            self.set_now(now)
        if "clear_faults" in orders:
            self.clear_faults()
        if fault:
            self.inject(fault)

    def status(self) -> dict[str, Any]:
        """The state returned by `GET /_control`."""
        with self._lock:
            faults = [asdict(fault) for fault in self._faults]
        planted = len(self.provider.planted)
        return {"now": self.now().isoformat(), "faults": faults, "planted": planted, "requests": len(self.requests)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that disconnect, as they should on a slow response."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    owner: Simulator
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    _late = timedelta(0)

    def do_GET(self) -> None:
        if self.path == "/_control":
            self._send(api.json_answer(200, self.owner.status()))
            return
        answer, fault = self.owner.answer(self.path, self.headers.get("auth-token"))
        self.owner.requests.append(Request(self.path, answer[0]))
        if fault and fault.kind == "slow":
            time.sleep(fault.seconds)
        if fault and fault.kind == "reset":
            self._reset()
        else:
            self._send(answer, fault)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/_control":
            self._send(api.json_answer(404, {"error": "Not found"}))
            return
        try:
            self.owner.control(json.loads(content))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            self._send(api.json_answer(400, {"status": "error", "message": str(error)}))
        else:
            self._send((204, {}, b""))

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The `Date` of a response: the simulated present, which clients compare with their own."""
        if timestamp is not None:
            return super().date_time_string(timestamp)
        present = self.owner.now() - self._late
        return format_datetime(present.astimezone(timezone.utc), usegmt=True)

    def _send(self, answer: Answer, fault: Fault | None = None) -> None:
        status, headers, body = answer
        kind = fault.kind if fault else None
        self._late = timedelta(days=1) if kind == "wrong_clock" else timedelta(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if kind == "cut_off":
            # Like a server of HTTP/1.0 that dies: the response has no length.
            self.send_header("Connection", "close")
        elif status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind in ("truncated", "cut_off"):
            body, self.close_connection = body[: len(body) // 2], True
        if fault and kind == "dripping":
            self._drip(body, fault.seconds)
        else:
            self.wfile.write(body)

    def _drip(self, body: bytes, seconds: float) -> None:
        for place in range(0, len(body), 2):
            self.wfile.write(body[place : place + 2])
            self.wfile.flush()
            time.sleep(seconds)

    def _reset(self) -> None:
        """Closes the connection so that the client's system reports a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        """Logs nothing: the requests are in `Simulator.requests`."""
