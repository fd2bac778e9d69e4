"""National public holidays by year, those of the package `holidays`.

To import that package takes longer than to plan a tick, so the dates of most years are stored in stored_holidays.py,
which `make holidays` writes. Other years, countries and versions of the package are computed by the package.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import cache, lru_cache
from importlib.metadata import version

from emaps_dagster.transforms import stored_holidays


@lru_cache(maxsize=256)
def public_holidays(country: str | None, years: range) -> list[date] | None:
    """National public holidays of the years, sorted; None when those of the country are unknown."""
    if country is None:
        return None
    stored = _stored(country) if set(years) <= set(stored_holidays.YEARS) else None
    return computed(country, years) if stored is None else [day for day in stored if day.year in years]


@cache
def _stored(country: str) -> list[date] | None:
    if country not in stored_holidays.DATES or version("holidays") != stored_holidays.VERSION:
        return None
    texts = stored_holidays.DATES[country].split()
    return [date(int(text[:4]), int(text[4:6]), int(text[6:])) for text in texts]


def computed(country: str, years: Iterable[int]) -> list[date] | None:
    """The same by the package."""
    import holidays

    try:
        return sorted(holidays.country_holidays(country, years=years))
    except NotImplementedError:
        return None
