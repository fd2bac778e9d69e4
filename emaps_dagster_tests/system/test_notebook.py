"""examples/forecast.ipynb runs as it stands, is short, has no outputs, and the tutorial says the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "forecast.ipynb"
# To train, to score and to serve: imports included.
MOST_LINES = 15
# The plot, the leak, the comparison of a row, and the file for another process.
MORE = {"plot", "leak", "check", "process"}
# To serve in another process, likewise.
MOST_LINES_OF_A_PROCESS = 5


def _code(*, more: bool) -> list[nbformat.NotebookNode]:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    return [cell for cell in cells if more or not MORE & set(cell.metadata.get("tags", []))]


def _blocks() -> list[str]:
    page = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    return re.findall(r"```python\n(.*?)\n```", page, re.DOTALL)


def _lines(code: str) -> list[str]:
    return [line for line in code.splitlines() if line.strip()]


def test_its_code_is_short() -> None:
    lines = [line for cell in _code(more=False) for line in _lines(cell.source)]
    assert len(lines) <= MOST_LINES
    assert len(_lines(_blocks()[-1])) <= MOST_LINES_OF_A_PROCESS
    assert len(_code(more=True)) - len(_code(more=False)) == len(MORE)
    every = [line for cell in _code(more=True) for line in _lines(cell.source)]
    assert not any(";" in line or len(line) > 120 for line in every)


def test_it_has_no_outputs() -> None:
    for cell in _code(more=True):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_the_tutorial_has_its_cells() -> None:
    # The first block reads the demo's tables, the last one belongs to another process.
    assert _blocks()[1:-1] == [cell.source for cell in _code(more=True)]


@pytest.mark.timeout(900)
def test_it_runs_and_shows_skill_and_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    written = "".join(cell.source for cell in notebook.cells)
    notebook.cells.append(
        nbformat.v4.new_code_cell(
            "assert rows.known_in_time.all() and not final.known_in_time.any()\n"
            "assert rows.index.equals(final.index)\n"
            "assert now.index.get_level_values('horizon').tolist() == list(range(1, 25))\n"
            "first = (promised.mae_persistence[1], kept.mae_persistence[1])\n"
            "skill = scores['skill_persistence']\n"
            "print(skill[1], skill[6:].mean(), *map(float, first))\n"
            "print((now['value_carbon_intensity'] + model.predict(now)).tolist())"
        )
    )
    nbclient.NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    figures, served = notebook.cells[-1].outputs[-1].text.splitlines()
    at_once, later, promised, kept = map(float, figures.split())
    # What the page says of all dates.
    assert at_once < 0 < later
    assert kept > promised
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 1
    # Where the tables are, the scores, the leak, the forecast and its hours, and that a row is the same.
    said = "".join(o.text for cell in notebook.cells[:-1] for o in cell.get("outputs", []) if "text" in o)
    assert written.count("print(") == 5
    for words in (str(tmp_path / "forecast-demo" / "warehouse"), "skill_weekly", "mae_kept", "target_time"):
        assert words in said
    assert said.endswith("True\n")
    # Another process serves the same, if it is still the same hour.
    other = _blocks()[-1] + "\nprint((now['value_carbon_intensity'] + model.predict(now)).tolist())\n"
    done = subprocess.run([sys.executable, "-c", other], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()[-1].split(",")) == 24
    if _same_hour(said, done.stdout):
        assert done.stdout.splitlines()[-1] == served


def _same_hour(*printed: str) -> bool:
    """Whether the first rows that were printed were issued in the same hour."""
    hours = [re.findall(r"GR +(\d{4}-\d\d-\d\d \d\d):", text)[0] for text in printed]
    return len(set(hours)) == 1
