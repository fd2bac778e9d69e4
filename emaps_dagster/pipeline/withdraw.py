"""Withdraws responses of bronze from every reader, and rebuilds silver and gold without them."""

import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.errors import WithdrawalError
from emaps_dagster.contracts.feature_query import moment_of
from emaps_dagster.contracts.tables import RESPONSE_TABLES, WITHDRAWN_RESPONSES
from emaps_dagster.contracts.windows import CLOCK_TOLERANCE, LATE_DATA_MARGIN, Window, floor_hour
from emaps_dagster.lakehouse.arrow_schema import arrow_schema
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.comparison import Differences
from emaps_dagster.lakehouse.reports import RebuildReport
from emaps_dagster.monitoring.hour_ranges import to_windows
from emaps_dagster.pipeline.rebuild import rebuild_gold, rebuild_silver
from emaps_dagster.transforms.timestamps import instant

_COLUMNS = [name for name in WITHDRAWN_RESPONSES.column_names if name not in ("reason", "withdrawn_at")]


@dataclass(frozen=True)
class Selection:
    """Criteria for responses of bronze; a response must meet all that are given."""

    hashes: tuple[str, ...]
    in_the_future: bool
    since: datetime | None
    until: datetime | None
    zone: str

    def __str__(self) -> str:
        parts = [
            f"payload_sha256 {', '.join(self.hashes)}" if self.hashes else "",
            "ingested_in_the_future" if self.in_the_future else "",
            f"ingested_from {self.since.isoformat()}" if self.since else "",
            f"ingested_until {self.until.isoformat()}" if self.until else "",
            f"zone {self.zone}" if self.zone else "",
        ]
        return ", ".join(filter(None, parts))

    def condition(self, now: Column) -> Column:
        """The filter for rows with the key of a response; `now` decides which lie in the future."""
        ahead = F.col("ingested_at") > now + F.lit(CLOCK_TOLERANCE)
        return (
            (F.col("payload_sha256").isin(*self.hashes) if self.hashes else F.lit(True))
            & (ahead if self.in_the_future else F.lit(True))
            & (F.col("ingested_at") >= instant(self.since) if self.since else F.lit(True))
            & (F.col("ingested_at") < instant(self.until) if self.until else F.lit(True))
            & (F.col("zone") == self.zone if self.zone else F.lit(True))
        )


@dataclass(frozen=True)
class Selected:
    """The selected responses.

    Attributes:
        fresh: rows of `WITHDRAWN_RESPONSES` for the responses that are not withdrawn yet.
        before: the number that an earlier launch has withdrawn.
        hours: the hours that both hold.
    """

    fresh: pa.Table
    before: int
    hours: tuple[Window, ...]


def selection_of(
    *,
    payload_sha256: str = "",
    ingested_in_the_future: bool = False,
    ingested_from: str = "",
    ingested_until: str = "",
    zone: str = "",
) -> Selection:
    """Validate the arguments of the job `withdraw`.

    Raises:
        WithdrawalError: they would select every response, or none by a typing error.
        FeaturesError: a time cannot be parsed.
    """
    hashes = tuple(filter(None, re.split(r"[\s,]+", payload_sha256.lower())))
    for digest in hashes:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise WithdrawalError(
                f"payload_sha256 is {digest!r}; give all 64 hexadecimal digits, as the check and "
                "bronze.*.payload_sha256 have them. Nothing was withdrawn."
            )
    since = moment_of(ingested_from, "ingested_from") if ingested_from else None
    until = moment_of(ingested_until, "ingested_until") if ingested_until else None
    if not (hashes or ingested_in_the_future or since or until):
        raise WithdrawalError(
            "Nothing says which responses to withdraw: give payload_sha256, ingested_in_the_future: true, or "
            "ingested_from and ingested_until; zone narrows them. Nothing was withdrawn."
        )
    if not hashes and not ingested_in_the_future and not (since and until):
        raise WithdrawalError(
            "Without payload_sha256 or ingested_in_the_future both ingested_from and ingested_until are needed: "
            "not all that follows or precedes can be meant. Nothing was withdrawn."
        )
    if since and until and since >= until:
        raise WithdrawalError(
            f"ingested_from, {since.isoformat()}, is not before ingested_until, {until.isoformat()}. "
            "Nothing was withdrawn."
        )
    return Selection(hashes, ingested_in_the_future, since, until, zone.strip())


