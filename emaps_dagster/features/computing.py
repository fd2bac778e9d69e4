"""Computes months of a features.load query from bronze, as they were known, on the embedded engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.feature_query import FeatureQuery
from emaps_dagster.contracts.tables import CARBON_DATA, MIX_DATA, POWER_DATA
from emaps_dagster.contracts.windows import Window, gold_context
from emaps_dagster.features.bronze_state import filled_months
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.transforms.as_of import features_as_of, features_known_at, first_ingested
from emaps_dagster.transforms.timestamps import instant

# Months that are computed at the same time; each takes memory.
_AT_ONCE = 2


class Computing:
    """A session of the embedded engine for a query; a context manager that ends it."""

    def __init__(self, query: FeatureQuery, folder: Path, zone_keys: tuple[str, ...]) -> None:
        self._query, self._folder, self._zone_keys = query, folder, zone_keys
        self._stack = ExitStack()

    def __enter__(self) -> Computing:
        self._lakehouse = FolderLakehouse(self._stack.enter_context(embedded_session()), self._folder)
        self._months_of_mix = filled_months(self._folder, MIX_DATA)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def collect(self, parts: list[Window], columns: list[str] | None) -> Iterator[pa.Table]:
        """The rows of each part, as known, with these columns; without columns, see `first_ingested`."""
        plans = [self._first(part) if columns is None else self._as_known(part, columns) for part in parts]
        # The engine works on most of a month with one core.
        with ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1)) as pool:
            yield from pool.map(self._lakehouse.collect, plans)

    def _as_known(self, part: Window, columns: list[str]) -> DataFrame:
        query = self._query
        # The last row is computed at this moment.
        until = query.as_of if query.as_of is not None else part.end + (query.delay or timedelta(0))
        power, carbon, mix = self._responses(gold_context(part), F.col("ingested_at") <= instant(until))
        if query.as_of is not None:
            rows = features_as_of(power, carbon, self._zone_keys, part.start, part.end, query.as_of, columns, mix=mix)
        else:
            assert query.delay is not None
            rows = features_known_at(
                power, carbon, self._zone_keys, part.start, part.end, query.delay, columns, mix=mix
            )
        return rows.select(columns)

    def _first(self, part: Window) -> DataFrame:
        power, carbon, mix = self._responses(part)
        return first_ingested(power, carbon, part.start, part.end, mix=mix)

    def _responses(
        self, hours: Window, condition: Column | None = None
    ) -> tuple[DataFrame, DataFrame, DataFrame | None]:
        """The responses of the query's zones that contain these hours; None for electricity-mix without one."""
        of_zones = F.col("zone").isin(*self._query.zones)
        wanted = of_zones if condition is None else of_zones & condition
        power, carbon = (
            self._lakehouse.scan_responses(table, hours, longest=LONGEST_BODY).where(wanted)
            for table in (POWER_DATA, CARBON_DATA)
        )
        # Records of both roads are parsed whole, which costs a month without electricity-mix what it need not.
        has_mix = not self._months_of_mix.isdisjoint(hours.widen(LONGEST_BODY, timedelta(0)).months())
        mix = self._lakehouse.scan_mix(hours, longest=LONGEST_BODY) if has_mix else None
        return power, carbon, None if mix is None else mix.where(wanted)
