"""The provider's passes: one in each hour and zone, which touches rows of earlier hours, and changes some of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache

from emaps_dagster.simulator.noise import bits, draw, stream

# Daily refetches of the hours 1 day, 1 week, 1 month and 3 months back.
_REFETCHED_AFTER_DAYS = (1, 7, 30, 90)
# Number of passes after its start in which an hour is checked again.
_WATCHED = 27


def hour_index(moment: datetime) -> int:
    """Hours since 1970."""
    return int(moment.timestamp() // 3600)


@lru_cache(maxsize=65536)
def pass_time(zone: str, seed: int, index: int) -> datetime:
    """Time of the provider's pass over a zone in an hour: the recorded passes are at minutes 47 to 52."""
    seconds = 47 * 60 + round(300 * draw(stream("pass", zone, seed), index), 3)
    return datetime.fromtimestamp(index * 3600, timezone.utc) + timedelta(seconds=seconds)


def last_touch(zone: str, seed: int, hour: int, measured: int, newest: int) -> tuple[int, int]:
    """The last pass that touched a measured hour, and the variant that it shows since."""
    touched, changed, variant = measured, measured, 0
    passes = bits(stream("looks", zone, seed), hour)
    changes = bits(stream("changes", zone, seed), hour)
    for after in range(measured + 1 - hour, min(newest - hour, _WATCHED) + 1):
        # One pass in four touches the row; one touch in four changes its values, the others its time stamp only.
        if passes >> 2 * after & 3 == 0:
            touched = hour + after
            if changes >> 2 * after & 3 == 0:
                changed, variant = touched, 100 + after
    for days in _REFETCHED_AFTER_DAYS:
        refetch = (hour // 24 + days) * 24 + 23
        if not measured < refetch <= newest:
            continue
        chance = draw(stream("refetch", days, zone, seed), hour)
        if chance < 0.3:
            touched = max(touched, refetch)
            if chance < 0.1 and refetch > changed:
                changed, variant = refetch, 200 + days
    return touched, variant
