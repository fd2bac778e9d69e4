"""What the event log writes of an event: all that Dagster's pages and retries read of it, and nothing twice.

As Dagster writes it, four fifths of a status of an hour repeat its run, its step and its names. Fields that are left
out here have defaults in Dagster's own classes, so any Dagster reads the text.
"""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import StepMaterializationData
from dagster_shared.serdes import pack_value

# A retry learns from the events of a step's beginning and end which steps there were, not from these.
_WITHOUT_STEP = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
# Of an evaluation, what Dagster takes where nothing is said.
_EVALUATION = {"severity": {"__enum__": "AssetCheckSeverity.ERROR"}, "metadata": {}}


def shortened(entry: dg.EventLogEntry) -> dg.EventLogEntry:
    """The same event without what its row and its own data say already."""
    event = entry.dagster_event
    if event is None:
        return entry
    event = event._replace(logging_tags=None)
    if event.event_type in _WITHOUT_STEP:
        event = event._replace(step_handle=None, node_handle=None, step_kind_value=None, pid=None)
        # The entry's own message is the same words once more.
        entry = entry._replace(user_message="")
    return entry._replace(dagster_event=event)


def for_the_page_of_its_check(entry: dg.EventLogEntry) -> dg.EventLogEntry:
    """An evaluation without what only the log of its run shows."""
    event = entry.get_dagster_event()
    return entry._replace(job_name=None, dagster_event=event._replace(message=None, step_key=None))


def planned_in_short(entry: dg.EventLogEntry) -> dg.EventLogEntry:
    """That a check is planned, without its hours, which are rows among the executions."""
    event = entry.get_dagster_event()
    told = event.asset_check_planned_data
    short = AssetCheckEvaluationPlanned(asset_key=told.asset_key, check_name=told.check_name)
    return entry._replace(dagster_event=event._replace(event_specific_data=short))


def made_in_short(entry: dg.EventLogEntry) -> dg.EventLogEntry:
    """That an hour was made, without its numbers, which the page of the asset shows."""
    event = entry.get_dagster_event()
    made = event.step_materialization_data.materialization
    short = StepMaterializationData(dg.AssetMaterialization(made.asset_key, partition=made.partition))
    return entry._replace(dagster_event=event._replace(event_specific_data=short))


def text_of(entry: dg.EventLogEntry) -> str:
    """The entry as JSON that `deserialize_value` of any Dagster reads."""
    packed: Any = pack_value(shortened(entry))
    # Of the fields of an entry only this one has no default; `message` is a field of former times.
    kept = _said(packed, {"message": ""}) | {"error_info": packed["error_info"]}
    if "dagster_event" in kept:
        kept["dagster_event"] = _event(_said(kept["dagster_event"]))
    return json.dumps(kept, separators=(",", ":"))


def _event(packed: dict[str, Any]) -> dict[str, Any]:
    kind, data = packed["event_type_value"], packed.get("event_specific_data")
    if kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION.value and data:
        return packed | {"event_specific_data": _said(data, _EVALUATION)}
    if kind == dg.DagsterEventType.ASSET_MATERIALIZATION.value and data:
        made = data["materialization"]
        made["metadata_entries"] = [_said(number) for number in made["metadata_entries"]]
    return packed


def _said(packed: dict[str, Any], otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    """Without fields that have no value, or the one that is taken where none is given."""
    usual = otherwise or {}
    return {name: value for name, value in packed.items() if value is not None and usual.get(name, ...) != value}
