"""Verifies the demo: compares silver with the simulator's records, and the changed rows of gold with those of silver.

It is independent of the pipeline: it reads rows without Spark and compares them with the records that were served.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from emaps_dagster.cli.demo.timeline import Times
from emaps_dagster.contracts.errors import LakehouseError
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.windows import HOUR, LOOKBACK, floor_hour
from emaps_dagster.contracts.zones import CARBON, FEEDS, MODE_KEYS, POWER, mode_column
from emaps_dagster.lakehouse.local_files import dataset
from emaps_dagster.simulator.provider import Provider

# A tick reads /history: the running hour and the 23 before it.
_HISTORY = timedelta(hours=23)
# Times of ingestion and update change with every new response, without a change of the values.
_BOOKKEEPING = {f"{stamp}_{feed.name}" for stamp in ("ingested_at", "updated_at") for feed in FEEDS}

Row = dict[str, Any]
Rows = dict[datetime, Row]
Changes = dict[datetime, dict[str, tuple[Any, Any]]]


@dataclass(frozen=True)
class Expectation:
    """A condition on the demo's result; `detail` explains a failure."""

    says: str
    holds: bool
    detail: str = ""


def rows_of(warehouse: Path, table: Table) -> Rows:
    """Every row by its hour; maps become sorted lists, so that rows can be compared."""
    listed = dataset(DeltaTable(str(warehouse / table.layer / table.name))).to_table().to_pylist()
    rows: Rows = {}
    for row in listed:
        if row["datetime"] in rows:
            raise LakehouseError(f"{table.qualified_name} has two rows of {row['datetime']:%Y-%m-%dT%H:%MZ}.")
        rows[row["datetime"]] = {
            name: sorted(value) if isinstance(value, list) else value for name, value in row.items()
        }
    return rows


def changes(before: Rows, after: Rows) -> Changes:
    """The changed values of rows that existed before: column, old and new value."""
    found: Changes = {}
    for hour in sorted(before.keys() & after.keys()):
        differences = {
            name: (before[hour][name], value)
            for name, value in after[hour].items()
            if name not in _BOOKKEEPING and value != before[hour][name]
        }
        if differences:
            found[hour] = differences
    return found


def judge(
    provider: Provider,
    zone: str,
    times: Times,
    silver: Rows,
    gold: Rows,
    silver_changes: Changes,
    gold_changes: Changes,
) -> Iterator[Expectation]:
    """Check silver and gold against the provider's records.

    Args:
        provider: the simulator's, after the demo.
        zone: its key.
        times: the demo's.
        silver: all rows, after the tick.
        gold: all rows, after the tick.
        silver_changes: changes of silver by the tick.
        gold_changes: changes of gold by the tick.
    """
    hours = [*times.backfill.hours(), times.last]
    for name, rows in (("silver", silver), ("gold", gold)):
        yield Expectation(
            f"{name} has exactly one row for each of the {len(hours)} hours",
            sorted(rows) == hours,
            f"it has {len(rows)} rows, {len(set(hours) - rows.keys())} hours are missing",
        )
    missing = [hour for hour in times.revised if hour not in silver_changes]
    yield Expectation("every revised hour changed in silver", not missing, f"unchanged: {_list(missing)}")

    refetched = [hour for hour in hours if floor_hour(times.present) - _HISTORY <= hour < times.last]
    changed_records = {
        hour
        for hour in refetched
        if _served(provider, zone, hour, times.backfilled_at) != _served(provider, zone, hour, times.present)
    }
    yield Expectation(
        "in silver the hours changed whose content the provider changed, and no others",
        silver_changes.keys() == changed_records,
        _difference(set(silver_changes), changed_records, changed_records),
    )
    present = {hour: times.present if hour in {*refetched, times.last} else times.backfilled_at for hour in hours}
    wrong = [
        hour
        for hour in hours
        if hour in silver and not _agrees(silver[hour], _served(provider, zone, hour, present[hour]))
    ]
    yield Expectation("every number in silver is the provider's", not wrong, f"other numbers: {_list(wrong)}")

    required, allowed = _followers(silver_changes, times.last)
    changed = set(gold_changes)
    yield Expectation(
        "in gold those hours and the 23 after each changed, and no others",
        required <= changed <= allowed,
        _difference(changed, required, allowed),
    )


def _followers(silver_changes: Changes, last: datetime) -> tuple[set[datetime], set[datetime]]:
    """The hours of gold that must change, and those that may: a changed label leaves the means as they are."""
    required: set[datetime] = set()
    allowed: set[datetime] = set()
    for hour, columns in silver_changes.items():
        followers = {hour + step * HOUR for step in range(LOOKBACK // HOUR + 1) if hour + step * HOUR < last}
        allowed |= followers
        if "consumption_total" in columns or "carbon_intensity" in columns:
            required |= followers
    return required, allowed


def _served(provider: Provider, zone: str, hour: datetime, at: datetime) -> tuple[Row | None, ...]:
    """The provider's records of an hour as served at a moment, without their time of update."""
    records = (provider.record(feed, zone, hour, at) for feed in (POWER, CARBON))
    return tuple(
        record and {name: value for name, value in record.items() if name != "updatedAt"} for record in records
    )


def _agrees(row: Row, served: tuple[Row | None, ...]) -> bool:
    """Whether a row of silver has the values of the served records."""
    power, carbon = served
    if power is None or carbon is None:
        return False
    # electricity-mix has decimals, which round to the whole MW of power-breakdown.
    is_mix = row["source_power"].endswith("/electricity-mix")

    def same(side: str, key: str) -> bool:
        value, whole = row[f"{side}_{mode_column(key)}"], power[f"power{side.title()}Breakdown"][key]
        return bool(value == whole or (is_mix and None not in (value, whole) and round(value) == whole))

    return (
        all(same(side, key) for side in ("consumption", "production") for key in MODE_KEYS)
        and dict(row["import_by_zone"]) == power["powerImportBreakdown"]
        and dict(row["export_by_zone"]) == power["powerExportBreakdown"]
        and row["consumption_total"] == power["powerConsumptionTotal"]
        and row["production_total"] == power["powerProductionTotal"]
        and row["carbon_intensity"] == carbon["carbonIntensity"]
        and row["is_estimated_power"] == power["isEstimated"]
        and row["is_estimated_carbon"] == carbon["isEstimated"]
    )


def _difference(changed: set[datetime], required: set[datetime], allowed: set[datetime]) -> str:
    return f"too many: {_list(changed - allowed)}; too few: {_list(required - changed)}"


def _list(hours: Iterable[datetime]) -> str:
    return ", ".join(f"{hour:%Y-%m-%dT%H:%MZ}" for hour in sorted(hours)) or "none"
