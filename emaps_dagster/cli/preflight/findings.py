"""The result of one preflight check: a level and a sentence."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The level and the sentence of one check."""

    level: Literal["ok", "warning", "problem"]
    text: str


def ok(text: str) -> Finding:
    return Finding("ok", text)


def warning(text: str) -> Finding:
    return Finding("warning", text)


def problem(text: str) -> Finding:
    return Finding("problem", text)


def refusal_to_write(folder: Path) -> str | None:
    """The error of a write to the folder; None if it can be written."""
    try:
        # As a commit writes: a temporary file, then an atomic rename.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".emaps-check-", delete=False) as file:
            file.write(b"x")
        renamed = Path(file.name).rename(f"{file.name}-renamed")
        renamed.unlink()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def this_user() -> str:
    return f"uid {os.getuid()}"


def first_line(error: BaseException) -> str:
    """The first line that is not empty, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".")
