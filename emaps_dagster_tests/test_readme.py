"""What the README tells people to type works on a demo's tables, and what it links to exists."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from emaps_dagster_tests.conftest import DemoRun

CHECKOUT = Path(__file__).resolve().parents[1]
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


def test_every_link_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert len(links) > 10
    assert [link for link in links if not (CHECKOUT / link).exists()] == []


def test_every_command_of_the_page_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets
