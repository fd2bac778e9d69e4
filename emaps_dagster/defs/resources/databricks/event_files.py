"""Reads the event files of a launched run: plain JSON, so that nothing of the cluster's can run on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence

import dagster as dg
from dagster_shared.check import CheckError
from dagster_shared.serdes.errors import DeserializationError

from emaps_dagster.contracts.errors import LauncherError

# What a run has printed.
OUTPUT = "output.json"


def event_file(number: int) -> str:
    """The name of an event file; the cluster's main script writes them in order, each once."""
    return f"events-{number:06}.json"


def entries_of(content: bytes, run_id: str) -> tuple[Sequence[dg.EventLogEntry], bool] | None:
    """The entries of an event file, and whether it is the last one; None while it is being written.

    Raises:
        LauncherError: the file is JSON, but no list of entries of this Dagster run.
    """
    try:
        json.loads(content)
    except ValueError:
        return None
    try:
        entries: list[object] = dg.deserialize_value(content.decode(), list)
    except (DeserializationError, CheckError, TypeError, KeyError, ValueError) as error:
        raise LauncherError(_foreign(f"no list of events ({str(error)[:200]})")) from None
    is_last = entries[-1:] == [None]
    found = [entry for entry in entries if isinstance(entry, dg.EventLogEntry)]
    if len(found) + is_last != len(entries):
        raise LauncherError(_foreign("something else than events"))
    others = {entry.run_id for entry in found} - {run_id}
    if others:
        raise LauncherError(_foreign(f"events of other Dagster runs: {', '.join(sorted(others))}"))
    return found, is_last


def printed_of(content: bytes) -> tuple[str, str]:
    """The standard output and the standard error of a run; empty where the file is not what the main script writes."""
    try:
        printed = json.loads(content)
        return str(printed["stdout"]), str(printed["stderr"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def _foreign(content: str) -> str:
    return (
        f"An events file of a launched run holds {content}; it may hold events of its own Dagster run only. Somebody "
        "else wrote to the staging folder: look who may (docs/databricks.md, Who may do what)."
    )
