"""gold.ml_features for people: as it is, as it was at a moment, or each row as it was known in its time.

As it is needs no Spark session. What was known when is computed from bronze by the pipeline's own
transforms on the embedded engine; docs/as-of.md says what for. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError

from emaps_dagster.damage import explaining, open_table
from emaps_dagster.engine import embedded_session
from emaps_dagster.errors import FeaturesError, NoFeaturesError
from emaps_dagster.fetch import LONGEST_BODY
from emaps_dagster.folders import FolderLakehouse
from emaps_dagster.paths import expanded, plain_path, why_impossible
from emaps_dagster.questions import KEY, Question, ask
from emaps_dagster.settings import read_settings
from emaps_dagster.tables import CARBON_DATA, POWER_DATA, Table, ml_features
from emaps_dagster.transforms.literals import instant
from emaps_dagster.windows import HOUR, Window, floor_hour, gold_context

if TYPE_CHECKING:
    import polars as pl
    from pyspark.sql import DataFrame

_UTC = pa.timestamp("us", "UTC")
# The columns that are never null, whatever the zones.
_COUNTS = [column.name for column in ml_features(()).columns if column.type == "int" and not column.nullable]


def load(
    zone: str | Sequence[str],
    start: date | str,
    end: date | str,
    as_of: datetime | str | None = None,
    known_at: str | timedelta | None = None,
    *,
    warehouse: str | Path | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The features of the hours [start, end), a row an hour, as pandas.

    Args:
        zone: a zone key, or several.
        start: first hour: an aware datetime, ISO 8601 with a zone, or a day (its midnight UTC).
        end: end of the last hour, likewise.
        as_of: a moment, aware or ISO 8601 with a zone: gold as it would have been then with every response ingested
            by it, and no later one, taken in. Without it and `known_at`: gold as it is stored.
        known_at: a delay such as "15min" or "1h": each row from what had been ingested by its `datetime` + 1 h +
            delay, all hours it looks back on included. The training set without look-ahead.
        warehouse: folder of the Delta tables; default `EMAPS_WAREHOUSE`.
        columns: the features wanted, in order; default all of gold.ml_features.

    Returns:
        Features by `datetime` (UTC), for a sequence of zones by `zone` and `datetime`, sorted. Values are float64 with
        NaN for null, counts int32; whole numbers and booleans that can be null are Int32 and boolean.

    Raises:
        FeaturesError: the question makes no sense.
        NoFeaturesError: it does, and there is nothing to answer it with.
        LakehouseError: a table cannot be read.
    """
    rows = load_arrow(zone, start, end, as_of, known_at, warehouse=warehouse, columns=columns)
    frame: pd.DataFrame = rows.to_pandas(types_mapper={pa.int32(): pd.Int32Dtype(), pa.bool_(): pd.BooleanDtype()}.get)
    frame = frame.astype({name: "int32" for name in _COUNTS if name in frame})
    return frame.drop(columns="zone").set_index("datetime") if isinstance(zone, str) else frame.set_index([*KEY])


