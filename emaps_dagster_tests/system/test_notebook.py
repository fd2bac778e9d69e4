"""examples/forecast.ipynb runs as it stands, is short, has no outputs, and the tutorial says the same."""

from __future__ import annotations

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "forecast.ipynb"
# To train, to score, to serve, and to show the leak: imports included, the plot not.
MOST_LINES = 15


def _code(*, plots: bool) -> list[nbformat.NotebookNode]:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    return [cell for cell in cells if plots or "plot" not in cell.metadata.get("tags", [])]


def test_its_code_is_short() -> None:
    lines = [line for cell in _code(plots=False) for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES
    assert len([cell for cell in _code(plots=True) if cell not in _code(plots=False)]) == 1
    assert not any(";" in line or len(line) > 120 for line in lines)


def test_it_has_no_outputs() -> None:
    for cell in _code(plots=True):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_the_tutorial_has_its_cells() -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)\n```", page, re.DOTALL)
    assert blocks[1:] == [cell.source for cell in _code(plots=True)]


@pytest.mark.timeout(900)
def test_it_runs_and_shows_skill_and_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(
        nbformat.v4.new_code_cell(
            "assert rows.known_in_time.all() and not final.known_in_time.any()\n"
            "assert rows.index.equals(final.index)\n"
            "assert now.index.get_level_values('horizon').tolist() == list(range(1, 25))\n"
            "later = scores.loc[6:].filter(like='skill_').mean()\n"
            "first = (promised.mae_persistence[1], kept.mae_persistence[1])\n"
            "print(*later.round(3), *map(float, first))"
        )
    )
    nbclient.NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    persistence, daily, weekly, promised, kept = map(float, notebook.cells[-1].outputs[-1].text.split())
    assert min(persistence, daily, weekly) > 0
    # The last known value is an estimate: a backtest on final values does not know that.
    assert kept > 1.1 * promised
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 1
