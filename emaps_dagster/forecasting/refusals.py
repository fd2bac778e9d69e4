"""The errors of a training set that lacks rows, each with the remedies that give rows there."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from emaps_dagster.contracts.errors import BackfilledFeaturesError, NoFeaturesError, PartialFeaturesError
from emaps_dagster.contracts.forecast_plan import ForecastPlan
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.features.coverage import IN_TIME
from emaps_dagster.forecasting.held_hours import end_before, hours_with_target, usable_issue_times
from emaps_dagster.forecasting.known_hours import BACKFILLED, MISSING, coverage_of
from emaps_dagster.forecasting.rows import Issue
from emaps_dagster.forecasting.serving import OLDEST_HOURS
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.monitoring.hour_ranges import format_by_zone
from emaps_dagster.transforms.training_rows import origin_of

# By feed, then by zone and hour.
Statuses = dict[str, dict[Hashable, str]]


@dataclass(frozen=True)
class Request:
    """The arguments of a training set that decide which rows it has."""

    lakehouse: Lakehouse
    plan: ForecastPlan
    moments: Sequence[datetime]
    on_unknown: str
    max_age: timedelta
    target_as_of: datetime | None

    @property
    def target_hours(self) -> Window:
        first, last = (origin_of(self.moments[place]) for place in (0, -1))
        return Window(first + self.plan.horizons[0] * HOUR, last + (self.plan.horizons[-1] + 1) * HOUR)

    def __str__(self) -> str:
        first, last = (f"{self.moments[place]:%Y-%m-%dT%H:%MZ}" for place in (0, -1))
        return f"at the issue time {first}" if first == last else f"at the issue times from {first} to {last}"


def issues_of(rows: pa.Table) -> list[Issue]:
    """The zones and issue times of rows, sorted."""
    distinct = rows.group_by(["zone", "issued_at"]).aggregate([])
    return sorted(zip(distinct["zone"].to_pylist(), distinct["issued_at"].to_pylist(), strict=True))


def lacks_target(rows: pa.Table, plan: ForecastPlan) -> pa.ChunkedArray:
    """Whether one of the targets of each row has no value."""
    lacks = pc.is_null(rows[f"_target_{plan.targets[0]}"])
    for name in plan.targets[1:]:
        lacks = pc.or_(lacks, pc.is_null(rows[f"_target_{name}"]))
    return lacks


def refuse_unknown(request: Request, known: pa.Table, unknown: pa.Table) -> NoReturn:
    """Raises the error about the rows that were not known in time.

    Raises:
        PartialFeaturesError: some have no record at all, or only late ones.
        BackfilledFeaturesError: all of them were backfilled later.
    """
    plan, issues = request.plan, issues_of(unknown)
    statuses = _statuses(request, issues)
    late = sum(any(statuses[feed][zone, origin_of(at)] == BACKFILLED for feed in plan.feeds) for zone, at in issues)
    missing, per_issue = len(issues) - late, len(plan.horizons)
    error = PartialFeaturesError if missing else BackfilledFeaturesError
    origins: dict[str, list[datetime]] = {}
    for zone, at in issues:
        origins.setdefault(zone, []).append(origin_of(at))
    age = request.max_age // HOUR
    raise error(
        f"{unknown.num_rows:,} of {known.num_rows + unknown.num_rows:,} rows were not known in time: at their issue "
        f"time there was no record of their origin{f', nor of the {age} h before it' if age else ''} (max_age). "
        f"{missing * per_issue:,} missing, {late * per_issue:,} backfilled later (origins {format_by_zone(origins)})."
        + _remedies(request, origins, known, unknown, statuses)
    )


def refuse_without_target(request: Request, rows: pa.Table, lacking: pa.ChunkedArray) -> NoReturn:
    """Raises the error about rows without a target.

    Raises:
        PartialFeaturesError: always.
    """
    without = rows.filter(lacking)
    hours: dict[str, set[datetime]] = {}
    for zone, hour in zip(without["zone"].to_pylist(), without["target_time"].to_pylist(), strict=True):
        hours.setdefault(zone, set()).add(hour)
    end = end_before(min(hour for of_zone in hours.values() for hour in of_zone), request.plan)
    offers = [f"give {end:%Y-%m-%dT%H:%MZ} or earlier as end"] if request.moments[0] < end else []
    if _has_every_zone(request, rows.filter(pc.invert(lacking))):
        offers.append("leave these rows out with on_unknown='drop'")
    raise PartialFeaturesError(
        f"{without.num_rows:,} of {rows.num_rows:,} rows have no target: there is no value of the target hours "
        f"{format_by_zone(hours)}.{_held(request, hours)}" + _sentence(offers or _other_range(request, final=False))
    )


def refuse_without_rows(request: Request, zones: Sequence[str], known: pa.Table, unknown: pa.Table) -> None:
    """Raises if zones have no row left.

    Args:
        request: the arguments.
        zones: zones without a row.
        known: all rows that can be computed, without a target, too.
        unknown: the others.

    Raises:
        NoFeaturesError: there is such a zone.
    """
    if not zones:
        return
    zone, final = zones[0], request.on_unknown == "final"
    if pc.any(pc.equal(known["zone"], zone)).as_py():
        raise NoFeaturesError(
            f"Zone {zone} has no row {request}: there is no value of the target hours in {request.target_hours}."
            + _held(request, [zone])
            + _sentence(_other_range(request, final=final))
        )
    why = "bronze holds no record of their origins" if final else "nothing was known in time"
    raise NoFeaturesError(
        f"Zone {zone} has no row {request}: {why}."
        + _remedies(request, [zone], known, unknown, _statuses(request, issues_of(unknown)), dropped=True)
    )


def _statuses(request: Request, issues: Sequence[Issue]) -> Statuses:
    """The status of the hours up to each origin, by feed, zone and hour."""
    origins = [origin_of(at) for _, at in issues]
    hours = Window(min(origins) - request.max_age // HOUR * HOUR, max(origins) + HOUR)
    # With a delay of a day, what is not known was not carried by /history: a backfill brought it.
    found = coverage_of(request.lakehouse, sorted({zone for zone, _ in issues}), hours, IN_TIME)
    return {feed: found[feed].astype(str).to_dict() for feed in request.plan.feeds}


def _remedies(
    request: Request,
    zones: Iterable[str],
    known: pa.Table,
    unknown: pa.Table,
    statuses: Statuses,
    *,
    dropped: bool = False,
) -> str:
    """The range that the tables hold, and what gives rows; `dropped`: the rows that were not known are left out."""
    plan, of_final = request.plan, request.on_unknown == "final"
    have_target = known.filter(pc.invert(lacks_target(known, plan)))
    offers = _other_range(request, final=of_final)
    if not dropped and _has_every_zone(request, have_target):
        offers.append("leave these rows out with on_unknown='drop'")
    if not of_final and _final_has_every_zone(request, have_target, unknown, statuses):
        offers.append("compute them from the final values with on_unknown='final', which adds the column known_in_time")
    age = _oldest_age(unknown, plan)
    complete = have_target.num_rows == known.num_rows and not pc.any(lacks_target(unknown, plan)).as_py()
    if not dropped and complete and age is not None and age <= OLDEST_HOURS:
        offers.append(f"accept older records with max_age='{age}h'")
    coverage = " forecasting.coverage shows what was known of each hour."
    return _held(request, zones) + (_sentence(offers) or coverage)


def _other_range(request: Request, *, final: bool) -> list[str]:
    """The remedy to give the issue times that have rows, unless the given ones lie within them."""
    usable = usable_issue_times(
        request.lakehouse,
        request.plan,
        request.plan.zones,
        max_age=request.max_age,
        target_as_of=request.target_as_of,
        final=final,
    )
    if usable is None or (usable.start <= request.moments[0] and request.moments[-1] < usable.end):
        return []
    return [
        f"give {usable.start:%Y-%m-%dT%H:%MZ} or later as start and {usable.end:%Y-%m-%dT%H:%MZ} or earlier as end"
        + ("" if final else ", while the pipeline ran")
    ]


def _held(request: Request, zones: Iterable[str]) -> str:
    hours = hours_with_target(request.lakehouse, request.plan, list(zones), request.target_as_of)
    return "".join(f" Silver holds targets of zone {zone} in {window}." for zone, window in sorted(hours.items()))


def _sentence(offers: Sequence[str]) -> str:
    """The remedies as a sentence."""
    if not offers:
        return ""
    text = ", or ".join(offers)
    return f" {text[0].upper()}{text[1:]}."


def _has_every_zone(request: Request, rows: pa.Table) -> bool:
    return set(pc.unique(rows["zone"]).to_pylist()) == set(request.plan.zones)


def _final_has_every_zone(request: Request, known: pa.Table, unknown: pa.Table, statuses: Statuses) -> bool:
    """Whether each zone has a row with a target if those not known in time are computed from all responses."""
    there = set(pc.unique(known["zone"]).to_pylist())
    ages = range(request.max_age // HOUR + 1)
    unknown = unknown.filter(pc.invert(lacks_target(unknown, request.plan)))
    for zone, at in issues_of(unknown):
        hours = [(zone, origin_of(at) - age * HOUR) for age in ages]
        if all(any(of_feed[hour] != MISSING for hour in hours) for of_feed in statuses.values()):
            there.add(zone)
    return there == set(request.plan.zones)


def _oldest_age(rows: pa.Table, plan: ForecastPlan) -> int | None:
    """The age in hours of the oldest last known record of rows; None if a row has none."""
    ages = [rows[f"_age_{feed}"] for feed in plan.feeds]
    if any(age.null_count for age in ages):
        return None
    return max(int(pc.max(age).as_py()) for age in ages)
