"""What the README tells people to type works on a demo's tables, and what it and the other pages link to exists."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from emaps_dagster_tests import screenshots
from emaps_dagster_tests.conftest import DemoRun

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = [
    *CHECKOUT.glob("*.md"),
    *sorted(page for folder in ("docs", "benchmarks", "deploy") for page in (CHECKOUT / folder).rglob("*.md")),
]
README = (CHECKOUT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=["features", "polars", "duckdb", "spark"])
def test_a_way_to_read_the_table_works(
    block: str, demo: DemoRun, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "warehouse").symlink_to(demo.folder / "warehouse", target_is_directory=True)
    hours = DeltaTable(str(demo.folder / "warehouse" / "gold" / "ml_features")).to_pyarrow_table()["datetime"]
    first, last = min(hours.to_pylist()), max(hours.to_pylist())
    # The page's days are those of the day it was written.
    for written, there in (
        ("2026-11-01", first),
        ("2026-11-24", last),
        ("2026-11-20T06:00Z", datetime.now(first.tzinfo) + timedelta(days=1)),
    ):
        block = block.replace(f'"{written}"', f'"{there.isoformat()}"')
    block = block.replace('"2026-11"', f'"{last:%Y-%m}"').replace("'2026-11'", f"'{last:%Y-%m}'")
    # What was backfilled a day later was known a day later.
    block = block.replace('known_at="1h"', 'known_at="2d"')
    *lines, expression = block.strip().splitlines()
    names: dict[str, object] = {"spark": spark}
    if re.match(r"\w+ = ", expression):
        exec("\n".join([*lines, expression]), names)
        answers = [names[name] for name in ("df", "then", "train")]
    else:
        exec("\n".join(lines), names)
        answers = [eval(expression, names)]
    for answer in answers:
        assert (answer.count() if "spark" in block else len(answer)) > 0  # type: ignore[attr-defined, arg-type]


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


def test_every_command_of_the_page_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets
