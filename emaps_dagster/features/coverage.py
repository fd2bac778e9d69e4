"""Finds missing and backfilled rows in a result of `features.load`, and raises the errors that describe them.

reading.py reads the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from emaps_dagster.contracts.errors import BackfilledFeaturesError, FeaturesError, PartialFeaturesError
from emaps_dagster.contracts.feature_query import BACKFILLED, MISSING, FeatureQuery
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, utc_now

# An hour of a zone.
Key = tuple[str, datetime]
# First ingestion time of each feed's record of an hour; None: never ingested.
FirstIngested = Mapping[Key, Sequence[datetime | None]]

# /history carries an hour for a day after its end; later records came from /past-range.
IN_TIME = timedelta(hours=24)
_SHOWN = 5


def missing_of(query: FeatureQuery, rows: pa.Table) -> list[Key]:
    """The requested hours of each zone without a row."""
    hours = query.window.duration // HOUR
    if rows.num_rows == len(query.zones) * hours:
        return []
    held = set(zip(rows["zone"].to_pylist(), rows["datetime"].to_pylist(), strict=True))
    return [(zone, hour) for zone in query.zones for hour in query.window.hours() if (zone, hour) not in held]


def backfilled_of(query: FeatureQuery, rows: pa.Table, first: FirstIngested) -> list[Key]:
    """Rows of a `known_at` query with a record ingested more than `IN_TIME` after its hour, but within the delay."""
    assert query.delay is not None
    found = []
    for key in zip(rows["zone"].to_pylist(), rows["datetime"].to_pylist(), strict=True):
        waits = _waits(key, first)
        if any(IN_TIME < wait <= query.delay for wait in waits):
            found.append(key)
    return found


def refuse_missing_of_gold(query: FeatureQuery, missing: list[Key], place: Path | str) -> None:
    """Raises if stored gold has fewer rows than requested, unless that is allowed."""
    if not missing or MISSING in query.allow:
        return
    future = sum(hour + HOUR > utc_now() for _, hour in missing)
    raise PartialFeaturesError(
        f"gold.ml_features at {place} lacks {_of_all(query, missing)} requested hours: {_where(query, missing)}."
        + (f" {future:,} of them are not over yet." if future else "")
        + " Run the pipeline for these hours, request others, or accept fewer rows with allow='missing'."
    )


def refuse_unknown_then(query: FeatureQuery, missing: list[Key]) -> None:
    """Raises if a query as of a moment has fewer rows than requested, unless that is allowed."""
    if not missing or MISSING in query.allow:
        return
    assert query.as_of is not None
    over = floor_hour(query.as_of)
    future = sum(hour >= over for _, hour in missing)
    raise PartialFeaturesError(
        f"Not known at {query.as_of:%Y-%m-%dT%H:%M:%SZ} were {_of_all(query, missing)} requested hours: "
        f"{_where(query, missing)}."
        + (f" {future:,} of them were not over: end before {over:%Y-%m-%dT%H:%MZ}." if future else "")
        + " Request other hours, or accept fewer rows with allow='missing'."
    )


def refuse_unknown_in_time(
    query: FeatureQuery, missing: list[Key], backfilled: list[Key], first: FirstIngested
) -> None:
    """Raises if a `known_at` query lacks rows or has backfilled ones, unless that is allowed."""
    parts: list[str] = []
    accepted: list[str] = []
    error: type[FeaturesError] = BackfilledFeaturesError
    if missing and MISSING not in query.allow:
        error = PartialFeaturesError
        parts.append(
            f"Not known {query.delay} after their end were {_of_all(query, missing)} requested hours: "
            f"{_where(query, missing)}. {why_not_in_time(query, missing, first)}"
        )
        accepted.append(MISSING)
    if backfilled and BACKFILLED not in query.allow:
        rows = len(query.zones) * (query.window.duration // HOUR) - len(missing)
        waits = [wait for key in backfilled for wait in _waits(key, first) if wait > IN_TIME]
        parts.append(
            f"{len(backfilled):,} of {rows:,} rows are known {query.delay} after their end by a backfill only: "
            f"{_where(query, backfilled)}. They were first ingested {_delays(waits)}, and show what the provider "
            "published by then, not what could be known in their time."
        )
        accepted.append(BACKFILLED)
    if not parts:
        return
    accept = f"both with allow={accepted}" if len(accepted) > 1 else f"that with allow={accepted[0]!r}"
    raise error(" ".join([*parts, f"Request hours while the pipeline ran, or accept {accept}."]))


def needs_first_ingested(query: FeatureQuery, missing: list[Key], absent: list[str]) -> bool:
    """Whether the first ingestion times are needed: finding them reads every body once more."""
    if query.delay is None:
        return False
    doubted = query.delay > IN_TIME and BACKFILLED not in query.allow
    return doubted or bool(absent) or (bool(missing) and MISSING not in query.allow)


def refuse_partial(query: FeatureQuery, rows: pa.Table, missing: list[Key], first: FirstIngested) -> None:
    """Raises if a query of the past lacks rows or has backfilled ones, unless that is allowed."""
    if query.delay is None:
        refuse_unknown_then(query, missing)
    else:
        refuse_unknown_in_time(query, missing, backfilled_of(query, rows, first), first)


def why_not_in_time(query: FeatureQuery, missing: Iterable[Key], first: FirstIngested) -> str:
    """Describes when hours not known in time became known: within a day, by a backfill, or never."""
    assert query.delay is not None
    earliest = [min(waits) if (waits := _waits(key, first)) else None for key in missing]
    never = sum(wait is None for wait in earliest)
    waits = [wait for wait in earliest if wait is not None]
    soon, late = ([wait for wait in waits if (wait <= IN_TIME) == wanted] for wanted in (True, False))
    sentences = []
    if soon:
        sentences.append(f"{len(soon):,} were first ingested {_delays(soon)}: a longer known_at has them.")
    if late:
        share = f"{len(late) / (len(query.zones) * (query.window.duration // HOUR)):.0%} of those requested"
        sentences.append(
            f"{len(late):,}, {share}, were backfilled: first ingested {_delays(late)}. What was known of them in time "
            "was never fetched, and no known_at brings it back."
        )
    if never:
        sentences.append(f"{never:,} were never ingested.")
    return " ".join(sentences)


def _waits(key: Key, first: FirstIngested) -> list[timedelta]:
    """Time from the end of an hour to the first ingestion of each of its records."""
    return [moment - key[1] - HOUR for moment in first.get(key, ()) if moment is not None]


def _delays(waits: list[timedelta]) -> str:
    middle = sorted(waits)[len(waits) // 2]
    return f"{_short(min(waits))} after their end at the earliest, half of them {_short(middle)} or more"


def _short(wait: timedelta) -> str:
    return str(timedelta(seconds=int(wait.total_seconds())))


def _of_all(query: FeatureQuery, some: list[Key]) -> str:
    return f"{len(some):,} of the {len(query.zones) * (query.window.duration // HOUR):,}"


def _where(query: FeatureQuery, keys: list[Key]) -> str:
    """Formats the hours of each zone as ranges."""
    return "; ".join(
        f"zone {zone} {len(hours):,} in {_ranges(hours)}"
        for zone in query.zones
        if (hours := [hour for of, hour in keys if of == zone])
    )


def _ranges(hours: list[datetime]) -> str:
    found: list[Window] = []
    for hour in sorted(hours):
        if found and found[-1].end == hour:
            found[-1] = Window(found[-1].start, hour + HOUR)
        else:
            found.append(Window(hour, hour + HOUR))
    more = f" and {len(found) - _SHOWN:,} more ranges" if len(found) > _SHOWN else ""
    return ", ".join(map(str, found[:_SHOWN])) + more
