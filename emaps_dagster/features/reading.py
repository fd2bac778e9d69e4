"""Reads the rows of a features.load query from gold, or computes them from bronze as it was known.

Writes nothing. coverage.py checks that the rows are complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.errors import FeaturesError, NoFeaturesError
from emaps_dagster.contracts.feature_query import BACKFILLED, KEY, MISSING, FeatureQuery
from emaps_dagster.contracts.paths import plain_path
from emaps_dagster.contracts.settings import read_settings
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA, Table, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, gold_context
from emaps_dagster.contracts.zones import ZONES, zone_column
from emaps_dagster.features.coverage import (
    IN_TIME,
    FirstIngested,
    Key,
    backfilled_of,
    missing_of,
    refuse_missing_of_gold,
    refuse_unknown_in_time,
    refuse_unknown_then,
    why_not_in_time,
)
from emaps_dagster.lakehouse.damage import open_table
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.transforms.timestamps import instant

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_UTC = pa.timestamp("us", "UTC")


def answer(query: FeatureQuery, folder: Path) -> pa.Table:
    """The rows of a query from the Delta tables in a folder; `zone` and `datetime` are the first columns.

    Raises:
        FeaturesError: see `features.load`.
    """
    return _stored(query, folder) if query.as_of is None and query.delay is None else _known(query, folder)


def held(zones: Sequence[str], folder: Path) -> Window:
    """Window from the first to the last hour of some zones in gold.

    Raises:
        NoFeaturesError: the table does not exist, or holds no hour of a zone.
    """
    spans = _held(_open(folder, ml_features(())))
    of_zones = [spans[zone] if zone in spans else _raise_no_zone(zone, spans, folder) for zone in zones]
    return Window(min(first for first, _ in of_zones), max(last for _, last in of_zones) + HOUR)


def _held(gold: DeltaTable) -> dict[str, tuple[datetime, datetime]]:
    return _spans(_query(gold, "zone, datetime"), "datetime", "datetime")


def _raise_no_zone(zone: str, spans: dict[str, tuple[datetime, datetime]], folder: Path) -> NoReturn:
    raise NoFeaturesError(f"gold.ml_features at {folder} holds no zone {zone}; it holds {_listed(spans)}.")


def _stored(query: FeatureQuery, folder: Path) -> pa.Table:
    gold = _open(folder, ml_features(()))
    columns = query.chosen(field.name for field in gold.schema().fields)
    window = query.window
    # Literal months prune partitions, so the cost does not grow with the table.
    hours = _query(
        gold,
        ", ".join(f'"{name}"' for name in columns),
        f"year_month IN ({_literals(window.months())}) AND zone IN ({_literals(query.zones)}) "
        f"AND datetime >= '{window.start.isoformat()}' AND datetime < '{window.end.isoformat()}'",
    )
    for zone in _absent(query, hours):
        spans = _held(gold)
        first, last = spans[zone] if zone in spans else _raise_no_zone(zone, spans, folder)
        raise NoFeaturesError(
            f"gold.ml_features at {folder} holds no hour of zone {zone} in {window}; it holds hours in "
            f"{Window(first, last + HOUR)}. Run the pipeline for these hours, or ask for others."
        )
    refuse_missing_of_gold(query, missing_of(query, hours), folder)
    return _in_order(hours)


def _known(query: FeatureQuery, folder: Path) -> pa.Table:
    bronze = [_open(folder, table) for table in (POWER_DATA, CARBON_DATA)]
    zone_keys = _zones_of_gold(folder)
    columns = query.chosen(ml_features(zone_keys).column_names)
    with embedded_session() as spark:
        lakehouse = FolderLakehouse(spark, folder)
        # A month at a time bounds the memory of a long window.
        parts = [
            _as_known(lakehouse, query, part, zone_keys).select(columns).toArrow() for part in query.window.by_month()
        ]
        rows = _plain(pa.concat_tables(parts))
        missing, absent = missing_of(query, rows), _absent(query, rows)
        first = _first_ingested(lakehouse, query) if _needs_first_ingested(query, missing, absent) else {}
    for zone in absent:
        lacking = [key for key in missing if key[0] == zone]
        raise NoFeaturesError(_why_unknown(query, zone, lacking, first, bronze, folder))
    if query.delay is None:
        refuse_unknown_then(query, missing)
    else:
        refuse_unknown_in_time(query, missing, backfilled_of(query, rows, first), first)
    return _in_order(rows)


def _needs_first_ingested(query: FeatureQuery, missing: list[Key], absent: list[str]) -> bool:
    """Whether the first ingestion times are needed: finding them reads every body once more."""
    if query.delay is None:
        return False
    doubted = query.delay > IN_TIME and BACKFILLED not in query.allow
    return doubted or bool(absent) or (bool(missing) and MISSING not in query.allow)


def _first_ingested(lakehouse: FolderLakehouse, query: FeatureQuery) -> FirstIngested:
    from pyspark.sql import functions as F

    from emaps_dagster.transforms.as_of import first_ingested

    found: dict[Key, list[datetime | None]] = {}
    for part in query.window.by_month():
        power, carbon = (
            lakehouse.scan_responses(table, part, longest=LONGEST_BODY).where(F.col("zone").isin(*query.zones))
            for table in (POWER_DATA, CARBON_DATA)
        )
        mix = lakehouse.scan_mix(part, longest=LONGEST_BODY)
        mix = None if mix is None else mix.where(F.col("zone").isin(*query.zones))
        columns = _plain(first_ingested(power, carbon, part.start, part.end, mix=mix).toArrow()).to_pydict().values()
        found |= {(zone, hour): moments for zone, hour, *moments in zip(*columns, strict=True)}
    return found


def _as_known(lakehouse: FolderLakehouse, query: FeatureQuery, part: Window, zone_keys: tuple[str, ...]) -> DataFrame:
    from pyspark.sql import functions as F

    from emaps_dagster.transforms.as_of import features_as_of, features_known_at

    # The last row is computed at this moment.
    until = query.as_of if query.as_of is not None else part.end + (query.delay or timedelta(0))

    def known(rows: DataFrame) -> DataFrame:
        return rows.where(F.col("zone").isin(*query.zones) & (F.col("ingested_at") <= instant(until)))

    hours = gold_context(part)
    power, carbon = (
        known(lakehouse.scan_responses(table, hours, longest=LONGEST_BODY)) for table in (POWER_DATA, CARBON_DATA)
    )
    mix = lakehouse.scan_mix(hours, longest=LONGEST_BODY)
    mix = None if mix is None else known(mix)

    if query.as_of is not None:
        return features_as_of(power, carbon, zone_keys, part.start, part.end, query.as_of, mix=mix)
    assert query.delay is not None
    return features_known_at(power, carbon, zone_keys, part.start, part.end, query.delay, mix=mix)


def _zones_of_gold(folder: Path) -> tuple[str, ...]:
    """Zones that result in the flow columns of the stored gold; without a table, the zones of the settings.

    They may differ from the pipeline's zones if the neighbours are the same: only the columns matter.
    """
    try:
        stored = [field.name for field in _open(folder, ml_features(())).schema().fields]
    except NoFeaturesError:
        return read_settings().zones
    flows = {name for name in stored if name.startswith(("import_", "export_")) and not name.endswith("_total")}
    zone_keys = tuple(
        key
        for key, zone in ZONES.items()
        if all(f"import_{zone_column(neighbour)}" in flows for neighbour in zone.neighbours)
    )
    if unknown := sorted(flows.difference(ml_features(zone_keys).column_names)):
        raise FeaturesError(
            f"gold.ml_features at {folder} was made for zones or neighbours that this release does not know: its "
            f"{', '.join(unknown)}. Rebuild gold with this release, or read it without as_of and known_at."
        )
    return zone_keys


def _open(folder: Path, table: Table) -> DeltaTable:
    try:
        # plain_path would create a missing folder, which a query must not do.
        root = plain_path(folder) if folder.exists() else folder
        return open_table(root, folder, table.layer, table.name)
    except TableNotFoundError:
        raise NoFeaturesError(
            f"There is no {table.qualified_name} at {folder / table.layer / table.name}. Give the folder of the "
            "pipeline's tables as warehouse= or EMAPS_WAREHOUSE, or run the pipeline first."
        ) from None


def _query(table: DeltaTable, columns: str, where: str = "true") -> pa.Table:
    """Reads columns of a Delta table with delta-rs, which skips files and row groups and needs no Spark."""
    query = f"SELECT {columns} FROM stored WHERE {where}"  # noqa: S608  # literals are quoted, columns are the table's
    return _plain(pa.table(QueryBuilder().register("stored", table).execute(query).read_all()))


def _literals(texts: Sequence[str]) -> str:
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


def _plain(rows: pa.Table) -> pa.Table:
    """Casts the types of all engines to one schema."""

    def plain(type_: pa.DataType) -> pa.DataType:
        if pa.types.is_timestamp(type_):
            return _UTC
        return pa.string() if pa.types.is_string_view(type_) or pa.types.is_large_string(type_) else type_

    return rows.cast(pa.schema([pa.field(field.name, plain(field.type)) for field in rows.schema]))


def _in_order(rows: pa.Table) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in KEY])


def _absent(query: FeatureQuery, rows: pa.Table) -> list[str]:
    return sorted(set(query.zones) - set(pc.unique(rows["zone"]).to_pylist()))


def _spans(rows: pa.Table, first: str, last: str) -> dict[str, tuple[datetime, datetime]]:
    """Each zone's smallest `first` and largest `last`."""
    grouped = rows.group_by("zone").aggregate([(first, "min"), (last, "max")])
    return {row["zone"]: (row[f"{first}_min"], row[f"{last}_max"]) for row in grouped.to_pylist()}


