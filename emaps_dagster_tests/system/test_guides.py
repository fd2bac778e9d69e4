"""What the guides, the tutorial and CONTRIBUTING.md quote exists: names, files, make targets, settings and tests."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from emaps_dagster.contracts.settings import variables_of
from emaps_dagster.contracts.tables import all_tables

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
CODE = ("emaps_dagster", "emaps_dagster_tests", "harness", "benchmarks")
# Files beside the code whose words count as names of the code: compose services, units, Dagster's configuration.
CONFIGURATION = ("Makefile", "pyproject.toml", "workspace.yaml", "databricks.yml", ".env.example", "deploy/**/*")


def _guides() -> list[Path]:
    """The pages that docs/index.md lists as tutorial and how-to guides."""
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    listed = index.split("## Tutorial")[1].split("## Reference")[0]
    pages = re.findall(r"\]\(([\w./-]+\.md)", listed)
    return sorted({(ROOT / "docs" / page).resolve() for page in pages})


GUIDES = _guides()
# Names that a guide lets its reader make up, and names of other programs.
OF_THE_READER = {
    "add-a-column.md": {"lossesTotal", "losses_total", "_LOSSES", "lag_losses_total_1h", "solar_percentage"}
    | {f"rolling_{kind}_losses_total_24h" for kind in ("avg", "count")},
    "add-a-check.md": {"test_factor_types.py"},
    "add-a-storage-backend.md": {"YourLocations"},
    "operations.md": {"rebuild.yaml", "withdraw.yaml"},
}
OF_OTHERS = {
    "databricks.md": {"CLUSTER_ID", "NODE_TYPE", "CAN_VIEW", "CAN_MANAGE_RUN"},
    "deploy.md": {"pg_restore", "job_ticks"},
}


class Page:
    """A page by its code: what stands in backticks, and the lines of its code blocks."""

    def __init__(self, file: Path) -> None:
        text = file.read_text("utf-8")
        self.name = file.name
        blocks = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", flags=re.DOTALL | re.MULTILINE)
        self.prose = " ".join(blocks.sub("", text).split())
        self.spans = list(dict.fromkeys(re.findall(r"`([^`]+)`", self.prose)))
        python = [code for language, code in blocks.findall(text) if language == "python"]
        shell = [code for language, code in blocks.findall(text) if language in ("sh", "text")]
        indented = re.findall(r"^(?: {4,}|\t)(.+)$", blocks.sub("", text), flags=re.MULTILINE)
        self.commands = [line.strip() for line in ("\n".join([*shell, *indented])).splitlines()]
        # What the page's own blocks define or assign.
        self.own = {word for code in python for word in re.findall(r"\w+", code)}
        self.own |= OF_THE_READER.get(self.name, set()) | OF_OTHERS.get(self.name, set())


PAGES = {file.name: Page(file) for file in GUIDES}


@cache
def _files() -> dict[str, str]:
    """Every file of the code by its path from the checkout."""
    paths = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


@cache
def _names() -> frozenset[str]:
    """The identifiers of the code, and the words of its strings but for docstrings."""
    found: set[str] = set()
    for path, text in _files().items():
        if path.endswith(f"system/{Path(__file__).name}"):
            continue
        found |= {*Path(path).parts, Path(path).stem}
        found |= set(_names_of(text))
    for pattern in CONFIGURATION:
        for path in ROOT.glob(pattern):
            if path.is_file():
                found |= set(re.findall(r"[\w-]+", path.read_text("utf-8")))
    tables = all_tables(("GR",))
    # An asset's pool is named after its table.
    found |= {f"{table.layer}_{table.name}" for table in tables}
    return frozenset(found | {name for table in tables for name in table.column_names})


def _names_of(text: str) -> Iterator[str]:
    tree = ast.parse(text)
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield from re.findall(r"[\w-]+", node.value)
        for field in ("id", "attr", "name", "arg"):
            if isinstance(value := getattr(node, field, None), str):
                yield value


def _exists(quoted: str, page: Page) -> bool:
    """Whether a quoted path is a file or folder: from the checkout, the package, its tests or the page."""
    # A file may be quoted by its name alone.
    if quoted.rstrip("/") in _parts() or Path(quoted).name in page.own:
        return True
    folders = (ROOT, ROOT / "emaps_dagster", ROOT / "emaps_dagster_tests", ROOT / "deploy", ROOT / "docs")
    return any((folder / quoted).exists() for folder in folders)


@cache
def _parts() -> frozenset[str]:
    return frozenset(part for path in _files() for part in Path(path).parts)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_file_that_a_guide_quotes_exists(page: Page) -> None:
    paths = [
        span
        for span in (*page.spans, *(word for line in page.commands for word in line.split()))
        if re.fullmatch(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|md|txt|toml|ya?ml|cfg|lock|ipynb)|(?:[\w.-]+/)+", span)
    ]
    assert [path for path in paths if not _exists(path, page)] == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_name_that_a_guide_quotes_is_in_the_code(page: Page) -> None:
    quoted = [re.sub(r"\(.*\)$|=.*$|^\"|\"$|\[.*\]$", "", span) for span in page.spans]
    dotted = [name for name in quoted if re.fullmatch(r"[A-Za-z_]\w*(?:\.\w+)*", name)]
    # Words such as `start` and `page` say too little: a name has an underscore, two capitals, or a dot before it.
    parts = [part for name in dotted for part in name.split(".") if re.search(r"_|[A-Z].*[a-z].*[A-Z]", part)]
    assert [part for part in parts if part not in page.own and part not in _names()] == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_name_that_a_guide_places_in_a_file_is_there(page: Page) -> None:
    file, name = r"`([\w/]+\.py)`", r"`(_?\w+)`"
    pairs = re.findall(rf"{file}, (?:function |class )?{name}", page.prose)
    pairs += [(path, name) for name, path in re.findall(rf"{name} (?:of|in) (?:the file )?{file}", page.prose)]
    pairs += re.findall(rf"{file}:? add (?:`[^`]+`|an entry) to `(_?\w+)", page.prose)
    pairs += [(path, text) for path, text in re.findall(rf"{file},? the text `([^`]+)` becomes", page.prose)]
    missing = []
    for path, quoted in pairs:
        texts = [text for known, text in _files().items() if f"/{known}".endswith(f"/{path}")]
        if not any(re.search(rf"(?<!\w){re.escape(quoted)}(?!\w)", text) for text in texts) and quoted not in page.own:
            missing.append((path, quoted))
    assert missing == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_make_target_module_and_setting_of_a_guide_exists(page: Page) -> None:
    text = "\n".join([*page.spans, *page.commands])
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    made = {word for words in re.findall(r"^make ([a-z -]+)", text, flags=re.MULTILINE) for word in words.split()}
    assert made <= targets
    assert set(re.findall(r"^make .*\b([A-Z]+)=", text, flags=re.MULTILINE)) <= set(re.findall(r"\((\w+)\)", makefile))
    modules = set(re.findall(r"-m ((?:emaps_dagster|harness|benchmarks)[\w.]*)", text))
    here = {path.removesuffix("/__main__.py").removesuffix(".py").replace("/", ".") for path in _files()}
    assert modules <= here
    settings = set(re.findall(r"\bEMAPS_\w*[A-Z]\b", text))
    assert settings <= {*dict(variables_of()), *_names()}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_pytest_command_of_a_guide_selects_tests(page: Page) -> None:
    commands = [line for line in (*page.spans, *page.commands) if re.search(r"-m pytest\b", line)]
    empty = [line for line in commands for part in _selections(line, page) if not part]
    assert empty == []


def test_the_variable_of_a_long_run_keeps_no_module_from_being_collected() -> None:
    # This module imports the definitions, which refuse unknown settings.
    module = "emaps_dagster_tests/system/test_backfills.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", module],
        cwd=ROOT,
        env={**os.environ, "EMAPS_TEST_LONG": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert f"{module}::test_" in done.stdout


def test_the_guides_of_the_index_are_read() -> None:
    assert {"tutorial.md", "add-a-column.md", "operations.md", "CONTRIBUTING.md"} <= set(PAGES)
    assert sum(len(page.spans) for page in PAGES.values()) > 500
    commands = [line for page in PAGES.values() for line in page.commands if "-m pytest" in line]
    assert len(commands) >= 8


@pytest.mark.parametrize(
    ("command", "selected"),
    [
        ("pytest -q contracts/test_tables.py system/test_engines_agree.py", [True, True]),
        ("pytest contracts/test_columns.py contracts", [False, True]),
        ('pytest -q -k "test_the_graph_is or test_no_such_thing"', [True, True, False]),
        ('pytest -k "test_the_graph_is and test_tables"', [False, True, True]),
        ("pytest emaps_dagster_tests/contracts -k test_the_graph_is", [True, False, False]),
    ],
)
def test_what_a_command_selects(command: str, selected: list[bool]) -> None:
    assert [bool(part) for part in _selections(f"python -m {command}", PAGES["CONTRIBUTING.md"])] == selected


def _selections(command: str, page: Page) -> Iterator[Iterable[str]]:
    """The tests of each path of a pytest command, of its whole -k expression, and of each word of it."""
    words = shlex.split(command.split("pytest", 1)[1])
    expression = words[words.index("-k") + 1] if "-k" in words else ""
    # Commands stand in the checkout, or in the folder of the tests.
    paths = [word.removeprefix("../") for word in words if not word.startswith("-") and word != expression]
    for path in paths:
        yield [path] if Path(path).name in page.own else list(_tests((path,)))
    if expression:
        tests = list(_tests(tuple(paths) or ("",)))
        yield [test for test in tests if _selected(expression, test)]
        for word in re.findall(r"\w+", expression):
            if word not in ("and", "or", "not"):
                yield [test for test in tests if word.lower() in test.lower()]


def _tests(paths: tuple[str, ...]) -> Iterator[str]:
    """The tests in files or folders, as `path::function`."""
    for path, text in _files().items():
        if Path(path).name.startswith("test_") and any(
            f"/{path}".startswith(f"/{prefix}{wanted}".rstrip("/"))
            for wanted in paths
            for prefix in ("", "emaps_dagster_tests/")
        ):
            yield from (f"{path}::{name}" for name in re.findall(r"^def (test_\w+)", text, flags=re.MULTILINE))


def _selected(expression: str, test: str) -> bool:
    """Evaluates an expression of pytest's -k for a test."""
    python = re.sub(
        r"\w+",
        lambda word: word[0] if word[0] in ("and", "or", "not") else str(word[0].lower() in test.lower()),
        expression,
    )
    return bool(eval(python))
