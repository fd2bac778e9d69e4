"""Stored holidays are those of the package, and what is not stored is computed."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import holidays
import pytest

from emaps_dagster.cli.holidays_module import YEARS, stored_module
from emaps_dagster.contracts.zones import ZONES
from emaps_dagster.transforms import public_holidays as module
from emaps_dagster.transforms import stored_holidays
from emaps_dagster.transforms.public_holidays import public_holidays

COUNTRIES = sorted({zone.country for zone in ZONES.values() if zone.country})


def test_the_stored_module_is_what_make_holidays_writes() -> None:
    stored = Path(stored_holidays.__file__).read_text(encoding="utf-8")
    assert stored == stored_module(), "run make holidays: zones.py or the package holidays has changed"


@pytest.mark.parametrize("country", COUNTRIES)
def test_stored_dates_are_those_of_the_package_year_by_year(country: str) -> None:
    assert country in stored_holidays.DATES
    for year in YEARS:
        expected = sorted(holidays.country_holidays(country, years=[year]))
        assert public_holidays(country, range(year, year + 1)) == expected


def test_greece_of_one_year() -> None:
    days = public_holidays("GR", range(2024, 2025))
    assert days is not None
    # New Year, Clean Monday by Orthodox Easter, Independence, Good Friday, the Dormition.
    for day in ((1, 1), (3, 18), (3, 25), (5, 3), (8, 15)):
        assert date(2024, *day) in days
    assert date(2024, 5, 4) not in days


@pytest.mark.parametrize(
    "years", [range(YEARS.stop - 1, YEARS.stop + 1), range(YEARS.start - 1, YEARS.start), range(1999, 2000)]
)
def test_other_years_are_computed(years: range) -> None:
    assert public_holidays("GR", years) == sorted(holidays.country_holidays("GR", years=years))


def test_another_country_is_computed_and_an_unknown_one_has_none() -> None:
    assert "FR" not in stored_holidays.DATES
    assert date(2024, 7, 14) in (public_holidays("FR", range(2024, 2025)) or ())
    assert public_holidays("XX", range(2024, 2025)) is None
    assert public_holidays(None, range(2024, 2025)) is None


def test_another_version_of_the_package_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "version", lambda _: "9.9")
    monkeypatch.setattr(module, "computed", lambda country, years: [date(years[0], 12, 24)])
    module._stored.cache_clear()
    public_holidays.cache_clear()
    try:
        assert public_holidays("GR", range(2024, 2025)) == [date(2024, 12, 24)]
    finally:
        module._stored.cache_clear()
        public_holidays.cache_clear()


def test_stored_years_do_not_import_the_package() -> None:
    program = (
        "import sys\n"
        "from emaps_dagster.transforms.public_holidays import public_holidays\n"
        "print(len(public_holidays('GR', range(2024, 2026))), 'holidays' in sys.modules)\n"
    )
    root = Path(module.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    number, is_imported = done.stdout.split()
    assert int(number) > 20
    assert is_imported == "False"
