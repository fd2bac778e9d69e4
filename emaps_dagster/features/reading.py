"""Reads the rows of a features.load query from stored gold, without Spark.

known.py computes rows as they were known, coverage.py checks that the rows are complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError

from emaps_dagster.contracts.errors import FeaturesError, NoFeaturesError
from emaps_dagster.contracts.feature_query import KEY, FeatureQuery, other_zone
from emaps_dagster.contracts.paths import expanded, plain_path, why_impossible
from emaps_dagster.contracts.settings import read_settings
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.features.commands import how_to_fill
from emaps_dagster.features.coverage import missing_of, refuse_missing_of_gold
from emaps_dagster.lakehouse.damage import open_table

UTC = pa.timestamp("us", "UTC")


def answer(query: FeatureQuery, folder: Path) -> pa.Table:
    """The rows of a query from the Delta tables in a folder; `zone` and `datetime` are the first columns.

    Raises:
        FeaturesError: see `features.load`.
    """
    if query.as_of is None and query.delay is None:
        return _stored(query, folder)
    from emaps_dagster.features.known import known_rows

    return known_rows(query, folder)


def warehouse_folder(warehouse: str | Path | None, on_databricks: str) -> Path:
    """The folder of the tables: the given one, or that of the settings.

    Args:
        warehouse: the folder; None for `EMAPS_WAREHOUSE`.
        on_databricks: what to do where the settings name no folder, for the message.

    Raises:
        FeaturesError: there cannot be such a folder, or the tables lie in a catalog.
    """
    if warehouse is None:
        settings = read_settings()
        if settings.deployment == "databricks":
            raise FeaturesError(f"EMAPS_DEPLOYMENT is 'databricks', where the tables lie in a catalog{on_databricks}")
        warehouse = settings.warehouse
    try:
        folder = expanded(warehouse).resolve()
    except ValueError as error:
        raise FeaturesError(f"warehouse is {str(warehouse)!r}: {error}.") from None
    if why := why_impossible(folder):
        raise FeaturesError(f"warehouse is {str(folder)!r}: {why}.")
    return folder


def held(zones: Sequence[str], folder: Path) -> Window:
    """Window from the first to the last hour of some zones in gold.

    Raises:
        NoFeaturesError: the table does not exist, or holds no hour of a zone.
    """
    spans = _held(open_delta(folder, ml_features(())))
    of_zones = [spans[zone] if zone in spans else _raise_no_zone(zone, spans, folder) for zone in zones]
    return Window(min(first for first, _ in of_zones), max(last for _, last in of_zones) + HOUR)


def _held(gold: DeltaTable) -> dict[str, tuple[datetime, datetime]]:
    return spans_of(rows_where(gold, "zone, datetime"), "datetime", "datetime")


def _raise_no_zone(zone: str, spans: dict[str, tuple[datetime, datetime]], folder: Path) -> NoReturn:
    raise NoFeaturesError(
        f"gold.ml_features at {folder} holds no zone {zone}; it holds {listed(spans)}.{other_zone(zone, spans)}"
    )


def _stored(query: FeatureQuery, folder: Path) -> pa.Table:
    gold = open_delta(folder, ml_features(()))
    columns = query.chosen(field.name for field in gold.schema().fields)
    window = query.window
    # Literal months prune partitions, so the cost does not grow with the table.
    hours = rows_where(
        gold,
        ", ".join(f'"{name}"' for name in columns),
        f"year_month IN ({_literals(window.months())}) AND zone IN ({_literals(query.zones)}) "
        f"AND datetime >= '{window.start.isoformat()}' AND datetime < '{window.end.isoformat()}'",
    )
    for zone in absent_zones(query, hours):
        spans = _held(gold)
        first, last = spans[zone] if zone in spans else _raise_no_zone(zone, spans, folder)
        raise NoFeaturesError(
            f"gold.ml_features at {folder} holds no hour of zone {zone} in {window}; it holds hours in "
            f"{Window(first, last + HOUR)}. Run the pipeline for these hours, or request others."
        )
    refuse_missing_of_gold(query, missing_of(query, hours), folder)
    return in_order(hours)


def open_delta(folder: Path, table: Table) -> DeltaTable:
    """The latest version of a table.

    Raises:
        NoFeaturesError: it does not exist.
        DamagedTableError: a file of the table is broken.
    """
    try:
        # plain_path would create a missing folder, which a query must not do.
        root = plain_path(folder) if folder.exists() else folder
        return open_table(root, folder, table.layer, table.name)
    except TableNotFoundError:
        raise NoFeaturesError(
            f"There is no {table.qualified_name} at {folder / table.layer / table.name}. Give the folder of the "
            "pipeline's tables as warehouse= or EMAPS_WAREHOUSE, " + how_to_fill(folder)
        ) from None


def rows_where(table: DeltaTable, columns: str, where: str = "true") -> pa.Table:
    """Reads columns of a Delta table with delta-rs, which skips files and row groups and needs no Spark."""
    query = f"SELECT {columns} FROM stored WHERE {where}"  # noqa: S608  # literals are quoted, columns are the table's
    return plain(pa.table(QueryBuilder().register("stored", table).execute(query).read_all()))


def _literals(texts: Sequence[str]) -> str:
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


def plain(rows: pa.Table) -> pa.Table:
    """Casts the types of all engines to one schema."""

    def cast_type(type_: pa.DataType) -> pa.DataType:
        if pa.types.is_timestamp(type_):
            return UTC
        return pa.string() if pa.types.is_string_view(type_) or pa.types.is_large_string(type_) else type_

    return rows.cast(pa.schema([pa.field(field.name, cast_type(field.type)) for field in rows.schema]))


def in_order(rows: pa.Table) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in KEY])


def absent_zones(query: FeatureQuery, rows: pa.Table) -> list[str]:
    return sorted(set(query.zones) - set(pc.unique(rows["zone"]).to_pylist()))


def spans_of(rows: pa.Table, first: str, last: str) -> dict[str, tuple[datetime, datetime]]:
    """Each zone's smallest `first` and largest `last`."""
    grouped = rows.group_by("zone").aggregate([(first, "min"), (last, "max")])
    return {row["zone"]: (row[f"{first}_min"], row[f"{last}_max"]) for row in grouped.to_pylist()}


def listed(zones: dict[str, tuple[datetime, datetime]]) -> str:
    return ", ".join(sorted(zones)) or "none at all"
