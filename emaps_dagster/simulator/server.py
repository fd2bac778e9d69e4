"""The API's HTTP contract over a simulated provider: paths, plans, errors, and faults on demand.

Binds to 127.0.0.1 only. `POST /_control` sets the clock and faults from another process.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit

from emaps_dagster.simulator.provider import Provider
from emaps_dagster.windows import HOUR, floor_hour, utc_now
from emaps_dagster.zones import FEEDS, Feed, zone_facts

Plan = Literal["free", "paid"]
FaultKind = Literal[
    "invalid_token",
    "not_in_plan",
    "not_found",
    "rate_limited",
    "server_error",
    "slow",
    "truncated",
    "html",
    "wrong_zone",
    "sandbox",
    "empty",
    "echo_token",
]
FAULT_KINDS: tuple[str, ...] = get_args(FaultKind)
# The first hour the simulator knows.
FIRST_HOUR = datetime(2021, 1, 1, tzinfo=timezone.utc)

Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the next `times` requests that match; None matches all."""

    kind: FaultKind
    times: int = 1
    feed: str | None = None
    zone: str | None = None
    endpoint: str | None = None
    retry_after: int = 1
    seconds: float = 1.0


@dataclass(frozen=True)
class Request:
    path: str
    status: int


class Simulator:
    """The server in a thread of this process; use it as a context manager.

    Args:
        seed: another seed is another weather.
        zones: zone keys it has data for; None for any.
        token: what clients must send; None lets everybody in.
        now: a fixed clock; None for the machine's.
        plan: `free` has latest and history only.
        port: 0 for a free one.
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
    ) -> None:
        self.provider = Provider(seed)
        self.zones = zones
        self.token = token
        self.plan = plan
        self.requests: list[Request] = []
        self._now = now
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        simulator = self

        class Handler(_Handler):
            owner = simulator

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v3"

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
        self._now = now

    def inject(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    def _take_fault(self, feed: str, endpoint: str, zone: str) -> Fault | None:
        with self._lock:
            for place, fault in enumerate(self._faults):
                if fault.feed in (None, feed) and fault.zone in (None, zone) and fault.endpoint in (None, endpoint):
                    left = replace(fault, times=fault.times - 1)
                    self._faults[place : place + 1] = [left] if left.times else []
                    return fault
        return None

    def answer(self, target: str, token: str | None) -> tuple[Answer, Fault | None]:
        """Status, headers and body for a GET, and the fault that applies to sending it."""
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/health":
            return _json(200, {"monitors": {"state": "ok"}, "status": "ok"}), None
        if parts.path == "/v3/zones":
            return _json(200, self._zones(token)), None
        names = parts.path.strip("/").split("/")
        feed = next((f for f in FEEDS if len(names) == 3 and names[:2] == ["v3", f.endpoint]), None)
        if feed is None or names[2] not in ("latest", "history", "past", "past-range"):
            return _json(404, {"error": "Not found"}), None
        endpoint, zone = names[2], query.get("zone", "")
        fault = self._take_fault(feed.endpoint, endpoint, zone)
        if fault and (broken := _broken(fault, feed, endpoint, zone, token)):
            return broken, fault
        good = self._signal(feed, endpoint, zone, query, token)
        return (_spoiled(good, fault) if fault and good[0] == 200 else good), fault

    def _zones(self, token: str | None) -> dict[str, Any]:
        paid = ["*"] if self.plan == "paid" else [f"{f.endpoint}/{e}" for f in FEEDS for e in ("latest", "history")]
        access = {"access": paid} if token and token == self.token else {}
        return {zone: {"zoneName": zone_facts(zone).name, **access} for zone in self.zones or ("GR",)}

    def _signal(self, feed: Feed, endpoint: str, zone: str, query: dict[str, str], token: str | None) -> Answer:
        if self.token is not None and token != self.token:
            return _unauthorised(token)
        if self.plan == "free" and endpoint.startswith("past"):
            return _not_in_plan(feed, zone)
        if self.zones is not None and zone not in self.zones:
            return _json(404, {"error": f'No recent data for zone "{zone}"'})
        now = self.now()
        running = floor_hour(now)
        if endpoint == "history":
            rows = self._rows(feed, zone, running - 23 * HOUR, running + HOUR, now)
            return _json(200, {"zone": zone, "history": rows, "temporalGranularity": "hourly"})
        if endpoint == "latest":
            rows = self._rows(feed, zone, running, running + HOUR, now)
            return _json(200, rows[0]) if rows else _json(404, {"error": f'No recent data for zone "{zone}"'})
        start = _parse(query.get("datetime" if endpoint == "past" else "start"))
        if start is None:
            name = "datetime" if endpoint == "past" else "start"
            return _json(400, {"status": "error", "message": f'Missing or invalid date parameter "{name}"'})
        if endpoint == "past":
            rows = self._rows(feed, zone, floor_hour(start), floor_hour(start) + HOUR, now)
            return _json(200, rows[0]) if rows else _json(404, {"error": f'No data for zone "{zone}"'})
        end = _parse(query.get("end"))
        if end is None or end <= start:
            return _json(400, {"status": "error", "message": 'Missing or invalid date parameter "end"'})
        if end - start > timedelta(days=10):
            return _json(400, {"status": "error", "message": "The range is longer than 10 days"})
        rows = self._rows(feed, zone, floor_hour(start), end, now)
        return _json(200, {"zone": zone, "data": rows, "temporalGranularity": "hourly"})

    def _rows(self, feed: Feed, zone: str, start: datetime, end: datetime, at: datetime) -> list[dict[str, Any]]:
        hours = (start + number * HOUR for number in range(-(-(end - start) // HOUR)))
        records = (self.provider.record(feed, zone, hour, at) for hour in hours if hour >= FIRST_HOUR)
        return [record for record in records if record is not None]

    def control(self, orders: dict[str, Any]) -> None:
        """Orders of another process: `now` (ISO 8601 or null), `fault` (fields of Fault), `revise`."""
        if "now" in orders:
            self.set_now(datetime.fromisoformat(orders["now"]) if orders["now"] else None)
        if "fault" in orders:
            self.inject(Fault(**orders["fault"]))
        if "revise" in orders:
            order = orders["revise"]
            hour = datetime.fromisoformat(order["hour"])
            self.provider.revise(order["zone"], hour, at=datetime.fromisoformat(order["at"]))


def _broken(fault: Fault, feed: Feed, endpoint: str, zone: str, token: str | None) -> Answer | None:
    """The answer of a fault that needs no data."""
    if fault.kind == "invalid_token":
        return _unauthorised(token)
    if fault.kind == "not_in_plan":
        return _not_in_plan(feed, zone)
    if fault.kind == "not_found":
        return _json(404, {"error": f'No recent data for zone "{zone}"'})
    if fault.kind == "rate_limited":
        status, headers, body = _json(429, {"error": "Too many requests"})
        return status, {**headers, "Retry-After": str(fault.retry_after)}, body
    if fault.kind == "server_error":
        return _json(503, {"status": "error", "message": "Service unavailable"})
    if fault.kind == "html":
        return 200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><html><body>Just a moment...</body></html>"
    if fault.kind == "empty":
        rows = "history" if endpoint == "history" else "data"
        return _json(200, {"zone": zone, rows: [], "temporalGranularity": "hourly"})
    if fault.kind == "echo_token":
        return _json(400, {"status": "error", "message": f"cannot use auth-token {token}"})
    return None


def _spoiled(answer: Answer, fault: Fault) -> Answer:
    """A good answer for the wrong zone or in sandbox mode."""
    body = json.loads(answer[2])
    rows = body.get("history") or body.get("data") or [body]
    if fault.kind == "wrong_zone":
        for part in (body, *rows):
            part["zone"] = "US-CAR-DUK"
    elif fault.kind == "sandbox":
        body["_disclaimer"] = "SANDBOX MODE: this data is not real"
        for row in rows:
            row["estimationMethod"] = "SANDBOX_MODE_DATA"
    return _json(answer[0], body)


def _unauthorised(token: str | None) -> Answer:
    message = "The provided token is invalid." if token else "Please provide a valid authentication header."
    return _json(401, {"error": "Invalid auth-token", "message": message})


def _not_in_plan(feed: Feed, zone: str) -> Answer:
    return _json(
        401,
        {
            "error": f"Request unauthorized for zoneKey={zone},requestType=past,dataType={feed.endpoint}.",
            "message": "You do not have access to this specific endpoint for this specific zone.",
        },
    )


def _json(status: int, body: Any) -> Answer:
    content = json.dumps(body, separators=(",", ":")).encode()
    return status, {"Content-Type": "application/json; charset=utf-8"}, content


def _parse(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


class _Handler(BaseHTTPRequestHandler):
    owner: Simulator
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        (status, headers, body), fault = self.owner.answer(self.path, self.headers.get("auth-token"))
        self.owner.requests.append(Request(self.path, status))
        if fault and fault.kind == "slow":
            time.sleep(fault.seconds)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault and fault.kind == "truncated":
            body, self.close_connection = body[: len(body) // 2], True
        self.wfile.write(body)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/_control":
            self.owner.control(json.loads(content))
        self.send_response(204 if self.path == "/_control" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the requests are in `Simulator.requests`."""
