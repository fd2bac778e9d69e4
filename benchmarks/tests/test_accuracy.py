"""The benchmark of forecasts on a small table in the published one's format; nothing of that one is needed."""

from __future__ import annotations

import csv
import gzip
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import __main__ as page
from benchmarks import accuracy, dacf
from benchmarks.measurements import SKIPPED

_FACTORS = {"coal": 760, "nat_gas": 370, "oil": 406, "other": 575}
_START = datetime(2021, 3, 1, tzinfo=timezone.utc)
_DAY = timedelta(days=1)
PERIODS = accuracy.Periods(_START, _START + 30 * _DAY, _START + 34 * _DAY, _START + 38 * _DAY)
SOURCES = {
    "CISO": ("coal", "nat_gas", "nuclear", "oil", "hydro", "solar", "wind", "other"),
    "ERCO": ("coal", "nat_gas", "nuclear", "hydro", "solar", "wind", "other"),
}


def _write_table(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Two grids of 38 days; the paper's forecast is the truth plus 10 % in the test period."""
    tables = {}
    for seed, (grid, sources) in enumerate(SOURCES.items()):
        dice = np.random.default_rng(seed)
        rows = []
        for number in range(38 * 24):
            at = _START + timedelta(hours=number)
            sun = max(0.0, np.sin((at.hour - 6) / 12 * np.pi))
            generation = {source: int(dice.integers(100, 200)) for source in sources}
            generation |= {"solar": int(5000 * sun), "nat_gas": int(8000 - 4000 * sun + dice.integers(0, 100))}
            total = sum(generation.values())
            truth = round(sum(mw * _FACTORS.get(source, 0) for source, mw in generation.items()) / total, 2)
            paper = round(1.1 * truth, 4) if at >= PERIODS.test else ""
            row = {"UTC time": f"{at:%Y-%m-%d %H:%M:%S}", "carbon_intensity": truth, **generation}
            rows.append({**row, "paper_forecast": paper})
        with gzip.open(folder / f"{grid}.csv.gz", "wt", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        tables[grid] = rows
    return tables


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, float]]]]:
    folder = tmp_path_factory.mktemp("table")
    return folder, _write_table(folder)


@pytest.fixture(scope="module")
def warehouse(table: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("accuracy") / "warehouse"
    accuracy.built(place, table[0], SOURCES)
    return place


@pytest.fixture(scope="module")
def days(table: tuple[Path, object], warehouse: Path) -> dict[str, pd.DataFrame]:
    return {grid: accuracy.days_of(warehouse, grid, dacf.hours_of(table[0], grid), PERIODS) for grid in SOURCES}


@pytest.mark.parametrize("grid", SOURCES)
def test_naive_and_paper_are_scored_as_the_protocol_says(
    table: tuple[Path, dict[str, list[dict[str, float]]]], days: dict[str, pd.DataFrame], grid: str
) -> None:
    truth = np.array([row["carbon_intensity"] for row in table[1][grid]]).reshape(38, 24)
    naive = 100 * (np.abs(truth[33:37] - truth[34:38]) / truth[34:38]).mean(axis=1)
    assert days[grid]["naive 24 h"].to_numpy() == pytest.approx(naive, rel=1e-12)
    assert days[grid]["the paper"].to_numpy() == pytest.approx([10.0] * 4, abs=1e-3)
    assert [f"{day}" for day in days[grid].index] == ["2021-04-04", "2021-04-05", "2021-04-06", "2021-04-07"]


@pytest.mark.parametrize("grid", SOURCES)
def test_a_periodic_day_is_forecast(days: dict[str, pd.DataFrame], grid: str) -> None:
    assert 0 < days[grid]["ours"].mean() < 5


def test_a_forecast_reads_nothing_of_its_own_day(table: tuple[Path, object], warehouse: Path, tmp_path: Path) -> None:
    hours = dacf.hours_of(table[0], "ERCO")
    changed = [
        hour
        if hour.start < PERIODS.test
        else dacf.Hour(hour.start, {mode: 3 * mw for mode, mw in hour.generation.items()}, 1.0, hour.paper)
        for hour in hours
    ]
    with accuracy.embedded_session() as spark:
        dacf.write(accuracy.FolderLakehouse(spark, tmp_path), {"ERCO": changed})
    first_day = (PERIODS.test, PERIODS.test + _DAY)
    as_it_was = accuracy.rows_of(warehouse, "ERCO", hours, *first_day)
    then = accuracy.rows_of(tmp_path, "ERCO", changed, *first_day)
    pd.testing.assert_frame_equal(accuracy.DayAhead().inputs(as_it_was.X), accuracy.DayAhead().inputs(then.X))
    assert (then.y == 1.0).all()
    assert (as_it_was.y > 1.0).all()


def test_shares_are_of_the_same_hour(table: tuple[Path, object], warehouse: Path) -> None:
    hours = dacf.hours_of(table[0], "CISO")
    rows = accuracy.rows_of(warehouse, "CISO", hours, PERIODS.test, PERIODS.end)
    inputs = accuracy.DayAhead().inputs(rows.X)
    generation = {hour.start: hour.generation for hour in hours}
    for (_, _, horizon), moment, of_lag, of_value in zip(
        rows.index,
        rows.target_time,
        inputs["lag_production_gas_24h"],
        inputs["value_production_gas"],
        strict=True,
    ):
        day_before = generation[moment.to_pydatetime() - _DAY]
        origin = generation[moment.to_pydatetime() - timedelta(hours=horizon)]
        assert of_lag == day_before["gas"] / sum(day_before.values())
        assert of_value == origin["gas"] / sum(origin.values())
    assert "month" not in accuracy.DayAhead(month=False).inputs(rows.X)


def test_the_page_has_means_and_days(days: dict[str, pd.DataFrame]) -> None:
    lines = accuracy.report(days).splitlines()
    assert lines[0] == "| MAPE in %, mean of 4 days | ours | naive 24 h | the paper |"
    assert lines[2].startswith("| CISO | ")
    assert lines[2].endswith(" | 10.00 |")
    assert sum(line.startswith(("CISO,", "ERCO,")) for line in lines) == 6


def test_what_was_tried_is_judged_before_the_test(
    table: tuple[Path, object], warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = ("carbon intensity only", accuracy.CHOSEN)
    monkeypatch.setattr(accuracy, "TRIED", {name: accuracy.TRIED[name] for name in tried})
    found = accuracy.validated(warehouse, {"CISO": dacf.hours_of(table[0], "CISO")}, PERIODS)
    endings = [month + relative for month in ("", ", with the month") for relative in accuracy.BASES]
    assert list(found.index) == ["naive 24 h", *(name + ending for name in tried for ending in endings), "chosen"]
    assert found["CISO"].between(0, 20, inclusive="neither").all()


def test_without_the_table_the_page_keeps_its_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accuracy, "folder_of_data", lambda: None)
    monkeypatch.setattr(sys, "argv", ["accuracy"])
    assert accuracy.main() == SKIPPED
    assert "there is no folder shared/data/dacf_2020_2021" in capfd.readouterr().err
    # A measure whose input is absent, in a folder of its own.
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "accuracy.py").write_text(f'"""Says what it is."""\nraise SystemExit({SKIPPED})\n')
    (folder / "RESULTS.md").write_text("# Results\n\n## accuracy\n\nas it was\n")
    monkeypatch.setattr(page, "_FOLDER", folder)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "accuracy"])
    page.main()
    assert "## accuracy\n\nas it was" in (folder / "RESULTS.md").read_text()


