"""Health report from a few columns of the tables: status per zone and per day, and open issues.

Pure: rows and a clock in, a report out. pipeline/health.py reads the tables, defs/assets/health.py reports to Dagster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from emaps_dagster.contracts.windows import HOUR, floor_hour
from emaps_dagster.transforms.provider_health import VALUE_COLUMNS, sentences
from emaps_dagster.transforms.quality.clocks import is_in_the_future
from emaps_dagster.transforms.silver import INGESTION_ORDER, drop_repeated_content, energy_data

DAY = timedelta(days=1)
# Period for gaps, calls and estimates: an operator still remembers the events of a week.
HEALTH_LOOKBACK = timedelta(days=7)
# Period for revisions, whose count parses every body of these hours again: it bounds the cost.
REVISIONS_OF = timedelta(days=3)
# The tick of minute 7 fetches the hour that has just ended; two hours mean one missed tick.
_LATE_HOURS = 2


@dataclass(frozen=True)
class StoredResponse:
    """One stored response: zone, feed, ingestion time, end of its last hour, and whether it is of /history.

    Only /history reaches the present; a response about last year does not show the provider's lag.
    """

    feed: str
    zone: str
    ingested_at: datetime
    window_end: datetime
    up_to_now: bool = True


@dataclass(frozen=True)
class Quarantined:
    """An hour whose newest record of a feed is quarantined, with the reason."""

    zone: str
    feed: str
    hour: datetime
    reason: str


@dataclass(frozen=True)
class HealthInputs:
    """Rows of the tables that the report is computed from.

    Silver's rows have `SILVER_COLUMNS`, for all hours of the last `HEALTH_LOOKBACK`, flow maps as dicts;
    `reported_once` comes from provider_health.py, for the hours of the last `REVISIONS_OF`.
    """

    now: datetime
    zones: tuple[str, ...]
    silver: tuple[Mapping[str, Any], ...]
    gold_hours: frozenset[tuple[str, datetime]]
    answers: tuple[StoredResponse, ...]
    rejected_at: tuple[datetime, ...]
    revised_at: tuple[datetime, ...]
    reported_once: tuple[Mapping[str, Any], ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    without_hour_at: tuple[datetime, ...] = ()


SILVER_COLUMNS = (
    "zone",
    "datetime",
    "ingested_at_power",
    "ingested_at_carbon",
    "is_estimated_power",
    "is_estimated_carbon",
    *VALUE_COLUMNS,
)


@dataclass(frozen=True)
class ZoneHealth:
    """One zone: its last hour delivered by both feeds, and the hours missing since its first of the last days."""

    zone: str
    last_complete_hour: datetime | None
    hours_behind: int | None
    provider_lag_hours: int | None
    last_answer: datetime | None
    estimated_share_24h: float | None
    gaps: tuple[datetime, ...]
    not_in_gold: tuple[datetime, ...]


@dataclass(frozen=True)
class Day:
    """One UTC day: stored responses, rejected bodies, hours that the provider revised."""

    day: date
    calls: int
    rejected: int
    revisions: int


@dataclass(frozen=True)
class Health:
    """The report; `needs` are one sentence per open issue, empty when there is none."""

    now: datetime
    zones: tuple[ZoneHealth, ...]
    days: tuple[Day, ...]
    open_issues: tuple[str, ...]
    quarantined: tuple[Quarantined, ...] = ()


def revisions(
    power: DataFrame, carbon: DataFrame, start: datetime, end: datetime, *, mix: DataFrame | None = None
) -> DataFrame:
    """One row for each revision: changed content of an hour of [start, end) that was known before.

    Args:
        power: rows of bronze.power_data; all that overlap the window must be there.
        carbon: rows of bronze.carbon_data, likewise.
        start: first hour, UTC.
        end: end of the last hour, UTC.
        mix: rows of bronze.mix_data, likewise; None without the table.

    Returns:
        `zone`, `datetime`, `ingested_at` of the new content; one row per feed, or one if both arrived at once.
    """

    def later(records: DataFrame, content: list[str]) -> DataFrame:
        oldest_first = Window.partitionBy("zone", "datetime").orderBy(*INGESTION_ORDER)
        numbered = drop_repeated_content(records, content).withColumn("_number", F.row_number().over(oldest_first))
        again = numbered.where(F.col("_number") > 1)
        return again.withColumn("known_at", F.col("ingested_at")).select(
            "known_at", "zone", "datetime", "ingested_at", *content
        )

    rows = energy_data(power, carbon, start, end, mix=mix, pick=later, more_keys=("known_at",))
    return rows.select("zone", "datetime", F.col("known_at").alias("ingested_at"))


def health(facts: HealthInputs) -> Health:
    """Computes the report: status by zone and day, and the open issues with their remedies."""
    zones = tuple(_zone(facts, zone) for zone in facts.zones)
    open_issues = [sentence for zone in zones for sentence in _needs(facts, zone)]
    open_issues += _wrong_clocks(facts)
    recent = [moment for moment in facts.rejected_at if moment > facts.now - DAY]
    if recent:
        open_issues.append(
            f"{_count(len(recent), 'body was', 'bodies were')} rejected in the last 24 hours: `reason` in "
            "bronze.rejected_responses says why. If silver has those hours, nothing is lost."
        )
    undated = sum(moment > facts.now - DAY for moment in facts.without_hour_at)
    if undated:
        open_issues.append(
            f"{_count(undated, 'record', 'records')} of which no hour can be read {'was' if undated == 1 else 'were'} "
            "quarantined in the last 24 hours: `reason` in bronze.rejected_records says why."
        )
    return Health(facts.now, zones, tuple(_days(facts)), tuple(open_issues), facts.quarantined)


def _zone(facts: HealthInputs, zone: str) -> ZoneHealth:
    now = floor_hour(facts.now)
    rows = {row["datetime"]: row for row in facts.silver if row["zone"] == zone}
    complete = {hour for hour, row in rows.items() if _has_both_feeds(row)}
    last = max(complete, default=None)
    day = [row for hour, row in rows.items() if hour >= now - DAY]
    answers = [
        answer
        for answer in facts.answers
        if answer.zone == zone and answer.up_to_now and not is_in_the_future(answer.ingested_at, facts.now)
    ]
    expected = _hours(min(rows, default=now), now - HOUR)
    return ZoneHealth(
        zone=zone,
        last_complete_hour=last,
        hours_behind=None if last is None else (now - HOUR - last) // HOUR,
        provider_lag_hours=_provider_lag(answers),
        last_answer=max((answer.ingested_at for answer in answers), default=None),
        estimated_share_24h=sum(map(_is_estimated, day)) / len(day) if day else None,
        # The next tick may still bring the hour that has just ended; hours after the last are reported as lateness.
        gaps=tuple(hour for hour in expected if hour not in complete and last is not None and hour < last),
        not_in_gold=tuple(hour for hour in sorted(rows) if (zone, hour) not in facts.gold_hours),
    )


def _has_both_feeds(row: Mapping[str, Any]) -> bool:
    return row["ingested_at_power"] is not None and row["ingested_at_carbon"] is not None


def _is_estimated(row: Mapping[str, Any]) -> bool:
    return bool(row["is_estimated_power"] or row["is_estimated_carbon"])


def _provider_lag(answers: Iterable[StoredResponse]) -> int | None:
    """Number of ended hours that the newest response of the slower feed lacked at its ingestion."""
    newest: dict[str, StoredResponse] = {}
    for answer in sorted(answers, key=lambda answer: (answer.ingested_at, answer.window_end)):
        newest[answer.feed] = answer
    lags = [
        (floor_hour(answer.ingested_at) - min(answer.window_end, floor_hour(answer.ingested_at))) // HOUR
        for answer in newest.values()
    ]
    return max(lags, default=None)


def _needs(facts: HealthInputs, zone: ZoneHealth) -> Iterable[str]:
    if zone.last_complete_hour is None:
        yield (
            f"{zone.zone}: silver has no complete hour of the last {HEALTH_LOOKBACK.days} days. Materialize the last "
            "24 hours of all layers; the run's error says what is wrong."
        )
    elif zone.hours_behind is not None and zone.hours_behind >= _LATE_HOURS:
        behind = f"{zone.zone}: {zone.hours_behind} hours behind"
        if zone.last_answer is None or facts.now - zone.last_answer > _LATE_HOURS * HOUR:
            yield (
                f"{behind}, and no answer has been stored for as long: see that the schedule hourly_tick is on and "
                "why its last runs failed. After a day a plan without past-range cannot get these hours any more."
            )
        else:
            yield f"{behind}, although it was requested: the provider is late. Wait; later ticks take the hours in."
    if zone.gaps:
        yield (
            f"{zone.zone}: {_count(len(zone.gaps), 'hour is', 'hours are')} missing or known from one feed only. "
            f"Materialize all layers for {_ranges(zone.gaps)}; if they stay missing, the provider has none."
        )
    waiting = [record for record in facts.quarantined if record.zone == zone.zone]
    if waiting:
        hours = {record.hour for record in waiting}
        yield (
            f"{zone.zone}: {_count(len(hours), 'hour waits', 'hours wait')} for the provider, since the newest record "
            f"is quarantined: {_ranges(hours)}; the first of {waiting[0].feed}: {waiting[0].reason}. Runs request "
            "it again by themselves; report it to the provider if it stays so. bronze.rejected_records has the records."
        )
    if zone.not_in_gold:
        yield (
            f"{zone.zone}: gold lacks {_count(len(zone.not_in_gold), 'hour', 'hours')} that silver holds. "
            f"Materialize gold for {_ranges(zone.not_in_gold)}."
        )
    silver, once = ([row for row in rows if row["zone"] == zone.zone] for rows in (facts.silver, facts.reported_once))
    yield from sentences(zone.zone, silver, once, facts.zones, _ranges)


def _wrong_clocks(facts: HealthInputs) -> Iterable[str]:
    ahead = [answer for answer in facts.answers if is_in_the_future(answer.ingested_at, facts.now)]
    if ahead:
        zones = ", ".join(sorted({answer.zone for answer in ahead}))
        last = max(answer.ingested_at for answer in ahead)
        yield (
            f"{zones}: {_count(len(ahead), 'response says', 'responses say')} that they were received in the future, "
            f"up to {last:%Y-%m-%d %H:%M} UTC, and win over right ones: the machine's clock was ahead. Set it, launch "
            "the job `withdraw` with `ingested_in_the_future: true`, then materialize the last 24 hours, all layers."
        )


def _days(facts: HealthInputs) -> Iterable[Day]:
    calls = Counter(answer.ingested_at.date() for answer in facts.answers)
    rejected = Counter(moment.date() for moment in facts.rejected_at)
    revised = Counter(moment.date() for moment in facts.revised_at)
    for back in range(HEALTH_LOOKBACK.days):
        day = (facts.now - back * DAY).date()
        yield Day(day, calls[day] + rejected[day], rejected[day], revised[day])


def _hours(start: datetime, end: datetime) -> Iterable[datetime]:
    while start < end:
        yield start
        start += HOUR


def _ranges(hours: Iterable[datetime], shown: int = 5) -> str:
    """Formats hours for Dagster's partition field: `[2024-05-04-06:00...2024-05-04-08:00], 2024-05-05-00:00`."""
    runs: list[list[datetime]] = []
    for hour in sorted(hours):
        if runs and hour - runs[-1][1] == HOUR:
            runs[-1][1] = hour
        else:
            runs.append([hour, hour])
    texts = [
        f"{first:%Y-%m-%d-%H:%M}" if first == last else f"[{first:%Y-%m-%d-%H:%M}...{last:%Y-%m-%d-%H:%M}]"
        for first, last in runs
    ]
    return f"`{', '.join(texts[:shown])}`" + (f" and {len(texts) - shown} more ranges" if len(texts) > shown else "")


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"
