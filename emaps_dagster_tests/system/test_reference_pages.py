"""Pages that follow from the code agree with it: docs/reference, and the list of modules in docs/architecture.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from emaps_dagster.cli.reference_doc import PAGES
from emaps_dagster.contracts.metadata_keys import CHECK_RESULT, HOUR, LAST_HOUR
from emaps_dagster.contracts.settings import variables_of

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").exists())
REFERENCE = ROOT / "docs" / "reference"
# Where metadata of hours, runs and checks are made.
SOURCES = (
    "defs/assets/bronze.py",
    "defs/assets/gold.py",
    "defs/assets/merge_metadata.py",
    "defs/assets/metadata.py",
    "defs/asset_checks/evaluations.py",
    "monitoring/hourly_summary.py",
)
# Keys of these dicts that are no metadata: cells of the table of findings, tags of assets and columns.
OTHERS = {"zone", "datetime", "finding", "layer", "unit", "source"}


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_what_the_code_says(page: str) -> None:
    assert (REFERENCE / f"{page}.md").read_text("utf-8") == PAGES[page](), "run: make docs"


def test_the_page_of_the_settings_has_each_setting_once() -> None:
    listed = re.findall(r"^\| `(EMAPS_\w+)` \|", (REFERENCE / "settings.md").read_text("utf-8"), flags=re.MULTILINE)
    assert listed.count("EMAPS_API_TOKEN") == listed.count("EMAPS_DATABRICKS_HOST") == 1
    assert len(listed) == len(set(listed)) >= len(dict(variables_of()))


def test_the_page_of_the_checks_marks_what_blocks() -> None:
    page = (REFERENCE / "checks.md").read_text("utf-8")
    assert "| `silver_equals_bronze` | blocks | each hour |" in page
    assert "| `table_is_fresh` | warns | the table |" in page


def test_the_catalog_of_metadata_has_the_keys_of_the_code_and_no_other() -> None:
    documented = {key for entry in (*HOUR, *LAST_HOUR, *CHECK_RESULT) for key in entry.keys}
    nodes = [
        node for source in SOURCES for node in ast.walk(ast.parse((ROOT / "emaps_dagster" / source).read_text("utf-8")))
    ]
    keys = [key for node in nodes if isinstance(node, ast.Dict) for key in node.keys]
    # metadata["findings"] = ...
    keys += [node.slice for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)]
    in_code = {key.value for key in keys if isinstance(key, ast.Constant) and re.fullmatch(r"\w+", str(key.value))}
    assert documented == in_code - OTHERS


def test_the_page_of_the_architecture_lists_the_modules_of_each_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = page.split("## Where a line lives")[1].split("\n## ")[0]
    listed = set()
    for room, modules in re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", section, flags=re.MULTILINE):
        folder = room
        for name in re.findall(r"`(\w+(?:\.py|/))`", modules):
            if name.endswith("/"):
                # `storage/`: the modules after it are in that folder of the room.
                folder = f"{room}/{name[:-1]}"
            else:
                listed.add(f"{folder}/{name}")
    package = ROOT / "emaps_dagster"
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if not path.name.startswith("__")}
    assert listed - {"features/__init__.py", "forecasting/__init__.py"} == modules - {"definitions.py"}


def test_the_page_of_the_architecture_names_the_tests_of_each_module_that_has_none_of_its_name() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = page.split("## Where a line is tested")[1].split("\n## ")[0]
    rooms = dict(re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", section, flags=re.MULTILINE))
    tests = {path.relative_to(ROOT / "emaps_dagster_tests") for path in ROOT.glob("emaps_dagster_tests/**/test_*.py")}
    assert set(re.findall(r"`(test_\w+\.py)`", section)) - {path.name for path in tests} == set()
    own = {(path.parts[0], re.sub(r"^test_|_checks$", "", path.stem)) for path in tests}
    package = ROOT / "emaps_dagster"
    without = []
    for module in sorted(package.rglob("*.py")):
        room = module.parent.relative_to(package).as_posix()
        listed = rooms.get(room) or rooms.get(room.rpartition("/")[0]) or ""
        if (room.split("/")[0], module.stem) not in own and f"`{module.name}`" not in listed:
            without.append(f"{room}/{module.name}")
    assert [name for name in without if "/__" not in name] == ["./definitions.py"]
