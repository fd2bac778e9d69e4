"""The commands and code of the README work on a demo's tables, and what it and the other pages link to exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emaps_dagster.contracts.tables import ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.pipeline.check_catalog import checks_of
from emaps_dagster_tests.conftest import DemoRun
from emaps_dagster_tests.support import screenshots

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [
    *CHECKOUT.glob("*.md"),
    *sorted(page for folder in ("docs", "benchmarks", "deploy") for page in (CHECKOUT / folder).rglob("*.md")),
]
README = (CHECKOUT / "README.md").read_text("utf-8")
(READING,) = re.findall(r"^## Read the table\n(.*?)^## ", README, flags=re.DOTALL | re.MULTILINE)
BLOCKS = dict(
    zip(
        ("features", "deltalake", "polars", "duckdb", "spark"),
        re.findall(r"```python\n(.*?)```", READING, flags=re.DOTALL),
        strict=True,
    )
)
ANSWERS = {
    "features": [
        "len(df)",
        "len(then)",
        "len(train)",
        "bool((then['production_total'] != df['production_total'].loc[then.index]).sum() >= 3)",
        "bool((train['production_total'] == df['production_total'].loc[train.index]).all())",
    ],
    "deltalake": ["len(gold)", "list(gold)"],
    "polars": ["wind.shape"],
    "duckdb": ["len(carbon)", "list(carbon)"],
    "spark": ["rows"],
}
SAID = {
    "features": ["25", "23", "24", "True", "True"],
    "deltalake": ["25", "['zone', 'datetime', 'carbon_intensity']"],
    "polars": ["(25, 2)"],
    "duckdb": ["25", "['datetime', 'carbon_intensity']"],
    "spark": ["25"],
}


@pytest.mark.parametrize("names", [tuple(BLOCKS), *((name,) for name in BLOCKS)], ids=" then ".join)
def test_the_blocks_read_the_demos_tables_as_they_stand(names: tuple[str, ...], demo: DemoRun, tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to(demo.folder, target_is_directory=True)
    asked = (BLOCKS[name] + "".join(f"print({answer})\n" for answer in ANSWERS[name]) for name in names)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(asked)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [line for name in names for line in SAID[name]]


def test_duckdb_reads_a_folder_with_a_blank(demo: DemoRun, tmp_path: Path) -> None:
    shutil.copytree(demo.folder / "warehouse", tmp_path / "my clone" / "demo" / "warehouse")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS["duckdb"] + "print(len(carbon))"],
        cwd=tmp_path / "my clone",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "25\n"), done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")) if "://" not in link]
    missing = []
    for link in links:
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (heading and heading not in _headings(target)):
            missing.append(link)
    assert missing == []


def test_there_are_pages_with_links() -> None:
    assert {page.name for page in PAGES} >= {"README.md", "CHANGELOG.md", "ui.md", "operations.md"}
    assert len(re.findall(r"\]\((?!http)", README)) > 10


def _headings(page: Path) -> set[str]:
    """As GitHub names them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_page_of_the_ui_shows_every_picture_that_is_taken_and_no_other() -> None:
    shown = re.findall(r"\]\(images/ui/(\w+)\.png\)", (CHECKOUT / "docs" / "ui.md").read_text("utf-8"))
    assert sorted(shown) == sorted(screenshots.NAMES)
    pictures = list(screenshots.PICTURES.iterdir())
    assert {picture.name for picture in pictures} == {f"{name}.png" for name in screenshots.NAMES}
    # A clone is to stay small.
    assert [picture.name for picture in pictures if picture.stat().st_size > 150_000] == []


def test_the_page_of_the_ui_explains_every_check_and_counts_golds_columns() -> None:
    page = (CHECKOUT / "docs" / "ui.md").read_text("utf-8")
    (section,) = re.findall(r"^### The checks\n(.*?)^### ", page, flags=re.DOTALL | re.MULTILINE)
    red, orange = section.split("| orange")
    tables = (POWER_DATA, ENERGY_DATA, ml_features(("GR",)))
    checks = {check.name: check.blocking for table in tables for check in checks_of(table)}
    assert {name for name in re.findall(r"`(\w+)`", red) if name in checks} == {n for n in checks if checks[n]}
    assert {name for name in re.findall(r"`(\w+)`", orange) if name in checks} == {n for n in checks if not checks[n]}
    assert f"Gold has {len(ml_features(('GR',)).column_names)}" in page


def test_the_page_of_the_architecture_places_every_module() -> None:
    page = (CHECKOUT / "docs" / "architecture.md").read_text("utf-8")
    modules = {path.name for path in (CHECKOUT / "emaps_dagster").glob("*.py")} - {"__init__.py"}
    assert {name for name in modules if not re.search(rf"\b{name}", page)} == set()


def test_every_command_of_the_page_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets
