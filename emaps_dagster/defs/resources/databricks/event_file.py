"""Reads the events file of a launched step, which the step rewrites with all its events about once a second."""

from __future__ import annotations

import gzip
import io
import pickle
import zlib
from collections.abc import Sequence
from typing import Any

import dagster as dg

from emaps_dagster.contracts.errors import LauncherError


def entries_of(content: bytes) -> Sequence[dg.EventLogEntry] | None:
    """The entries of an events file; None while it is being written."""
    if not content:
        return None
    try:
        text = _TextOnly(io.BytesIO(gzip.decompress(content))).load()
    except (pickle.UnpicklingError, EOFError, zlib.error, gzip.BadGzipFile):
        return None
    return dg.deserialize_value(text, list)


class _TextOnly(pickle.Unpickler):
    """Loads text only: write access to the staging folder must not allow running code on this machine."""

    def find_class(self, module: str, name: str) -> Any:
        raise LauncherError(
            f"The events file of a launched step names {module}.{name}; it may hold text only. Somebody else wrote to "
            "the staging folder: look who may (docs/databricks.md, Who may do what)."
        )
