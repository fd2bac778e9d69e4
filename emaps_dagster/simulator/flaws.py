"""Applies the flaws of perturbations.py to good records: some must not be loaded, wrong flows are flagged."""

from __future__ import annotations

from typing import Any

from emaps_dagster.contracts.signals import FLOWS, MIX, TRACED_MIX
from emaps_dagster.contracts.zones import CARBON, POWER, Feed
from emaps_dagster.simulator.perturbations import Perturbation

_REQUIRED = {
    POWER: "powerConsumptionBreakdown",
    CARBON: "carbonIntensity",
    MIX: "mix",
    TRACED_MIX: "mix",
    FLOWS: "import",
}
# Placeholders for JSON that Python cannot write; `as_written` replaces them in the bytes of the body.
_INFINITE = "number beyond a double"
_TWICE = "key that stands twice"


def corrupt(feed: Feed, row: dict[str, Any], flaw: str) -> Any:
    """Returns the record with the flaw."""
    if flaw == "null_record":
        return None
    changes: dict[str, dict[str, Any]] = {
        "absurd_number": _with_number(feed, row, 2_147_220_000),
        "infinite_number": _with_number(feed, row, _INFINITE),
        "not_a_number": _with_number(feed, row, float("nan")),
        "text_number": _with_number(feed, row, "300"),
        "unreadable_time": {"datetime": "yesterday"},
        "far_hour": {"datetime": "2150-01-01T00:00:00.000Z"},
        "other_zone": {"zone": "US-CAR-DUK"},
        "repeated_key": {_TWICE: 0},
    }
    if flaw == "unknown_mode":
        if feed in (MIX, TRACED_MIX):
            return {**row, "mix": {**row["mix"], "fusion": 50}}
        if feed != POWER:
            return {**row, "isEstimated": "maybe"} if feed != FLOWS else {**row, "import": {"": 50}}
        return {**row, "powerProductionBreakdown": {**row["powerProductionBreakdown"], "fusion": 50}}
    if flaw == "missing_key":
        lacking = _REQUIRED.get(feed, "value")
        return {name: value for name, value in row.items() if name != lacking}
    return {**row, **changes[flaw]}


def as_written(body: bytes) -> bytes:
    """Replaces the placeholders in a body by JSON that Python cannot write."""
    body = body.replace(f'"{_INFINITE}"'.encode(), b"1e400")
    return body.replace(f'"{_TWICE}"'.encode(), b'"isEstimated"')


def _with_number(feed: Feed, row: dict[str, Any], number: Any) -> dict[str, Any]:
    if feed == CARBON:
        return {"carbonIntensity": number}
    if feed in (MIX, TRACED_MIX):
        return {"mix": {**row["mix"], "gas": number}}
    if feed == FLOWS:
        return {"import": {**row["import"], "BG": number}}
    if feed != POWER:
        return {"value": number}
    return {"powerImportBreakdown": {**(row.get("powerImportBreakdown") or {}), "BG": number}}


def with_wrong_flows(values: dict[str, Any], planted: list[Perturbation]) -> dict[str, Any]:
    """Applies the perturbations of the flow maps."""
    imports, exports = dict(values["powerImportBreakdown"]), dict(values["powerExportBreakdown"])
    for change in planted:
        if change.kind == "swap_flows":
            ways = imports.pop(change.name, None), exports.pop(change.name, None)
            for flows, megawatts in zip((exports, imports), ways, strict=True):
                if megawatts is not None:
                    flows[change.name] = megawatts
        elif change.kind == "both_ways":
            for flows, total in ((imports, "powerImportTotal"), (exports, "powerExportTotal")):
                flows[change.name] = flows.get(change.name, 0) + 7
                values = {**values, total: (values[total] or 0) + 7}
    return {**values, "powerImportBreakdown": imports, "powerExportBreakdown": exports}
