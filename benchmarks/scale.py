"""Fifty zones and almost five years from bodies to gold on disk, beside ten and a year: `python -m benchmarks.scale`.

Embedded engine, no HTTP and no Dagster; each backfill is a process of its own. 25 times the rows should take 25 times
as long, and no more memory than a laptop has. Making the bodies takes a quarter of an hour and 4 GB of the temp folder.
"""

from __future__ import annotations

from benchmarks.backfill import measure, zones_of
from benchmarks.measurements import Figures

_ROWS = "rows of gold.ml_features"
_SECONDS = "all without checks, backfill"
# Zones and days. The simulated provider has no hour before 2021.
SMALL, LARGE = ("10", 365), ("50", 1_800)


def compare(small: tuple[str, int], large: tuple[str, int], repeats: int) -> Figures:
    """One backfill of the large input, and as many of the small one before and after it, all of zones and days."""
    taken = Figures()
    seconds: dict[str, list[float]] = {}
    for zones, days in [small] * repeats + [large] + [small] * repeats:
        what = f"{zones} zones x {days:,} days"
        once = measure(1, zones_of(zones), days, checks=False)
        for name, unit in once.units.items():
            taken.add(f"{name}, {what}", once.values[name][-1], unit)
        seconds.setdefault(what, []).append(once.values[_SECONDS][-1] / once.values[_ROWS][-1])
    one, many = seconds.values()
    for each in one:
        taken.add("seconds a row, large : small", many[0] / each, "ratio")
    return taken


if __name__ == "__main__":
    print(compare(SMALL, LARGE, repeats=2).table())