def select(lakehouse: Lakehouse, selection: Selection, now: datetime, reason: str = "") -> Selected:
    """Find the selected responses, including those that an earlier launch of the same selection has withdrawn.

    Raises:
        WithdrawalError: no response matches.
    """
    fresh: list[DataFrame] = []
    before: list[dict[str, Any]] = []
    for table in RESPONSE_TABLES:
        if lakehouse.exists(table):
            rows = lakehouse.without_withdrawn(table, lakehouse.scan(table).where(selection.condition(instant(now))))
            fresh.append(rows.withColumn("bronze_table", F.lit(table.name)).select(*_COLUMNS).distinct())
    if lakehouse.exists(WITHDRAWN_RESPONSES):
        # Compared with the time of withdrawal, not with now: a repeated launch selects the same responses.
        withdrawn = lakehouse.scan(WITHDRAWN_RESPONSES).where(selection.condition(F.col("withdrawn_at")))
        before = lakehouse.collect(withdrawn.select(*_COLUMNS).distinct()).to_pylist()
    found = [row for frame in fresh for row in lakehouse.collect(frame).to_pylist()]
    if not found and not before:
        raise WithdrawalError(
            f"No response of bronze matches {selection}, so nothing was withdrawn. The finding of the check, and "
            "bronze itself, name zone, ingested_at and payload_sha256 of each response."
        )
    why = reason or f"selected by {selection}"
    withdrawn_rows = [{**row, "reason": why, "withdrawn_at": now} for row in found]
    withdrawn_rows.sort(
        key=lambda row: [str(row[name]) for name in ("bronze_table", "zone", "ingested_at", "payload_sha256")]
    )
    return Selected(
        pa.Table.from_pylist(withdrawn_rows, arrow_schema(WITHDRAWN_RESPONSES)),
        len(before),
        _hours_of([*found, *before]),
    )


def withdraw(lakehouse: Lakehouse, selected: Selected) -> None:
    """Append the selected responses to bronze.withdrawn_responses; every reader leaves them out from then on."""
    lakehouse.create(WITHDRAWN_RESPONSES)
    lakehouse.append(WITHDRAWN_RESPONSES, selected.fresh)


def silver_without(lakehouse: Lakehouse, selected: Selected, *, dry_run: bool) -> RebuildReport:
    """Rebuild silver of their hours; a dry run reads as if they were withdrawn, and writes nothing."""
    return _rebuild_each(lakehouse, selected, rebuild_silver, dry_run=dry_run)


def gold_without(lakehouse: Lakehouse, zones: tuple[str, ...], selected: Selected, *, dry_run: bool) -> RebuildReport:
    """Rebuild gold of their hours, likewise."""

    def rebuild(lakehouse: Lakehouse, hours: Window, *, dry_run: bool) -> RebuildReport:
        return rebuild_gold(lakehouse, zones, hours, dry_run=dry_run)

    return _rebuild_each(lakehouse, selected, rebuild, dry_run=dry_run)


def sentence(selected: Selected, *, dry_run: bool) -> str:
    """The log line: how many responses were, or would be, withdrawn, and their hours."""
    number = selected.fresh.num_rows
    count = f"{number} response{'' if number == 1 else 's'}"
    done = f"{count} would be withdrawn; nothing is written" if dry_run else f"{count} withdrawn"
    before = f", {selected.before} of the selection were before" if selected.before else ""
    return f"{done}{before}; they hold hours of {', '.join(map(str, selected.hours))}"


def _hours_of(rows: Iterable[dict[str, Any]]) -> tuple[Window, ...]:
    """The hours that responses hold; ranges near each other are joined and rebuilt together."""
    spans = (Window(floor_hour(row["window_start"]), row["window_end"]) for row in rows)
    return tuple(to_windows((hour for span in spans for hour in span.hours()), bridge=LATE_DATA_MARGIN))


def _rebuild_each(
    lakehouse: Lakehouse, selected: Selected, rebuild: Callable[..., RebuildReport], *, dry_run: bool
) -> RebuildReport:
    with lakehouse.leaving_out(selected.fresh) if dry_run else nullcontext():
        reports = [rebuild(lakehouse, hours, dry_run=dry_run) for hours in selected.hours]
    return sum(reports, RebuildReport(Differences({})))
