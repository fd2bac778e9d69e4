"""docs/as-of.md: its snippet runs, and what it says of leakage is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.leakage import SIGNALS, Training, build, differences, next_hour, own_hour, report, training

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "as-of.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leakage") / "warehouse"


@pytest.fixture(scope="module")
def data(folder: Path) -> Training:
    return training(folder, build(folder, 4))


def test_the_snippet_of_the_page_runs(data: Training, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_WAREHOUSE", str(folder))
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(snippet, names)  # our own page
    assert [len(names[name]) for name in ("final", "then", "known")] == [24, 18, 24]  # type: ignore[arg-type]


def test_the_pages_tables_are_those_that_the_command_prints(data: Training) -> None:
    def shape(text: str) -> list[str]:
        return [re.sub(r"\d[\d.]*", "#", line) for line in text.strip().splitlines() if line]

    (shown,) = re.findall(r"<!-- leakage -->\n(.*)<!-- /leakage -->", PAGE, re.DOTALL)
    assert shape(shown) == shape(report(data))


def test_every_row_was_known_in_time_and_nearly_none_as_it_is_in_the_end(data: Training) -> None:
    assert data.known["is_estimated_power"].all()
    assert not data.final["is_estimated_power"].any()
    for hours in differences(data)["hours that differ"]:
        off, of = map(int, hours.split(" of "))
        assert of == 48
        assert off > 40


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_backtest_on_final_gold_promises_what_cannot_be_had(data: Training, signal: str) -> None:
    errors = next_hour(signal, data)
    promised = errors["backtest on final gold"]
    assert errors["the same model, asked with what is known in time"] > 1.1 * promised
    assert errors["naive: as this hour, known"] > errors["naive: as this hour, final"]


@pytest.mark.parametrize("signal", SIGNALS)
def test_means_that_hold_the_hour_determine_it(data: Training, signal: str) -> None:
    errors = own_hour(signal, data)
    assert errors["both means and the value a day before"] < 1e-6
    assert errors["lag and the mean of the row before"] > 1
