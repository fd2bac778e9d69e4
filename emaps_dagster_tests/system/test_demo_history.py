"""The demo's past for forecasts: known in time in one folder, backfilled in the other, with the same final values."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import pytest

from emaps_dagster import features, forecasting
from emaps_dagster.cli.demo.folder import FolderError
from emaps_dagster.cli.demo.history import History, make_history

NOW = datetime(2026, 3, 20, 10, 5, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("past") / "demo", days=14, now=NOW)


def test_issue_times_have_their_lags_and_targets(history: History) -> None:
    # The last run is at 09:07, the hours begin on 6 March at 09:00: the first full day is the 7th.
    assert history.start == datetime(2026, 3, 15, tzinfo=timezone.utc)
    assert history.end == datetime(2026, 3, 19, tzinfo=timezone.utc)
    rows = forecasting.training_set("GR", history.start, history.end, warehouse=history.as_it_came)
    assert len(rows) == 4 * 24 * 24
    assert rows.X["lag_carbon_intensity_168h"].notna().all()
    assert rows.known_in_time.all()
    assert str(history.as_it_came) in str(history)
    assert str(history.fetched_later) in str(history)
    assert "[2026-03-15T00:00Z, 2026-03-19T00:00Z)" in str(history)


@pytest.mark.parametrize(("which", "status"), [("as_it_came", "known"), ("fetched_later", "backfilled")])
def test_what_was_known_when(history: History, which: str, status: str) -> None:
    found = forecasting.coverage("GR", "2026-03-08", "2026-03-18", warehouse=getattr(history, which))
    assert len(found) == 240
    assert (found["status"] == status).all()


def test_both_end_with_the_same_values(history: History) -> None:
    hours = {"start": "2026-03-08", "end": "2026-03-20T09:00Z"}
    came, later = (
        features.load("GR", **hours, warehouse=place) for place in (history.as_it_came, history.fetched_later)
    )
    values = ["carbon_intensity", "production_total", "rolling_avg_carbon_intensity_24h"]
    assert len(came) == 12 * 24 + 9
    pd.testing.assert_frame_equal(came[values], later[values])


def test_latest_is_of_the_last_run(history: History) -> None:
    rows = forecasting.latest("GR", at=NOW, warehouse=history.as_it_came)
    assert rows["age_carbon_intensity_h"].unique().tolist() == [1.0]


def test_too_short_or_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="days is 13; at least 14 are needed"):
        make_history(tmp_path / "demo", days=13)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FolderError, match="was not made by the demo and is not empty"):
        make_history(tmp_path, days=14)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
