"""`features.frame`: rows of a feature query as a DataFrame of the caller's Spark session, from a catalog or a folder.

The transforms are those of `features.load`, so both give the same rows; here the session computes them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.errors import FeaturesError, NoFeaturesError
from emaps_dagster.contracts.feature_query import BACKFILLED, KEY, MISSING, FeatureQuery, other_zone
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.features.coverage import (
    FirstIngested,
    missing_of,
    needs_first_ingested,
    refuse_missing_of_gold,
    refuse_partial,
)
from emaps_dagster.features.reading import absent_zones, listed, plain, spans_of
from emaps_dagster.features.responses import KnownRows
from emaps_dagster.features.unknown import WHEN_AND_WHICH, refuse_absent, zones_of_columns
from emaps_dagster.lakehouse.base import Lakehouse

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GOLD = ml_features(())
_TIME_ZONE = "spark.sql.session.timeZone"


def refuse_other_time_zone(session: SparkSession) -> None:
    """Raises FeaturesError if the session's time zone is not UTC: the frame is computed later, under that setting."""
    zone = session.conf.get(_TIME_ZONE)
    if zone not in ("UTC", "Etc/UTC", "Z", "+00:00"):
        raise FeaturesError(
            f"The session's time zone is {zone!r}; months and hours of the tables are UTC. Set it first: "
            f'spark.conf.set("{_TIME_ZONE}", "UTC").'
        )


def held(lakehouse: Lakehouse, zones: tuple[str, ...]) -> Window:
    """Window from the first to the last hour of some zones in gold.

    Raises:
        NoFeaturesError: gold holds no hour of a zone.
    """
    spans = _spans(lakehouse)
    for zone in zones:
        if zone not in spans:
            raise NoFeaturesError(
                f"gold.ml_features at {lakehouse.location(GOLD)} holds no zone {zone}; it holds {listed(spans)}."
                + other_zone(zone, spans)
            )
    return Window(min(spans[zone][0] for zone in zones), max(spans[zone][1] for zone in zones) + HOUR)


def frame_of(query: FeatureQuery, lakehouse: Lakehouse) -> DataFrame:
    """The rows of a query, unsorted; `zone` and `datetime` are the first columns.

    Raises:
        FeaturesError: see `features.frame`.
    """
    stored = lakehouse.scan(GOLD).columns
    columns = query.chosen(stored)
    if query.as_of is None and query.delay is None:
        return _stored(query, lakehouse, columns)
    past = _Past(query, lakehouse, zones_of_columns(stored, lakehouse.location(GOLD)))
    accepted = {MISSING} if query.delay is None else {MISSING, BACKFILLED}
    if not accepted <= query.allow:
        past.refuse_incomplete()
    return past.rows(columns)


def _stored(query: FeatureQuery, lakehouse: Lakehouse, columns: list[str]) -> DataFrame:
    rows = lakehouse.scan_hours(GOLD, query.window).where(F.col("zone").isin(*query.zones)).select(columns)
    if MISSING in query.allow:
        return rows
    place = lakehouse.location(GOLD)
    keys = _collected(lakehouse, rows.select(*KEY))
    for zone in absent_zones(query, keys):
        there = held(lakehouse, (zone,))
        raise NoFeaturesError(
            f"gold.ml_features at {place} holds no hour of zone {zone} in {query.window}; it holds hours in {there}. "
            "Run the pipeline for these hours, or request others."
        )
    refuse_missing_of_gold(query, missing_of(query, keys), place)
    return rows


class _Past:
    """A query with `as_of` or a delay, computed from bronze."""

    def __init__(self, query: FeatureQuery, lakehouse: Lakehouse, zone_keys: tuple[str, ...]) -> None:
        self._query, self._lakehouse = query, lakehouse
        self._known = KnownRows(query, lakehouse, zone_keys)

    def rows(self, columns: list[str]) -> DataFrame:
        return self._known.rows(self._query.window, columns)

    def refuse_incomplete(self) -> None:
        """Computes the keys of the rows, and raises if hours are missing or backfilled and that is not allowed."""
        query = self._query
        keys = _collected(self._lakehouse, self.rows([*KEY]))
        missing, absent = missing_of(query, keys), absent_zones(query, keys)
        first = self._first_ingested() if needs_first_ingested(query, missing, absent) else {}
        if absent:
            place = self._lakehouse.location(POWER_DATA)
            refuse_absent(query, absent, missing, first, self._when_and_which(), place)
        refuse_partial(query, keys, missing, first)

    def _first_ingested(self) -> FirstIngested:
        found = _collected(self._lakehouse, self._known.first_ingested(self._query.window))
        return {(zone, hour): moments for zone, hour, *moments in zip(*found.to_pydict().values(), strict=True)}

    def _when_and_which(self) -> pa.Table:
        tables = (self._lakehouse.scan(table).select(*WHEN_AND_WHICH) for table in (POWER_DATA, CARBON_DATA))
        return pa.concat_tables([_collected(self._lakehouse, rows) for rows in tables])


def _spans(lakehouse: Lakehouse) -> dict[str, tuple[datetime, datetime]]:
    rows = lakehouse.scan(GOLD).groupBy("zone")
    return spans_of(
        _collected(lakehouse, rows.agg(F.min("datetime").alias("first"), F.max("datetime").alias("last"))),
        "first",
        "last",
    )


def _collected(lakehouse: Lakehouse, rows: DataFrame) -> pa.Table:
    return plain(lakehouse.collect(rows))
