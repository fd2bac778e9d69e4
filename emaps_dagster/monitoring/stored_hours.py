"""Reads from the Delta folders, without Spark, the hours that they hold; sensors call it many times a day.

It writes nothing. Tables of a catalog are not read: there the sensors use Dagster's partition statuses.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.body_fields import time_of
from emaps_dagster.contracts.paths import plain_path
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import (
    ENERGY_DATA,
    FEED_TABLES,
    FEED_VALUES,
    IS_SUPERSEDED,
    REJECTED_RECORDS,
    TRUSTED,
    WITHDRAWN_RESPONSES,
    ml_features,
)
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import FEEDS, POWER, Feed
from emaps_dagster.monitoring.hour_ranges import to_windows

# Missing hours that lie no farther apart share one scan.
_NEAR = timedelta(days=1)


@dataclass(frozen=True)
class MissingHours:
    """The missing hours, from the first stored hour of each zone on, and the quarantined ones before it.

    Attributes:
        not_fetched: by zone, hours that neither silver nor bronze has, and those with a newer version of which only
            some signals of electricity-mix arrived.
        not_merged: hours that a lower layer has and the next layer lacks.
        silent: by zone, hours for which a feed delivered nulls only.
        quarantined: by zone, those of `not_fetched` whose record arrived and was quarantined.
    """

    not_fetched: Mapping[str, set[datetime]]
    not_merged: set[datetime]
    silent: Mapping[str, set[datetime]] = field(default_factory=dict)
    quarantined: Mapping[str, set[datetime]] = field(default_factory=dict)


def missing(warehouse: Path, zones: tuple[str, ...], watched: Window) -> MissingHours:
    """Find the missing hours of a window.

    Args:
        warehouse: the root of the Delta folders.
        zones: the configured ones; a zone that neither silver nor quarantine has is left to a backfill.
        watched: complete hours.

    Raises:
        LakehouseError: a table cannot be read.
    """
    silver = {zone: {feed: set[datetime]() for feed in FEEDS} for zone in zones}
    columns = ["zone", "datetime", IS_SUPERSEDED.name, *(f"ingested_at_{feed.name}" for feed in FEEDS)]
    superseded: dict[str, set[datetime]] = defaultdict(set)
    for row in _rows(warehouse, ENERGY_DATA, columns, watched):
        if row["zone"] in silver and row.get(IS_SUPERSEDED.name):
            superseded[row["zone"]].add(row["datetime"])
        for feed in FEEDS:
            if row["zone"] in silver and row[f"ingested_at_{feed.name}"] is not None:
                silver[row["zone"]][feed].add(row["datetime"])
    gold: dict[str, set[datetime]] = defaultdict(set)
    for row in _rows(warehouse, ml_features(zones), ["zone", "datetime"], watched):
        gold[row["zone"]].add(row["datetime"])
    rejected = _quarantined(warehouse, zones, watched)
    holes: dict[tuple[str, Feed], set[datetime]] = {}
    not_merged: set[datetime] = set()
    for zone, feeds in silver.items():
        held = set.union(*feeds.values())
        not_merged |= held - gold[zone]
        # No run asks for the first hour of a history again, unless it is known here.
        expected = rejected[zone] | (set(Window(min(held), watched.end).hours()) if held else set())
        holes |= {(zone, feed): hours for feed in FEEDS if (hours := expected - feeds[feed])}
    stored = _stored(warehouse, holes)
    not_fetched: dict[str, set[datetime]] = defaultdict(set)
    for (zone, feed), hours in holes.items():
        # Merging cannot complete an hour of which only some signals, or several versions, arrived.
        held = stored[zone, feed] - (superseded[zone] if feed == POWER else set())
        not_merged |= hours & held
        not_fetched[zone] |= hours - held
    for zone, hours in superseded.items():
        not_fetched[zone] |= hours
    quarantined = {zone: bad for zone, hours in not_fetched.items() if (bad := hours & rejected[zone])}
    return MissingHours(dict(not_fetched), not_merged, _silent(warehouse, zones, watched), quarantined)


def updated_at(warehouse: Path, zone: str, feed: Feed, window: Window) -> dict[datetime, datetime | None]:
    """The provider's time of update of each hour that silver holds of a zone and feed."""
    name = f"updated_at_{feed.name}"
    columns = ["zone", "datetime", f"ingested_at_{feed.name}", name]
    return {
        row["datetime"]: row[name] and row[name].astimezone(timezone.utc)
        for row in _rows(warehouse, ENERGY_DATA, columns, window)
        if row["zone"] == zone and row[f"ingested_at_{feed.name}"] is not None
    }


def records(body: str) -> Iterator[tuple[datetime, datetime | None]]:
    """Hour and time of update of each record of a body of trusted records."""
    parsed = json.loads(body)
    for record in parsed.get("history") or parsed.get("data") or ():
        # Admission stores only records with an hour; the check raw_json_parses reports bodies altered since.
        if hour := time_of(record.get("datetime")):
            yield hour, time_of(record.get("updatedAt"))


