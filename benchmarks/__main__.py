"""`make bench`: every measure in a process of its own; one Markdown page on the screen and in RESULTS.md."""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

from benchmarks.measurements import SKIPPED, machine, progress, watching_others

_FOLDER = Path(__file__).parent
# Modules of this folder that print a table when they are run.
MEASURES = (
    "compare_peers",
    "tick",
    "table_growth",
    "features_load",
    "command",
    "tick_profile",
    "backfill",
    "exact_numbers",
    "scale",
    "roads",
    "databricks",
    "dagster_overhead",
    "history",
    "accuracy",
)
# Below it, what others do is lost in the noise of the measures themselves.
_QUIET_CORES = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measures", nargs="*", default=MEASURES, metavar="measure", help=", ".join(MEASURES))
    options = parser.parse_args()
    unknown = set(options.measures) - set(MEASURES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: {', '.join(MEASURES)} are allowed")
    page = _FOLDER / "RESULTS.md"
    sections = _sections(page)
    for name in options.measures:
        measured = _measured(name)
        if measured is None:
            continue
        sections[name] = measured
        # At once: what was measured stays, should the next one fail.
        page.write_text(_page(sections))
    print(page.read_text(), end="")


def _page(sections: dict[str, str]) -> str:
    text = "# Results\n\nMade by `make bench`; README.md says what is measured on which input.\n"
    return text + "".join(f"\n## {name}\n\n{sections[name]}\n" for name in sections)


def _sections(page: Path) -> dict[str, str]:
    """The sections of the last time: who measures one thing again keeps the others."""
    if not page.exists():
        return {}
    parts = [part.partition("\n") for part in page.read_text().split("\n## ")[1:]]
    return {name: text.strip() for name, _, text in parts}


def _measured(name: str) -> str | None:
    """The section of a measure; None where its input is absent."""
    progress(f"measuring {name}")
    docstring = ast.get_docstring(ast.parse((_FOLDER / f"{name}.py").read_text())) or ""
    others: list[float] = []
    with watching_others(others):
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        done = subprocess.run(command, cwd=_FOLDER.parent, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == SKIPPED:
        return None
    done.check_returncode()
    noise = "".join(
        f" Other processes kept {cores:.1f} cores busy meanwhile"
        f"{'.' if cores < _QUIET_CORES else ': **the machine was loaded, an idle one is faster.**'}"
        for cores in others
    )
    return f"{docstring}\n\n{done.stdout.strip()}\n\n{machine()}.{noise}"


if __name__ == "__main__":
    main()
