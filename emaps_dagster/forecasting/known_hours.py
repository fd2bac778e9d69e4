"""Which hours were known in time, backfilled or never fetched, and the errors of a training set that lacks rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa

from emaps_dagster.contracts.errors import BackfilledFeaturesError, FeaturesError, NoFeaturesError, PartialFeaturesError
from emaps_dagster.contracts.forecast_plan import ForecastPlan
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.features.coverage import IN_TIME
from emaps_dagster.features.reading import plain
from emaps_dagster.features.responses import responses_of
from emaps_dagster.forecasting.rows import Issue
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.monitoring.hour_ranges import format_by_zone
from emaps_dagster.transforms.as_of import first_ingested
from emaps_dagster.transforms.training_rows import origin_of

KNOWN, LATE, BACKFILLED, MISSING = STATUSES = ("known", "late", "backfilled", "missing")
FEED_NAMES = ("power", "carbon")


def coverage_of(lakehouse: Lakehouse, zones: Sequence[str], hours: Window, delay: timedelta) -> pd.DataFrame:
    """The status of each hour of each zone; see `forecasting.coverage`."""
    parts = []
    for part in hours.by_month():
        power, carbon, mix = responses_of(lakehouse, zones, part)
        parts.append(plain(lakehouse.collect(first_ingested(power, carbon, part.start, part.end, mix=mix))))
    first = pa.concat_tables(parts).to_pandas().set_index(["zone", "datetime"])
    index = pd.MultiIndex.from_product(
        [list(zones), pd.date_range(hours.start, hours.end, freq="h", inclusive="left", unit="us")],
        names=["zone", "datetime"],
    )
    found = first.reindex(index)
    ended = index.get_level_values("datetime") + HOUR
    ranks = pd.DataFrame(index=index)
    for feed in FEED_NAMES:
        wait = found[f"ingested_at_{feed}"] - ended
        rank = pd.Series(STATUSES.index(MISSING), index=index)
        rank[wait.notna()] = STATUSES.index(BACKFILLED)
        rank[wait <= IN_TIME] = STATUSES.index(LATE)
        rank[wait <= delay] = STATUSES.index(KNOWN)
        ranks[feed] = rank
    ranks["status"] = ranks.max(axis=1)
    named = ranks.apply(lambda codes: pd.Series(pd.Categorical.from_codes(codes, pd.Index(STATUSES)), index=index))
    return named[["status", *FEED_NAMES]].join(found)


def refuse_unknown(
    lakehouse: Lakehouse, unknown: Sequence[Issue], plan: ForecastPlan, *, of: int, max_age: timedelta
) -> None:
    """Raises the error about issue times without data in time; `of` is the number of all rows.

    Raises:
        PartialFeaturesError: some have none at all, or only late ones.
        BackfilledFeaturesError: all of them were backfilled later.
    """
    origins = {issue: origin_of(issue[1]) for issue in unknown}
    hours = Window(min(origins.values()), max(origins.values()) + HOUR)
    # With a delay of a day, what is not known was not carried by /history: a backfill brought it.
    statuses = coverage_of(lakehouse, sorted({zone for zone, _ in unknown}), hours, IN_TIME)
    of_feeds = [statuses[feed].astype(str).to_dict() for feed in plan.feeds]
    late = sum(any(of_feed[zone, origins[zone, at]] == BACKFILLED for of_feed in of_feeds) for zone, at in unknown)
    missing, per_issue = len(unknown) - late, len(plan.horizons)
    error = PartialFeaturesError if missing else BackfilledFeaturesError
    ranges = {zone: [origin for (of_zone, _), origin in origins.items() if of_zone == zone] for zone, _ in unknown}
    raise error(
        f"{len(unknown) * per_issue:,} of {of:,} rows have no record of the {max_age // HOUR + 1} hours up to their "
        f"origin that was known at their issue time: {missing * per_issue:,} missing, {late * per_issue:,} backfilled "
        f"later (origins {format_by_zone(ranges)}). Give a range in which the pipeline ran, leave these rows out with "
        "on_unknown='drop', or compute them from the final values with on_unknown='final', which adds the column "
        "known_in_time."
    )


def refuse_without_target(lacking: pa.Table, *, of: int) -> None:
    """Raises the error about rows without a target; `of` is the number of all rows.

    Raises:
        PartialFeaturesError: always.
    """
    hours: dict[str, set[datetime]] = {}
    for zone, hour in zip(lacking["zone"].to_pylist(), lacking["target_time"].to_pylist(), strict=True):
        hours.setdefault(zone, set()).add(hour)
    raise PartialFeaturesError(
        f"{lacking.num_rows:,} of {of:,} rows have no target: there is no value of the target hours "
        f"{format_by_zone(hours)}. Give an earlier end, or leave these rows out with on_unknown='drop'."
    )


def refuse_without_rows(zones: Iterable[str], window: Window) -> None:
    """Raises if zones have no row left.

    Raises:
        NoFeaturesError: there is such a zone.
    """
    for zone in zones:
        raise NoFeaturesError(
            f"Zone {zone} has no row in {window}: no issue time had data in time and a target. Give a range in which "
            "the pipeline ran; forecasting.coverage lists what was known."
        )


def check_on_unknown(value: str) -> None:
    if value not in ("raise", "drop", "final"):
        raise FeaturesError(
            f"on_unknown is {value!r}; 'raise' is an error where rows were not known in time, 'drop' leaves them out, "
            "'final' computes them from the final values and adds the column known_in_time."
        )