def load_polars(
    zone: str | Sequence[str],
    start: date | str,
    end: date | str,
    as_of: datetime | str | None = None,
    known_at: str | timedelta | None = None,
    *,
    warehouse: str | Path | None = None,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """`load` as polars; `zone` and `datetime` are the first two columns."""
    try:
        import polars as pl
    except ImportError as error:
        raise FeaturesError(
            "load_polars needs polars, which is not installed: pip install polars, or take load or load_arrow."
        ) from error
    return pl.DataFrame(load_arrow(zone, start, end, as_of, known_at, warehouse=warehouse, columns=columns))


def load_arrow(
    zone: str | Sequence[str],
    start: date | str,
    end: date | str,
    as_of: datetime | str | None = None,
    known_at: str | timedelta | None = None,
    *,
    warehouse: str | Path | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """`load` as Arrow; `zone` and `datetime` are the first two columns."""
    question = ask(zone, start, end, as_of, known_at, columns)
    if warehouse is None:
        settings = read_settings()
        if settings.deployment == "databricks":
            raise FeaturesError(
                "EMAPS_DEPLOYMENT is 'databricks', where the tables lie in a catalog; this reads Delta folders. Read "
                "<catalog>.gold.ml_features with Spark, or give a folder as warehouse=."
            )
        warehouse = settings.warehouse
    try:
        folder = expanded(warehouse).resolve()
    except ValueError as error:
        raise FeaturesError(f"warehouse is {str(warehouse)!r}: {error}.") from None
    if why := why_impossible(folder):
        raise FeaturesError(f"warehouse is {str(folder)!r}: {why}.")
    answer = _stored if question.as_of is None and question.delay is None else _recomputed
    with explaining(folder, passing=(FeaturesError,)):
        return answer(question, folder)


def _stored(question: Question, folder: Path) -> pa.Table:
    gold = _open(folder, ml_features(()))
    columns = question.chosen(field.name for field in gold.schema().fields)
    window = question.window
    # Literal months prune partitions, so that the cost does not grow with the table.
    hours = _query(
        gold,
        ", ".join(f'"{name}"' for name in columns),
        f"year_month IN ({_literals(window.months())}) AND zone IN ({_literals(question.zones)}) "
        f"AND datetime >= '{window.start.isoformat()}' AND datetime < '{window.end.isoformat()}'",
    )
    for zone in _absent(question, hours):
        held = _spans(_query(gold, "zone, datetime"), "datetime", "datetime")
        if zone not in held:
            raise NoFeaturesError(f"gold.ml_features at {folder} holds no zone {zone}; it holds {_listed(held)}.")
        first, last = held[zone]
        raise NoFeaturesError(
            f"gold.ml_features at {folder} holds no hour of zone {zone} in {window}; it holds hours in "
            f"{Window(first, last + HOUR)}. Run the pipeline for these hours, or ask for others."
        )
    return _in_order(hours)


def _recomputed(question: Question, folder: Path) -> pa.Table:
    bronze = [_open(folder, table) for table in (POWER_DATA, CARBON_DATA)]
    zone_keys = _zones_of_gold(folder)
    columns = question.chosen(ml_features(zone_keys).column_names)
    with embedded_session() as spark:
        house = FolderLakehouse(spark, folder)
        # A month at a time bounds the memory of a long window.
        parts = [
            _as_known(house, question, part, zone_keys).select(columns).toArrow() for part in question.window.by_month()
        ]
    rows = _plain(pa.concat_tables(parts))
    for zone in _absent(question, rows):
        raise NoFeaturesError(_why_unknown(question, zone, bronze, folder))
    return _in_order(rows)


def _as_known(house: FolderLakehouse, question: Question, part: Window, zone_keys: tuple[str, ...]) -> DataFrame:
    from pyspark.sql import functions as F

    from emaps_dagster.transforms.asof import features_as_of, features_known_at

    def responses(table: Table, until: datetime) -> DataFrame:
        return house.read_responses(table, gold_context(part), longest=LONGEST_BODY).where(
            F.col("zone").isin(*question.zones) & (F.col("ingested_at") <= instant(until))
        )

    if question.as_of is not None:
        power, carbon = (responses(table, question.as_of) for table in (POWER_DATA, CARBON_DATA))
        return features_as_of(power, carbon, zone_keys, part.start, part.end, question.as_of)
    assert question.delay is not None
    # The last row is made then.
    power, carbon = (responses(table, part.end + question.delay) for table in (POWER_DATA, CARBON_DATA))
    return features_known_at(power, carbon, zone_keys, part.start, part.end, question.delay)


def _zones_of_gold(folder: Path) -> tuple[str, ...]:
    """The configured zones, which decide gold's flow columns; they must be those of the stored gold."""
    zone_keys = read_settings().zones
    table = ml_features(zone_keys)
    try:
        stored = {field.name for field in _open(folder, table).schema().fields}
    except NoFeaturesError:
        return zone_keys
    if differ := sorted(stored ^ set(table.column_names)):
        raise FeaturesError(
            f"gold.ml_features at {folder} was made for other zones than EMAPS_ZONES={','.join(zone_keys)}: they "
            f"differ in {', '.join(differ)}. Set EMAPS_ZONES to the zones of that pipeline."
        )
    return zone_keys


def _open(folder: Path, table: Table) -> DeltaTable:
    try:
        # A folder that does not exist must not come into being by a question.
        root = plain_path(folder) if folder.exists() else folder
        return open_table(root, folder, table.layer, table.name)
    except TableNotFoundError:
        raise NoFeaturesError(
            f"There is no {table.qualified_name} at {folder / table.layer / table.name}. Give the folder of the "
            "pipeline's tables as warehouse= or EMAPS_WAREHOUSE, or run the pipeline first."
        ) from None


def _query(table: DeltaTable, columns: str, where: str = "true") -> pa.Table:
    """Columns of a Delta table by delta-rs, which skips files and row groups and needs no Spark."""
    query = f"SELECT {columns} FROM stored WHERE {where}"  # noqa: S608  # literals are quoted, columns are the table's
    return _plain(pa.table(QueryBuilder().register("stored", table).execute(query).read_all()))


def _literals(texts: Sequence[str]) -> str:
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


def _plain(rows: pa.Table) -> pa.Table:
    """One schema from whatever engine."""

    def plain(type_: pa.DataType) -> pa.DataType:
        if pa.types.is_timestamp(type_):
            return _UTC
        return pa.string() if pa.types.is_string_view(type_) or pa.types.is_large_string(type_) else type_

    return rows.cast(pa.schema([pa.field(field.name, plain(field.type)) for field in rows.schema]))


def _in_order(rows: pa.Table) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in KEY])


