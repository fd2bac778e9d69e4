"""Reads the event files of a launched run: plain JSON, so that nothing of the cluster's can run on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence

import dagster as dg
from dagster_shared.check import CheckError
from dagster_shared.serdes.errors import DeserializationError

from emaps_dagster.contracts.errors import LauncherError


def event_file(number: int) -> str:
    """The name of an event file; the cluster's main script writes them in order, each once."""
    return f"events-{number:06}.json"


def entries_of(content: bytes, run_id: str) -> Sequence[dg.EventLogEntry] | None:
    """The entries of an event file; None while it is being written. The last file has none.

    Raises:
        LauncherError: the file is JSON, but no list of entries of this Dagster run.
    """
    try:
        json.loads(content)
    except ValueError:
        return None
    try:
        entries = dg.deserialize_value(content.decode(), list)
    except (DeserializationError, CheckError, TypeError, KeyError, ValueError) as error:
        raise LauncherError(_foreign(f"no list of events ({str(error)[:200]})")) from None
    if any(not isinstance(entry, dg.EventLogEntry) for entry in entries):
        raise LauncherError(_foreign("something else than events"))
    others = {entry.run_id for entry in entries} - {run_id}
    if others:
        raise LauncherError(_foreign(f"events of other Dagster runs: {', '.join(sorted(others))}"))
    return entries


def _foreign(content: str) -> str:
    return (
        f"An events file of a launched run holds {content}; it may hold events of its own Dagster run only. Somebody "
        "else wrote to the staging folder: look who may (docs/databricks.md, Who may do what)."
    )