def _listed(zones: dict[str, tuple[datetime, datetime]]) -> str:
    return ", ".join(sorted(zones)) or "none at all"


def _why_unknown(
    query: FeatureQuery, zone: str, missing: list[Key], first: FirstIngested, bronze: list[DeltaTable], folder: Path
) -> str:
    """Describes why no hour of a zone was known in time, from the ingestion times and windows in bronze."""
    names = "zone, ingested_at, window_start, window_end"
    responses = pa.concat_tables([_query(table, names) for table in bronze])
    ingested = _spans(responses, "ingested_at", "ingested_at")
    if zone not in ingested:
        return f"Bronze at {folder} holds no response of zone {zone}; it holds {_listed(ingested)}."
    of_zone = responses.filter(pc.field("zone") == zone)
    if query.as_of is not None:
        then = f"{query.as_of:%Y-%m-%dT%H:%M:%SZ}"
        if query.as_of < ingested[zone][0]:
            return (
                f"Nothing of zone {zone} was known at {then}: its first response was ingested at "
                f"{ingested[zone][0]:%Y-%m-%dT%H:%M:%SZ}. Ask as of a later moment."
            )
        by_then = of_zone.filter(pc.field("ingested_at") <= pa.scalar(query.as_of, _UTC))
        start, end = _spans(by_then, "window_start", "window_end")[zone]
        return (
            f"No hour of zone {zone} in {query.window} was known and over at {then}; what had been ingested by then "
            f"lies in {Window(start, end)}."
        )
    if any(key in first for key in missing):
        return f"No hour of zone {zone} in {query.window} was known {query.delay} after its end. " + why_not_in_time(
            query, missing, first
        )
    start, end = _spans(of_zone, "window_start", "window_end")[zone]
    return (
        f"Bronze at {folder} holds no hour of zone {zone} in {query.window} that was over when it was ingested; it "
        f"holds hours in {Window(start, end)}."
    )
