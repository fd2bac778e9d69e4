"""Serializes events for the event log without repetitions: only the fields that Dagster's pages and retries read.

In Dagster's own text four fifths of a status of an hour repeat its run, its step and its names. The omitted fields have
defaults in Dagster's classes, so any Dagster reads the text.
"""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import StepMaterializationData
from dagster_shared.serdes import pack_value

# A retry reads the steps from their start and end events, not from these.
_WITHOUT_STEP = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_OUTPUT,
}
# A field that is absent in the data of these is None or empty in Dagster's classes.
_WITH_DEFAULTS = {
    dg.DagsterEventType.STEP_OUTPUT.value,
    dg.DagsterEventType.ASSET_MATERIALIZATION.value,
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
}
# Dagster's defaults for absent fields of an evaluation.
_EVALUATION_DEFAULTS = {"severity": {"__enum__": "AssetCheckSeverity.ERROR"}, "metadata": {}}


def shortened(entry: dg.EventLogEntry) -> dg.EventLogEntry:
    """The same event without the fields that its row and its own data repeat."""
    event = entry.dagster_event
    if event is None:
        return entry
    event = event._replace(logging_tags=None)
    if event.event_type in _WITHOUT_STEP:
        event = event._replace(step_handle=None, node_handle=None, step_kind_value=None, pid=None)
    if event.message is not None:
        # Pages show the event's message; the entry's repeats it.
        entry = entry._replace(user_message="")
    return entry._replace(dagster_event=event)


def for_a_page(entry: dg.EventLogEntry) -> dg.EventLogEntry:
    """An event for the page of its asset or check, without the fields that only the log of its run shows."""
    event = entry.get_dagster_event()
    message = event.message if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION else None
    return entry._replace(job_name=None, dagster_event=event._replace(message=message, step_key=None))


def planned_in_short(entry: dg.EventLogEntry) -> dg.EventLogEntry:
    """The planned evaluation without its hours, which are rows of the executions."""
    event = entry.get_dagster_event()
    planned = event.asset_check_planned_data
    short = AssetCheckEvaluationPlanned(asset_key=planned.asset_key, check_name=planned.check_name)
    return entry._replace(dagster_event=event._replace(event_specific_data=short))


def made_in_short(entry: dg.EventLogEntry) -> dg.EventLogEntry:
    """The materialization of an hour without its numbers, which the page of the asset shows."""
    event = entry.get_dagster_event()
    made = event.step_materialization_data.materialization
    short = StepMaterializationData(dg.AssetMaterialization(made.asset_key, partition=made.partition))
    return entry._replace(dagster_event=event._replace(event_specific_data=short))


def text_of(entry: dg.EventLogEntry) -> str:
    """The entry as JSON that `deserialize_value` of any Dagster reads."""
    packed: Any = pack_value(shortened(entry))
    # Of an entry's fields only `error_info` has no default; `message` is obsolete.
    kept = _without_defaults(packed, {"message": ""}) | {"error_info": packed["error_info"]}
    if "dagster_event" in kept:
        kept["dagster_event"] = _event(_without_defaults(kept["dagster_event"]))
    return json.dumps(kept, separators=(",", ":"))


def _event(packed: dict[str, Any]) -> dict[str, Any]:
    kind, data = packed["event_type_value"], packed.get("event_specific_data")
    if kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION.value and data:
        return packed | {"event_specific_data": _without_defaults(data, _EVALUATION_DEFAULTS)}
    return packed | {"event_specific_data": _without_absent(data)} if kind in _WITH_DEFAULTS and data else packed


def _without_absent(value: Any) -> Any:
    """Drop, at any depth, the fields that are None or empty lists."""
    if isinstance(value, list):
        return [_without_absent(one) for one in value]
    if isinstance(value, dict):
        return {name: _without_absent(one) for name, one in value.items() if one is not None and one != []}
    return value


def _without_defaults(packed: dict[str, Any], defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    """Drop the fields that are None or have their default value."""
    known = defaults or {}
    return {name: value for name, value in packed.items() if value is not None and known.get(name, ...) != value}
