"""Event files: read once they are whole, and from our own run only."""

from __future__ import annotations

import gzip
import pickle
from typing import Any

import dagster as dg
import pytest

from emaps_dagster.contracts.errors import LauncherError
from emaps_dagster.defs.resources.databricks.event_files import entries_of


def _entry(run_id: str) -> dg.EventLogEntry:
    return dg.EventLogEntry(None, 20, "hello", run_id, 0.0, "step", "job", None)


def test_events_are_read_once_they_are_whole() -> None:
    whole = dg.serialize_value([_entry("run"), _entry("run")]).encode()
    assert entries_of(whole, "run") == ([_entry("run"), _entry("run")], False)
    assert [entries_of(whole[:length], "run") for length in (0, 1, 10, len(whole) // 2, len(whole) - 1)] == [None] * 5
    assert entries_of(dg.serialize_value([_entry("run"), None]).encode(), "run") == ([_entry("run")], True)
    assert entries_of(b"[null]", "run") == ([], True)
    assert entries_of(b"something else", "run") is None


class _Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise AssertionError('it ran')",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"a": 1}', "no list of events"),
        (b'[{"__class__": "os.system"}]', "no list of events"),
        (b'[{"__class__": "EventLogEntry"}]', "no list of events"),
        (b'["text"]', "something else than events"),
        (b'["text", null]', "something else than events"),
        (dg.serialize_value([None, _entry("run")]).encode(), "something else than events"),
        (dg.serialize_value([_entry("another")]).encode(), "events of other Dagster runs: another"),
    ],
)
def test_what_another_user_wrote_beside_the_events_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(LauncherError) as caught:
        entries_of(content, "run")
    assert str(caught.value).startswith(f"An events file of a launched run holds {told}")
    assert str(caught.value).endswith("look who may (docs/databricks.md, Who may do what).")


def test_a_pickle_is_not_opened_here() -> None:
    assert entries_of(pickle.dumps(_Evil()), "run") is None
    assert entries_of(gzip.compress(pickle.dumps(_Evil())), "run") is None