def test_inputs_and_target_are_relative_to_the_base_of_their_model(table: tuple[Path, object], warehouse: Path) -> None:
    hours = dacf.hours_of(table[0], "CISO")
    rows = accuracy.rows_of(warehouse, "CISO", hours, PERIODS.validation, PERIODS.test)
    model = accuracy.DayAhead()
    plain = model.inputs(rows.X, None)
    assert model.bases == ("lag_carbon_intensity_24h", "mean_carbon_intensity_24h")
    for name in model.bases:
        assert name is not None
        inputs, base = model.inputs(rows.X, name), rows.X[name]
        assert list(inputs.columns) == list(plain.columns)
        assert inputs[name].equals(base)
        assert inputs["mean_carbon_intensity_168h"].equals(rows.X["mean_carbon_intensity_168h"] / base)
        assert inputs["lag_production_gas_168h"].equals(plain["lag_production_gas_168h"])
        # From Monday, 0, on.
        weekday = [moment.weekday() for moment in rows.target_time]
        assert list(inputs["day_of_week"]) == weekday
        # Of a target that is its base whatever the inputs, the model learns a ratio of one.
        forecast = accuracy.DayAhead(bases=(name,)).fitted(rows.X, base)(rows.X)
        assert forecast == pytest.approx(base.to_numpy(), rel=1e-9)


def test_the_forecast_is_the_mean_of_the_models(table: tuple[Path, object], warehouse: Path) -> None:
    hours = dacf.hours_of(table[0], "CISO")
    rows = accuracy.rows_of(warehouse, "CISO", hours, PERIODS.validation, PERIODS.test)
    both = accuracy.DayAhead()
    alone = [accuracy.DayAhead(bases=(base,)).fitted(rows.X, rows.y)(rows.X) for base in both.bases]
    assert both.fitted(rows.X, rows.y)(rows.X) == pytest.approx((alone[0] + alone[1]) / 2, rel=1e-12)
    # Three seeds are not one model that sees every feature.
    first = accuracy.DayAhead(seeds=1).fitted(rows.X, rows.y)(rows.X)
    assert (both.fitted(rows.X, rows.y)(rows.X) != first).any()


def test_trends_are_of_the_hours_before_the_issue(table: tuple[Path, object], warehouse: Path) -> None:
    hours = dacf.hours_of(table[0], "CISO")
    rows = accuracy.rows_of(warehouse, "CISO", hours, PERIODS.test, PERIODS.end)
    inputs = accuracy.DayAhead().inputs(rows.X)
    intensity = {hour.start: hour.intensity for hour in hours}
    for (_, issued_at, _), trend in inputs["trend_3h"].items():
        midnight = issued_at.to_pydatetime().replace(minute=0)
        last = [intensity[midnight - timedelta(hours=back)] for back in (1, 2, 3)]
        assert trend == pytest.approx(sum(last) / sum(intensity[midnight - timedelta(hours=24 + n)] for n in (1, 2, 3)))
    assert "trend_3h" not in accuracy.DayAhead(trends=False).inputs(rows.X)
