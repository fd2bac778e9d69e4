"""Reads the inputs of the health report from the tables."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import (
    CARBON_DATA,
    ENERGY_DATA,
    MIX_DATA,
    POWER_DATA,
    REJECTED_RESPONSES,
    RESPONSE_TABLES,
    ml_features,
)
from emaps_dagster.contracts.windows import Window, floor_hour
from emaps_dagster.contracts.zones import CARBON, POWER
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.pipeline.quarantine import REPORTED, in_utc, mending_responses, rejected_records
from emaps_dagster.transforms.health import (
    HEALTH_LOOKBACK,
    REVISIONS_OF,
    SILVER_COLUMNS,
    HealthInputs,
    Quarantined,
    StoredResponse,
    revisions,
)
from emaps_dagster.transforms.provider_health import reported_once
from emaps_dagster.transforms.quality.quarantine import charged
from emaps_dagster.transforms.quality.silver_evidence import rows_of
from emaps_dagster.transforms.timestamps import instant


def read_health_inputs(lakehouse: Lakehouse, zones: tuple[str, ...], now: datetime) -> HealthInputs:
    """Read the few columns of the last days that the report needs; a table that does not exist has no rows."""
    end = floor_hour(now)
    recent = Window(end - HEALTH_LOOKBACK, end)
    window = Window(end - REVISIONS_OF, end)
    gold = ml_features(zones)
    silver = rows_of(lakehouse.read_arrow(ENERGY_DATA, recent, columns=SILVER_COLUMNS))
    answers = [
        StoredResponse(
            feed.name, row["zone"], row["ingested_at"], row["window_end"], row["source"].endswith("/history")
        )
        for feed, table in ((POWER, POWER_DATA), (POWER, MIX_DATA), (CARBON, CARBON_DATA))
        for row in _ingested_since(
            lakehouse, table, now - HEALTH_LOOKBACK, "zone", "ingested_at", "window_end", "source"
        )
    ]
    rejected = _ingested_since(lakehouse, REJECTED_RESPONSES, now - HEALTH_LOOKBACK, "ingested_at")
    records = {table: rejected_records(lakehouse, table) for _, table in REPORTED}
    waiting = [
        Quarantined(row["zone"], feed.name, row["datetime"], row["reason"])
        for feed, table in REPORTED
        for row in charged(records[table], mending_responses(lakehouse, table, records[table]))
    ]
    return HealthInputs(
        now=now,
        zones=zones,
        silver=tuple(in_utc(silver)),
        gold_hours=frozenset(
            (row["zone"], row["datetime"]) for row in _rows(lakehouse, gold, recent, "zone", "datetime")
        ),
        answers=tuple(answers),
        rejected_at=tuple(row["ingested_at"] for row in rejected),
        revised_at=tuple(row["ingested_at"] for row in _of_bodies(lakehouse, window, revisions, "ingested_at")),
        reported_once=tuple(_of_bodies(lakehouse, window, reported_once)),
        quarantined=tuple(sorted(waiting, key=lambda record: (record.zone, record.hour, record.feed))),
        without_hour_at=tuple(
            row["ingested_at"] for rows in records.values() for row in rows if row["datetime"] is None
        ),
    )


def _rows(lakehouse: Lakehouse, table: Table, window: Window, *columns: str) -> Iterator[dict[str, Any]]:
    yield from in_utc(lakehouse.read_arrow(table, window, columns=columns).to_pylist())


def _ingested_since(lakehouse: Lakehouse, table: Table, since: datetime, *columns: str) -> Iterator[dict[str, Any]]:
    # All months: a backfill of last year is ingested, and costs calls, today.
    if lakehouse.exists(table):
        rows = lakehouse.scan(table).where(F.col("ingested_at") >= instant(since))
        if table in RESPONSE_TABLES:
            rows = lakehouse.without_withdrawn(table, rows)
        yield from in_utc(lakehouse.collect(rows.select(*columns)).to_pylist())


def _of_bodies(
    lakehouse: Lakehouse, window: Window, read: Callable[..., DataFrame], *columns: str
) -> Iterator[dict[str, Any]]:
    """The rows that a transform computes from both feeds' bodies."""
    if lakehouse.exists(POWER_DATA) and lakehouse.exists(CARBON_DATA):
        power, carbon = (lakehouse.scan_responses(of, window, longest=LONGEST_BODY) for of in (POWER_DATA, CARBON_DATA))
        mix = lakehouse.scan_mix(window, longest=LONGEST_BODY)
        rows = read(power, carbon, window.start, window.end, mix=mix)
        yield from in_utc(lakehouse.collect(rows.select(*columns) if columns else rows).to_pylist())
