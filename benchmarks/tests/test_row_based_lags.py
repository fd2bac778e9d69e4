"""The defect that began this project, replayed: small here, three days by `python -m benchmarks.row_based_lags`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import row_based_lags as seed_defect


def test_settled_rows_are_wrong_by_row_and_right_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed_defect, "HOURS", 14)
    monkeypatch.setattr(seed_defect, "LOOK_BACKS", (6,))
    results = seed_defect.figures(*seed_defect.replay(tmp_path / "warehouse"))
    assert results[0][:4] == ("ours, by time", 8, 0, 0)
    # Its last run finds every settled row as the first of its window: lag 0, a mean of one hour.
    assert results[1][:4] == ("by row, 6 h look-back", 8, 8, 8)


def test_the_page_shows_the_figures_that_count() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "why.md").read_text("utf-8")
    ours, *theirs = re.findall(r"^\| (ours|by row)[^|]*\| (\d+) \| (\d+) \| (\d+) \|", page, flags=re.MULTILINE)
    assert ours[2:] == ("0", "0")
    assert all(int(lags) > 0 and int(means) > 0 for _, _, lags, means in theirs)
    assert theirs
