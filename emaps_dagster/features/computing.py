"""Computes parts of a features.load query from bronze, as they were known, on the embedded engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from emaps_dagster.contracts.feature_query import FeatureQuery
from emaps_dagster.contracts.tables import MIX_DATA
from emaps_dagster.contracts.windows import Window
from emaps_dagster.features.bronze_state import filled_months
from emaps_dagster.features.parts import two_at_a_time
from emaps_dagster.features.responses import KnownRows
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session


class Computing:
    """A session of the embedded engine for a query; a context manager that ends it."""

    def __init__(self, query: FeatureQuery, folder: Path, zone_keys: tuple[str, ...]) -> None:
        self._query, self._folder, self._zone_keys = query, folder, zone_keys
        self._stack = ExitStack()

    def __enter__(self) -> Computing:
        self._lakehouse = FolderLakehouse(self._stack.enter_context(embedded_session()), self._folder)
        months_of_mix = filled_months(self._folder, MIX_DATA)
        self._known = KnownRows(self._query, self._lakehouse, self._zone_keys, months_of_mix)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def collect(self, parts: list[Window], columns: list[str] | None) -> Iterator[pa.Table]:
        """The rows of each part, as known, with these columns; without columns, see `first_ingested`."""

        def collected(part: Window) -> pa.Table:
            known = self._known
            return self._lakehouse.collect(known.first_ingested(part) if columns is None else known.rows(part, columns))

        yield from two_at_a_time(collected, parts)
