"""Faults injected into responses on demand: their kinds, and the requests they match.

A fault changes the response that the server sends; perturbations.py changes the provider's data.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from emaps_dagster.contracts.signals import FLOWS, MIX, MIX_SIGNALS, TRACED_MIX
from emaps_dagster.contracts.zones import FEEDS
from emaps_dagster.simulator.api import (
    SIGNAL_ENDPOINTS,
    Answer,
    Route,
    gone,
    json_answer,
    no_data,
    not_in_plan,
    not_in_trial,
    unauthorised,
)

FaultKind = Literal[
    # Replacing the response:
    "invalid_token",  # 401, wrong token
    "not_in_plan",  # 401, this endpoint of this zone is not paid for
    "not_in_trial",  # 401, the text that a trial key gets
    "not_found",  # 404
    "gone",  # 410, the endpoint is discontinued
    "rate_limited",  # 429 with Retry-After
    "server_error",  # 503
    "echo_token",  # 400 whose text repeats the token
    "html",  # 200 with the page of a proxy
    "reset",  # the connection is reset before a byte is sent
    # The right response, with faulty transport:
    "slow",  # after `seconds`
    "truncated",  # half of the body, then the end
    "cut_off",  # likewise, without a Content-Length
    "dripping",  # two bytes at a time, `seconds` apart
    "wrong_clock",  # with a Date of a day before
    "not_utf8",  # bytes that are no UTF-8
    # The right response, with changed content:
    "wrong_zone",  # for another zone
    "sandbox",  # with the marks of a sandbox key
    "quarter_hours",  # four rows an hour, of 15 minutes
    "other_breakdown",  # of electricity-mix: another type than the requested one
    "empty",  # no rows
    "missing_rows",  # every third hour is missing
    "null_row",  # a null instead of the second row
    "long_numbers",  # values divided by three, so that most have 16 or 17 digits
    "null_values",  # carbon intensity, totals, breakdowns' values: all null
    "duplicated_rows",  # every row twice
    "unordered_rows",  # the last hour first
]
FAULT_KINDS: tuple[str, ...] = get_args(FaultKind)
# A fault matches `zones`, `health` and `updated-since` only if it names them.
_WITHOUT_ZONE = (MIX, TRACED_MIX, FLOWS)
_VALUES = ("power", "carbonIntensity", "fossil", "renewable", "mix", "import", "export", "value")
_ENDPOINTS = (*SIGNAL_ENDPOINTS, "updated-since", "zones", "health")


@dataclass(frozen=True)
class Fault:
    """A fault of the next `times` matching requests; None matches all signals, and `times=None` never expires.

    Raises:
        ValueError: the kind, feed or endpoint does not exist, so the fault would never match.
    """

    kind: FaultKind
    times: int | None = 1
    feed: str | None = None
    zone: str | None = None
    endpoint: str | None = None
    retry_after: int = 1
    seconds: float = 1.0

    def __post_init__(self) -> None:
        for what, given, allowed in (
            ("kind", self.kind, FAULT_KINDS),
            ("feed", self.feed, tuple(feed.endpoint for feed in (*FEEDS, *MIX_SIGNALS))),
            ("endpoint", self.endpoint, _ENDPOINTS),
        ):
            if given is not None and given not in allowed:
                raise ValueError(f"fault {what} {given!r}: one of {', '.join(allowed)} is allowed")
        if self.times is not None and self.times < 1:
            raise ValueError(f"fault times {self.times}: at least 1, or null for ever")

    def matches(self, route: Route) -> bool:
        if self.endpoint is None and route.endpoint not in SIGNAL_ENDPOINTS:
            return False
        feed = route.feed.endpoint if route.feed else None
        return self.feed in (None, feed) and self.zone in (None, route.zone) and self.endpoint in (None, route.endpoint)

    def used(self) -> list[Fault]:
        """The remaining fault after one use; empty when none is left."""
        if self.times is None:
            return [self]
        return [replace(self, times=self.times - 1)] if self.times > 1 else []


def replacement_response(fault: Fault, route: Route, token: str | None) -> Answer | None:
    """The response of a fault that needs no data; None for the other kinds."""
    make = _REPLACEMENTS.get(fault.kind)
    return make(fault, route, token) if make else None


def _rate_limited(fault: Fault, _route: Route, _token: str | None) -> Answer:
    status, headers, body = json_answer(429, {"error": "Too many requests"})
    return status, {**headers, "Retry-After": str(fault.retry_after)}, body


_PAGE = b"<!DOCTYPE html><html><body>Just a moment...</body></html>"
_REPLACEMENTS: dict[str, Callable[[Fault, Route, str | None], Answer]] = {
    "invalid_token": lambda _, __, token: unauthorised(token or "?"),
    "not_in_plan": lambda _, route, __: not_in_plan(route),
    "not_in_trial": lambda _, __, ___: not_in_trial(),
    "not_found": lambda _, route, __: no_data(route.zone),
    "gone": lambda _, route, __: gone(route),
    "rate_limited": _rate_limited,
    "server_error": lambda _, __, ___: json_answer(503, {"status": "error", "message": "Service unavailable"}),
    "html": lambda _, __, ___: (200, {"Content-Type": "text/html"}, _PAGE),
    "echo_token": lambda _, __, token: json_answer(
        400, {"status": "error", "message": f"cannot use auth-token {token}"}
    ),
}


def corrupt(answer: Answer, fault: Fault, route: Route) -> Answer:
    """Changes the content of a good response; kinds that change rows leave a body of one row unchanged."""
    status, headers, content = answer
    if fault.kind == "not_utf8":
        return status, headers, content.replace(b'"zone"', b'"z\xf6ne"')
    body = json.loads(content)
    name = next((name for name in ("history", "data", "updates") if name in body), None)
    rows = body[name] if name else [body]
    if fault.kind == "wrong_zone":
        for part in (body, *(rows if route.feed not in _WITHOUT_ZONE else ())):
            part["zone"] = "US-CAR-DUK"
    elif fault.kind == "sandbox":
        _mark_sandbox(body, rows, route)
    elif fault.kind == "quarter_hours" and name:
        body["temporalGranularity"] = "15_minutes"
        body[name] = [
            {**row, "datetime": row["datetime"].replace(":00:00.000Z", f":{minute:02}:00.000Z")}
            for row in rows
            for minute in (0, 15, 30, 45)
        ]
    elif fault.kind in _ROW_CHANGES:
        for row in rows:
            row.update(_ROW_CHANGES[fault.kind](row))
    elif name:
        body[name] = _other_rows(rows, fault)
    return json_answer(status, body)


def _mark_sandbox(body: dict[str, Any], rows: list[Any], route: Route) -> None:
    """Marks a body as a sandbox key gets it: a row of v4's mix has no disclaimer, and one of flows no mark at all."""
    if route.feed == FLOWS:
        return
    if route.feed not in MIX_SIGNALS:
        body["_disclaimer"] = "SANDBOX MODE: this data is not real"
    for row in rows:
        row["estimationMethod"] = "SANDBOX_MODE_DATA"
        if route.feed in MIX_SIGNALS:
            row["isEstimated"] = True
            row.pop("breakdownType", None)


