"""The dialect of earlier releases does not come back: pages and docstrings use the words of docs/glossary.md."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
PACKAGE = ROOT / "emaps_dagster"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
ROOMS = sorted(
    str(path.relative_to(ROOT))
    for path in (*PACKAGE.iterdir(), *(ROOT / name for name in ("emaps_dagster_tests", "benchmarks", "harness")))
    if path.suffix == ".py" or (path / "__init__.py").exists()
)

# Each with the plain word.
DIALECT = {
    r"(?:is|are|was|were|be|being) told": "receives, is notified, is logged",
    r"tells": "reports, logs, returns, shows",
    r"anew": "again",
    r"whoever": "a process that, a user who",
    r"[Nn]obody is": "no user, no process",
    r"is no setting": "is an unknown setting",
    r"surrenders?": "error after retries",
    r"speaks for": "counts for",
    r"house": "lakehouse",
    r"holdings": "stored hours",
    r"takes? turns": "lock",
}
_FOUND = re.compile(rf"\b(?:{'|'.join(DIALECT)})\b")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`|^ {4}.*$", flags=re.DOTALL | re.MULTILINE)


def dialect_in(text: str) -> list[str]:
    """The words of the dialect in a text, outside of its code."""
    return _FOUND.findall(_CODE.sub("", text))


def docstrings_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            # Unindented, so that no line of it counts as code.
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The run is told to stop.", ["is told"]),
        ("EMAPS_X is no setting: it tells nobody.", ["is no setting", "tells"]),
        ("Made anew; whoever reads `tells` and the lakehouse.", ["anew", "whoever"]),
        ("The sensor logs the reason.\n```\nit tells\n```\n\n    it tells\n", []),
    ],
)
def test_the_words_are_found_outside_of_code(text: str, found: list[str]) -> None:
    assert dialect_in(text) == found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_is_free_of_the_dialect(page: Path) -> None:
    assert dialect_in(page.read_text("utf-8")) == []


@pytest.mark.parametrize("room", ROOMS)
def test_the_docstrings_of_a_room_are_free_of_the_dialect(room: str) -> None:
    files = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py"))
    found = {
        str(file.relative_to(ROOT)): words
        for file in files
        if (words := [word for text in docstrings_of(file) for word in dialect_in(text)])
    }
    assert found == {}


def test_the_messages_and_comments_of_the_package_are_free_of_the_dialect() -> None:
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        with tokenize.open(file) as source:
            # From Python 3.12 on, the text of an f-string is a token of its own.
            texts = [
                token.string
                for token in tokenize.generate_tokens(source.readline)
                if token.type == tokenize.COMMENT or tokenize.tok_name[token.type] in ("STRING", "FSTRING_MIDDLE")
            ]
        if words := [word for text in texts for word in dialect_in(text)]:
            found[str(file.relative_to(PACKAGE))] = words
    assert found == {}
