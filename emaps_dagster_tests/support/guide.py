"""docs/databricks.md as something to be followed: its blocks by language, its commands, its secrets."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "databricks.md").read_text("utf-8")


def blocks(language: str, section: str = "") -> list[str]:
    """The code blocks of a language, in the section whose heading is this, or everywhere."""
    text = TEXT
    if section:
        text = re.split(rf"^## {re.escape(section)}$", TEXT, flags=re.MULTILINE)[1]
        text = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands(program: str, section: str = "") -> list[list[str]]:
    """The commands that begin with this program, as lists of words."""
    lines = [line for block in blocks("sh", section) for line in block.splitlines()]
    return [words for words in map(shlex.split, lines) if words and words[0] == program]


def settings(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines())


def secrets() -> list[tuple[str, str]]:
    """The (scope, key) pairs that the page makes people put, each in a scope that it makes."""
    scopes = {words[3] for words in commands("databricks") if words[1:3] == ["secrets", "create-scope"]}
    put = [(words[3], words[4]) for words in commands("databricks") if words[1:3] == ["secrets", "put-secret"]]
    assert {scope for scope, _ in put} <= scopes
    return put
