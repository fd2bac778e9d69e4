"""Hours for the tests of upkeep: a present, windows written short, and holes as they come."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import strategies as st

from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster_tests.support.builders import utc

NOW = utc(2024, 5, 4, 10) + timedelta(minutes=20)
FIRST = utc(2024, 1, 1)
# /history carries the hours from here on.
CARRIED = utc(2024, 5, 3, 11)


def window(start: str, end: str) -> Window:
    return Window(
        *(datetime.strptime(f"2024-{text}", "%Y-%m-%dT%H").replace(tzinfo=timezone.utc) for text in (start, end))
    )


def hours(*ranges: tuple[str, str]) -> set[datetime]:
    return {hour for start, end in ranges for hour in window(start, end).hours()}


def some_hours(most: int = 60) -> st.SearchStrategy[set[datetime]]:
    """Hours of the last hundred days, in clusters as holes are."""
    run = st.tuples(st.integers(0, 2400), st.integers(1, 40))
    return st.lists(run, max_size=most // 10).map(
        lambda runs: {utc(2024, 5, 4, 9) - (back + n) * HOUR for back, length in runs for n in range(length)}
    )
