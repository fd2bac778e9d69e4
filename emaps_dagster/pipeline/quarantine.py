"""Reads quarantined records, and the responses that may have mended their hours, for checks and the health page.

transforms/quality/quarantine.py decides which hours are still affected.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import reduce
from operator import or_
from typing import Any

from pyspark.sql import functions as F

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.signals import MIX_SIGNALS
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, MIX_DATA, POWER_DATA, REJECTED_RECORDS, TRUSTED
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import CARBON, POWER, Feed
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.monitoring.hour_ranges import to_windows
from emaps_dagster.transforms.timestamps import in_hours, instant

Rows = tuple[dict[str, Any], ...]
BRONZE: dict[Feed, Table] = {POWER: POWER_DATA, CARBON: CARBON_DATA}
# Each table with the feed under whose name its quarantined hours are reported.
REPORTED: tuple[tuple[Feed, Table], ...] = (*BRONZE.items(), (POWER, MIX_DATA))
_SIGNALS = {POWER_DATA: (POWER,), MIX_DATA: MIX_SIGNALS, CARBON_DATA: (CARBON,)}
# Hours that lie no farther apart share one read.
_NEAR = timedelta(days=31)
_COLUMNS = ("zone", "datetime", "position", "reason", "ingested_at", "payload_sha256", "source", "request")
_RESPONSE = ("zone", "raw_json", TRUSTED, "ingested_at", "window_start", "window_end", "payload_sha256")


def rejected_records(lakehouse: Lakehouse, table: Table, window: Window | None = None) -> Rows:
    """The quarantined records of a bronze table: of the window's hours and those without one, or all."""
    # Version 0 is the empty table as created, the usual case: no read is needed.
    if not lakehouse.version(REJECTED_RECORDS):
        return ()
    signals = _SIGNALS[table]
    of_table = (F.col("source").contains(f"/{endpoint}/") for endpoint in {signal.endpoint for signal in signals})
    # A record of a withdrawn response counts no more than the response.
    rows = lakehouse.without_withdrawn(table, lakehouse.scan(REJECTED_RECORDS).where(reduce(or_, of_table)))
    if window is not None:
        rows = rows.where(in_hours(window.start, window.end) | F.col("datetime").isNull())
    found = in_utc(lakehouse.collect(rows.select(*_COLUMNS)).to_pylist())
    return tuple({**row, "signal": _signal_of(row, signals)} for row in found)


def mending_responses(lakehouse: Lakehouse, table: Table, rejected: Rows) -> Rows:
    """The responses that hold an hour of the rejected records and were ingested no earlier than the first of them."""
    dated = [row for row in rejected if row["datetime"] is not None]
    found: list[dict[str, Any]] = []
    for hours in to_windows((row["datetime"] for row in dated), bridge=_NEAR - HOUR):
        span = [row for row in dated if row["datetime"] in hours]
        zones = sorted({row["zone"] for row in span})
        since = min(row["ingested_at"] for row in span)
        rows = lakehouse.scan_responses(table, hours, longest=LONGEST_BODY).where(
            F.col("zone").isin(*zones) & (F.col("ingested_at") >= instant(since))
        )
        signal = "signal" if table == MIX_DATA else F.lit(_SIGNALS[table][0].name).alias("signal")
        found += in_utc(lakehouse.collect(rows.select(*_RESPONSE, signal)).to_pylist())
    return tuple(found)


def _signal_of(row: dict[str, Any], signals: tuple[Feed, ...]) -> str:
    """The signal of a quarantined record, from its source and request."""
    return next(
        signal.name
        for signal in signals
        if f"/{signal.endpoint}/" in row["source"]
        and (signal.breakdown is None or f"breakdownType={signal.breakdown}" in row["request"])
    )


def in_utc(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with every time in UTC; Arrow returns times in the zone of the session."""
    return [
        {name: v.astimezone(timezone.utc) if isinstance(v, datetime) else v for name, v in row.items()} for row in rows
    ]
