"""Issue times of a training set: one for each hour, or for some hours, a delay after they begin."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone

from emaps_dagster.contracts.errors import FeaturesError
from emaps_dagster.contracts.feature_query import duration_of, hours_between
from emaps_dagster.contracts.windows import HOUR, floor_hour

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def issue_times(
    start: date | str,
    end: date | str,
    *,
    every: str | timedelta,
    at: str | Iterable[str] | None,
    delay: timedelta,
) -> list[datetime]:
    """The issue times in [start, end): `delay` after full hours.

    Args:
        start: an aware datetime, ISO 8601 with a zone, or a day; a full UTC hour.
        end: likewise.
        every: distance of these hours, counted from midnight UTC of 1 January 1970.
        at: the hours of day, UTC, that these hours are restricted to, such as "00:00".
        delay: from such an hour to its issue time.

    Raises:
        FeaturesError: an argument is invalid, or there is no issue time.
    """
    window = hours_between(start, end)
    step = duration_of(every)
    if step is None or step < HOUR or step % HOUR:
        raise FeaturesError(f"issue_every is {every!r}; give a number of whole hours such as '1h', '6h' or '1d'.")
    of_day = None if at is None else {_hour_of_day(text) for text in ([at] if isinstance(at, str) else at)}
    # The first full hour whose issue time is not before start.
    hour = floor_hour(window.start - delay)
    found = []
    while hour + delay < window.end:
        due = hour + delay >= window.start and not (hour - _EPOCH) % step
        if due and (of_day is None or hour.hour in of_day):
            found.append(hour + delay)
        hour += HOUR
    if not found:
        raise FeaturesError(
            f"{window} has no issue time: they are {delay} after full hours, every {step}"
            + ("" if at is None else f", at {at!r} of the day, UTC")
            + ". Give a longer range."
        )
    return found


def _hour_of_day(text: object) -> int:
    parts = re.fullmatch(r"([01]\d|2[0-3]):00", text) if isinstance(text, str) else None
    if parts is None:
        raise FeaturesError(
            f"issue_at holds {text!r}; give full hours of the day, UTC, such as '00:00'. known_at is added to them."
        )
    return int(parts[1])
