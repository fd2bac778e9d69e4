"""Evaluates the checks of a table for the hours of a run: reads the evidence once, a month at a time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.errors import PySparkException

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.errors import DamagedTableError, LakehouseError
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, MIX_DATA, POWER_DATA
from emaps_dagster.contracts.windows import Window, floor_hour, gold_context, gold_window, silver_window
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.pipeline.check_catalog import Check, Reads
from emaps_dagster.pipeline.quarantine import mending_responses, rejected_records
from emaps_dagster.transforms.quality.bronze import BronzeEvidence
from emaps_dagster.transforms.quality.gold import GoldEvidence
from emaps_dagster.transforms.quality.outcome import Finding, Outcome
from emaps_dagster.transforms.quality.silver_evidence import SilverEvidence


@dataclass(frozen=True)
class CheckContext:
    """Inputs of a run's checks: the tables, the configured zones, the run's hours, and its clock."""

    lakehouse: Lakehouse
    zones: tuple[str, ...]
    run: Window
    now: datetime


def evaluate_hours(context: CheckContext, table: Table, checks: list[Check]) -> dict[Check, Outcome]:
    """Evaluate the checks over the hours that a run touches, in one pass over the tables."""
    outcomes = {check: Outcome(0) for check in checks}
    if not checks:
        return outcomes
    touched = {"bronze": lambda run: run, "silver": silver_window, "gold": gold_window}[table.layer](context.run)
    # A month at a time, so that a long range fits in memory; a tick at the turn of a month is one pass.
    for part in touched.in_months(timedelta(days=31)):
        try:
            rows, evidence = _collect(context, table, part)
        except (PySparkException, LakehouseError) as error:
            finding = _unreadable(table, error, part)
            for check in checks:
                outcomes[check] += Outcome(0, (finding,))
            continue
        for check in checks:
            outcomes[check] += check.evaluate(rows if check.reads is Reads.ROWS else evidence)
    return outcomes


def evaluate_table(context: CheckContext, table: Table, check: Check) -> Outcome:
    """Evaluate a check of the table as a whole."""
    try:
        exists = context.lakehouse.exists(table)
        if check.reads is Reads.TYPES:
            return check.evaluate(context.lakehouse.types(table) if exists else None, table)
        return check.evaluate(_latest_hours(context, table) if exists else dict.fromkeys(context.zones), context.now)
    except (PySparkException, LakehouseError) as error:
        return Outcome(0, (_unreadable(table, error),))


def _latest_hours(context: CheckContext, table: Table) -> dict[str, datetime | None]:
    """The newest hour of each zone; None for a zone without a row in the last 31 days."""
    latest: dict[str, datetime | None] = dict.fromkeys(context.zones)
    # At most two monthly partitions are read, however long the table.
    recent = Window(floor_hour(context.now) - timedelta(days=31), floor_hour(context.now) + timedelta(hours=1))
    rows = context.lakehouse.read_arrow(table, recent, columns=("zone", "datetime"))
    found = rows.group_by("zone").aggregate([("datetime", "max")])
    return latest | {row["zone"]: row["datetime_max"] for row in found.to_pylist() if row["zone"] in latest}


def _unreadable(table: Table, error: Exception, part: Window | None = None) -> Finding:
    """A finding for a table that cannot be read: the check fails, and the other checks still run."""
    # Our own messages end with the remedy and are kept whole.
    cause = str(error) if isinstance(error, DamagedTableError) else str(error).splitlines()[0][:300]
    text = f"{table.qualified_name}, or what it is made from, cannot be read: {cause}"
    return Finding("", part.start if part else None, text, part.end if part else None)


def _collect(context: CheckContext, table: Table, part: Window) -> tuple[pa.Table, Any]:
    """The table's rows of a month, and the evidence that its checks compare them with, each read once."""

    def responses(of: Table) -> pa.Table:
        if not context.lakehouse.exists(of):
            return conform(pa.table({}), of)
        return conform(context.lakehouse.collect(context.lakehouse.scan_responses(of, part, longest=LONGEST_BODY)), of)

    if table.layer == "bronze":
        rows = responses(table)
        if part.start != context.run.start:
            # A body that spans the turn of a month was checked with the month before.
            rows = rows.filter(pc.greater_equal(rows.column("window_start"), part.start))
        near = silver_window(context.run)
        start = near.start if part.start == context.run.start else part.start
        rejected = rejected_records(
            context.lakehouse, table, Window(start, near.end if part.end == context.run.end else part.end)
        )
        return rows, BronzeEvidence(rows, rejected, mending_responses(context.lakehouse, table, rejected))
    rows = context.lakehouse.read_arrow(table, part)
    if table == ENERGY_DATA:
        power, carbon = responses(POWER_DATA), responses(CARBON_DATA)
        mix = responses(MIX_DATA) if context.lakehouse.exists(MIX_DATA) else None
        return rows, SilverEvidence(part, context.run, context.zones, context.now, rows, power, carbon, mix)
    return rows, GoldEvidence(part, context.zones, rows, context.lakehouse.read_arrow(ENERGY_DATA, gold_context(part)))