def _absent(question: Question, rows: pa.Table) -> list[str]:
    return sorted(set(question.zones) - set(pc.unique(rows["zone"]).to_pylist()))


def _spans(rows: pa.Table, first: str, last: str) -> dict[str, tuple[datetime, datetime]]:
    """Each zone's smallest `first` and largest `last`."""
    grouped = rows.group_by("zone").aggregate([(first, "min"), (last, "max")])
    return {row["zone"]: (row[f"{first}_min"], row[f"{last}_max"]) for row in grouped.to_pylist()}


def _listed(zones: dict[str, tuple[datetime, datetime]]) -> str:
    return ", ".join(sorted(zones)) or "none at all"


def _why_unknown(question: Question, zone: str, bronze: list[DeltaTable], folder: Path) -> str:
    """Why nothing of a zone was known in time, from when bronze came to hold what."""
    names = "zone, ingested_at, window_start, window_end"
    responses = pa.concat_tables([_query(table, names) for table in bronze])
    ingested = _spans(responses, "ingested_at", "ingested_at")
    if zone not in ingested:
        return f"Bronze at {folder} holds no response of zone {zone}; it holds {_listed(ingested)}."
    of_zone = responses.filter(pc.field("zone") == zone)
    if question.as_of is not None:
        first, _ = ingested[zone]
        if question.as_of < first:
            return (
                f"Nothing of zone {zone} was known at {question.as_of:%Y-%m-%dT%H:%M:%SZ}: its first response was "
                f"ingested at {first:%Y-%m-%dT%H:%M:%SZ}. Ask as of a later moment."
            )
        by_then = of_zone.filter(pc.field("ingested_at") <= pa.scalar(question.as_of, _UTC))
        start, end = _spans(by_then, "window_start", "window_end")[zone]
        return (
            f"No hour of zone {zone} in {question.window} was known and over at {question.as_of:%Y-%m-%dT%H:%M:%SZ}; "
            f"what had been ingested by then lies in {Window(start, end)}."
        )
    window = question.window
    overlapping = of_zone.filter(
        (pc.field("window_start") < pa.scalar(window.end, _UTC))
        & (pc.field("window_end") > pa.scalar(window.start, _UTC))
    ).to_pylist()
    if not overlapping:
        start, end = _spans(of_zone, "window_start", "window_end")[zone]
        return f"Bronze at {folder} holds no hour of zone {zone} in {window}; it holds hours in {Window(start, end)}."
    # A response tells of an hour at the earliest when that hour is over; the last one is the freshest.
    waits = [
        row["ingested_at"] - freshest
        for row in overlapping
        if (freshest := min(row["window_end"], window.end, floor_hour(row["ingested_at"])))
        > max(row["window_start"], window.start)
    ]
    if not waits:
        return f"No hour of zone {zone} in {window} was over when its responses were ingested. Run the pipeline again."
    return (
        f"No hour of zone {zone} in {window} was known {question.delay} after its end: the earliest was {min(waits)} "
        "after. A longer known_at is what a forecast could have had."
    )
