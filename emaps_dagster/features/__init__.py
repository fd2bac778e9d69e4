"""Loads gold.ml_features as stored, as of a moment, or each row as known at its own time.

Stored rows need no Spark session. The pipeline's own transforms compute point-in-time rows from bronze on the embedded
engine, as docs/as-of.md explains. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from emaps_dagster.contracts.errors import FeaturesError
from emaps_dagster.contracts.feature_query import KEY, parse_query
from emaps_dagster.contracts.tables import (
    CARBON_DATA,
    POWER_DATA,
    RESPONSE_TABLES,
    WITHDRAWN_RESPONSES,
    ml_features,
)
from emaps_dagster.features.reading import answer, held, warehouse_folder
from emaps_dagster.lakehouse.damage import explaining

if TYPE_CHECKING:
    import polars as pl
    from pyspark.sql import DataFrame, SparkSession

# The columns that are never null, whatever the zones.
_COUNTS = [column.name for column in ml_features(()).columns if column.type == "int" and not column.nullable]

# Tables that a point-in-time query reads besides gold's schema.
_OF_THE_PAST = (*RESPONSE_TABLES, WITHDRAWN_RESPONSES)


def load(
    zone: str | Sequence[str],
    start: date | str | None = None,
    end: date | str | None = None,
    as_of: datetime | str | None = None,
    known_at: str | timedelta | None = None,
    *,
    warehouse: str | Path | None = None,
    columns: Sequence[str] | None = None,
    allow: str | Collection[str] = (),
) -> pd.DataFrame:
    """Loads the features of the hours [start, end), one row per zone and hour, as pandas.

    Args:
        zone: a zone key, or several.
        start: first hour: an aware datetime, ISO 8601 with a zone, or a day (its midnight UTC); default the first hour
            of these zones in gold.
        end: end of the last hour, likewise; default the end of their last hour in gold.
        as_of: a moment, aware or ISO 8601 with a zone: gold computed from all responses ingested by then, and no later
            one. Without it and `known_at`: gold as stored.
        known_at: a delay such as "15min" or "1h": each row computed from the responses ingested by its `datetime` +
            1 h + delay, for all hours of its lags and means. The training set without look-ahead.
        warehouse: folder of the Delta tables; default `EMAPS_WAREHOUSE`.
        columns: the features to return, in order; default all of gold.ml_features.
        allow: incomplete results to accept, by default none: "missing" accepts fewer rows than requested hours,
            "backfilled" rows of `known_at` that were ingested more than 24 h after their hour, by a backfill.

    Returns:
        Features by `datetime` (UTC), for a sequence of zones by `zone` and `datetime`, sorted. Values are float64 with
        NaN for null, counts int32; whole numbers and booleans that can be null are Int32 and boolean.

    Raises:
        FeaturesError: an argument is invalid.
        NoFeaturesError: no rows match for at least one of the zones.
        PartialFeaturesError: hours are missing; the message gives their number, ranges and cause.
        BackfilledFeaturesError: rows were first known days after their hour.
        LakehouseError: a table cannot be read.
    """
    rows = load_arrow(zone, start, end, as_of, known_at, warehouse=warehouse, columns=columns, allow=allow)
    frame: pd.DataFrame = rows.to_pandas(types_mapper={pa.int32(): pd.Int32Dtype(), pa.bool_(): pd.BooleanDtype()}.get)
    # The count columns of flows depend on the zones; no other column has this prefix.
    counts = [name for name in map(str, frame) if name in _COUNTS or name.startswith("rolling_count_")]
    # In place: a copy of all columns would be the peak of memory.
    for name in counts:
        frame[name] = frame[name].to_numpy("int32")
    if isinstance(zone, str):
        del frame["zone"]
    frame.set_index("datetime" if isinstance(zone, str) else [*KEY], inplace=True)
    return frame


def load_polars(
    zone: str | Sequence[str],
    start: date | str | None = None,
    end: date | str | None = None,
    as_of: datetime | str | None = None,
    known_at: str | timedelta | None = None,
    *,
    warehouse: str | Path | None = None,
    columns: Sequence[str] | None = None,
    allow: str | Collection[str] = (),
) -> pl.DataFrame:
    """`load` as polars; `zone` and `datetime` are the first two columns."""
    try:
        import polars as pl
    except ImportError as error:
        raise FeaturesError(
            "load_polars needs polars, which is not installed: pip install polars, or take load or load_arrow."
        ) from error
    return pl.DataFrame(
        load_arrow(zone, start, end, as_of, known_at, warehouse=warehouse, columns=columns, allow=allow)
    )


def load_arrow(
    zone: str | Sequence[str],
    start: date | str | None = None,
    end: date | str | None = None,
    as_of: datetime | str | None = None,
    known_at: str | timedelta | None = None,
    *,
    warehouse: str | Path | None = None,
    columns: Sequence[str] | None = None,
    allow: str | Collection[str] = (),
) -> pa.Table:
    """`load` as Arrow; `zone` and `datetime` are the first two columns."""
    folder = warehouse_folder(
        warehouse,
        "; this reads Delta folders. Take features.frame(spark, <catalog>, ...), or give a folder as warehouse=.",
    )
    read = [ml_features(()), *([] if as_of is None and known_at is None else _OF_THE_PAST)]
    with explaining(folder, read=[(table.layer, table.name) for table in read], passing=(FeaturesError,)):
        query = parse_query(zone, start, end, as_of, known_at, columns, allow, lambda zones: held(zones, folder))
        return answer(query, folder)


def frame(
    session: SparkSession,
    catalog: str | None,
    zone: str | Sequence[str],
    start: date | str | None = None,
    end: date | str | None = None,
    as_of: datetime | str | None = None,
    known_at: str | timedelta | None = None,
    *,
    warehouse: str | Path | None = None,
    columns: Sequence[str] | None = None,
    allow: str | Collection[str] = (),
) -> DataFrame:
    """`load` as a DataFrame of a Spark session, computed by that session: on Databricks, or on one's own Spark.

    Unless `allow` accepts whatever is missing (and for `known_at` what is backfilled), the keys of the rows are
    computed at once to find out; the rows are computed by the first action.

    Args:
        session: a session of Spark, or of Spark Connect, whose time zone is UTC.
        catalog: the catalog that has the schemas bronze and gold; None for the session's own (hive_metastore).
        zone: as in `load`, likewise start, end, as_of, known_at, columns and allow.
        start: see zone.
        end: see zone.
        as_of: see zone.
        known_at: see zone.
        warehouse: folder of the Delta tables, which the session can read, instead of a catalog.
        columns: see zone.
        allow: see zone.

    Returns:
        zone, datetime and the features, unsorted; types are those of docs/tables.md.

    Raises:
        FeaturesError: an argument is invalid, or the session's time zone is not UTC.
        NoFeaturesError: a table does not exist, or no rows match for at least one of the zones.
        PartialFeaturesError: hours are missing; the message gives their number, ranges and cause.
        BackfilledFeaturesError: rows were first known days after their hour.
    """
    from emaps_dagster.features import session_frames
    from emaps_dagster.features.source import Source

    session_frames.refuse_other_time_zone(session)
    past = () if as_of is None and known_at is None else (POWER_DATA, CARBON_DATA)
    with Source(warehouse, session, catalog).open(ml_features(()), *past) as lakehouse:
        stored = partial(session_frames.held, lakehouse)
        query = parse_query(zone, start, end, as_of, known_at, columns, allow, stored)
        return session_frames.frame_of(query, lakehouse)
