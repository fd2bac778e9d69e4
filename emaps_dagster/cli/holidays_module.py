"""Prints transforms/stored_holidays.py: `make holidays`, after an update of the package `holidays` or a new country."""

from __future__ import annotations

from importlib.metadata import version
from textwrap import wrap

from emaps_dagster.contracts.zones import ZONES
from emaps_dagster.transforms.public_holidays import computed

YEARS = range(2015, 2036)


def stored_module() -> str:
    """The text of the module, for the countries of zones.py and the installed version."""
    lines = [
        '"""Made by `make holidays`: national public holidays by country, of this version of the package."""',
        "",
        f'VERSION = "{version("holidays")}"',
        f"YEARS = range({YEARS.start}, {YEARS.stop})",
        "DATES = {",
    ]
    for country in sorted({zone.country for zone in ZONES.values() if zone.country}):
        days = computed(country, YEARS)
        if days is not None:
            text = " ".join(f"{day:%Y%m%d}" for day in days)
            lines += [f'    "{country}": (', *(f'        "{part} "' for part in wrap(text, 108)), "    ),"]
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    print(stored_module(), end="")
