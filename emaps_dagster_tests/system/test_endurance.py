"""Processes that write the same hours at once, and one that is killed: little of what endurance.py does at length."""

from __future__ import annotations

from pathlib import Path

import pytest

from emaps_dagster_tests.support.endurance import kills, writers


@pytest.mark.timeout(280)
@pytest.mark.long("threads that write at once are in test_races.py, and endurance.py has this at length")
def test_writers_at_once_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    report = writers(tmp_path / "warehouse", 3, 3, seed=1)
    assert report["wrong"] == []
    assert report["writers that failed"] == 0
    assert report["runs"] == 9
    assert report["rows"] >= 5 * 24


@pytest.mark.timeout(280)
def test_the_run_after_a_killed_one_repairs_everything(tmp_path: Path) -> None:
    report = kills(tmp_path / "warehouse", 2, seed=1)
    assert report["wrong"] == []