def _with_values(row: dict[str, Any], change: Callable[[Any], float | None]) -> dict[str, Any]:
    values = {key: value for key, value in row.items() if key.startswith(_VALUES)}
    return {
        key: {name: _changed(part, change) for name, part in value.items()}
        if isinstance(value, dict)
        else change(value)
        for key, value in values.items()
    }


def _other_breakdown(row: dict[str, Any]) -> dict[str, Any]:
    other = {"normal": "flow-traced", "flow-traced": "normal"}
    return {"breakdownType": other[row["breakdownType"]]} if "breakdownType" in row else {}


_ROW_CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "other_breakdown": _other_breakdown,
    "null_values": lambda row: _with_values(row, lambda _: None),
    "long_numbers": lambda row: _with_values(row, lambda value: None if value is None else value / 3),
}


def _changed(part: Any, change: Callable[[Any], float | None]) -> Any:
    """A value of a breakdown, or the object of a storage."""
    return {name: change(value) for name, value in part.items()} if isinstance(part, dict) else change(part)


def _other_rows(rows: list[Any], fault: Fault) -> list[Any]:
    if fault.kind == "empty":
        return []
    if fault.kind == "missing_rows":
        return [row for place, row in enumerate(rows) if place % 3 != 1]
    if fault.kind == "null_row":
        return [None if place == 1 else row for place, row in enumerate(rows)]
    if fault.kind == "duplicated_rows":
        return [row for row in rows for _ in range(2)]
    if fault.kind == "unordered_rows":
        return rows[::-1]
    return rows