def _silent(warehouse: Path, zones: tuple[str, ...], watched: Window) -> dict[str, set[datetime]]:
    """The hours for which a feed delivered nulls only; the filter is pushed down to the scan."""
    import pyarrow.dataset as ds

    found: dict[str, set[datetime]] = defaultdict(set)
    for feed in FEEDS:
        rows = ds.field(f"ingested_at_{feed.name}").is_valid()
        for name in FEED_VALUES[feed.name]:
            rows &= ds.field(name).is_null()
        for row in _rows(warehouse, ENERGY_DATA, ["zone", "datetime"], watched, rows):
            # Arrow cannot filter the text columns of a stored table.
            if row["zone"] in zones:
                found[row["zone"]].add(row["datetime"])
    return dict(found)


def _quarantined(warehouse: Path, zones: tuple[str, ...], watched: Window) -> dict[str, set[datetime]]:
    """By zone, the hours of which a record was ever quarantined."""
    found: dict[str, set[datetime]] = {zone: set() for zone in zones}
    for row in _rows(warehouse, REJECTED_RECORDS, ["zone", "datetime"], watched):
        if row["zone"] in found:
            found[row["zone"]].add(row["datetime"])
    return found


def _stored(warehouse: Path, holes: Mapping[tuple[str, Feed], set[datetime]]) -> dict[tuple[str, Feed], set[datetime]]:
    """The missing hours that a response in bronze holds. Bodies are parsed: one may lack an hour within its span."""
    found: dict[tuple[str, Feed], set[datetime]] = defaultdict(set)
    for feed in FEEDS:
        hours = sorted(set().union(*(missed for (_, other), missed in holes.items() if other == feed)))
        for window in to_windows(hours, bridge=_NEAR):
            for row in _responses_of(warehouse, feed, window):
                wanted = holes.get((row["zone"], feed), set()) - found[row["zone"], feed]
                if any(row["window_start"] <= hour < row["window_end"] for hour in wanted):
                    body = row["raw_json"] if row.get(TRUSTED) is None else row[TRUSTED]
                    held = {hour for hour, _ in records(body) if hour + HOUR <= row["ingested_at"]}
                    found[row["zone"], feed] |= held & wanted
    return found


def _responses_of(warehouse: Path, feed: Feed, window: Window) -> Iterator[dict[str, Any]]:
    for table in FEED_TABLES[feed.name]:
        yield from _responses(warehouse, table, window.start, window.end)


def _responses(warehouse: Path, table: Table, start: datetime, end: datetime) -> Iterator[dict[str, Any]]:
    """The responses that share an hour with [start, end), without the withdrawn ones."""
    import pyarrow.dataset as ds

    columns = [*table.key, "raw_json", TRUSTED, "window_start", "window_end"]
    overlap = (ds.field("window_start") < end) & (ds.field("window_end") > start)
    months = Window(start, end).widen(LONGEST_BODY, timedelta(0)).months()
    of_table = ds.field("bronze_table") == table.name
    withdrawn = {
        tuple(row[name] for name in table.key)
        for row in _scan(warehouse, WITHDRAWN_RESPONSES, list(table.key), months, of_table)
    }
    for row in _scan(warehouse, table, columns, months, overlap):
        if tuple(row[name] for name in table.key) not in withdrawn:
            yield row


def _rows(
    warehouse: Path, table: Table, columns: list[str], window: Window, rows: Any = None
) -> Iterator[dict[str, Any]]:
    import pyarrow.dataset as ds

    inside = (ds.field("datetime") >= window.start) & (ds.field("datetime") < window.end)
    if rows is not None:
        inside &= rows
    yield from _scan(warehouse, table, columns, window.months(), inside)


def _scan(warehouse: Path, table: Table, columns: list[str], months: list[str], rows: Any) -> Iterator[dict[str, Any]]:
    """Rows of the months; a table that does not exist has none."""
    import pyarrow.dataset as ds
    from deltalake.exceptions import TableNotFoundError

    from emaps_dagster.lakehouse.damage import explaining, open_table
    from emaps_dagster.lakehouse.local_files import dataset

    folder = warehouse.resolve()
    try:
        stored = open_table(plain_path(folder), folder, table.layer, table.name)
    except TableNotFoundError:
        return
    with explaining(folder, (table.layer, table.name)):
        files = dataset(stored, [(table.partition, "in", months)])
        # A table of an earlier release may lack a column.
        names = [name for name in columns if name in files.schema.names]
        inside = rows & ds.field(table.partition).isin(months)
        batches = [batch.to_pylist() for batch in files.to_batches(columns=names, filter=inside)]
    for row in itertools.chain.from_iterable(batches):
        yield {name: v.astimezone(timezone.utc) if isinstance(v, datetime) else v for name, v in row.items()}
