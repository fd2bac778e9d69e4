"""Reads tables by hours; leaves withdrawn responses of bronze out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import MIX_DATA, TRUSTED, WITHDRAWN_RESPONSES
from emaps_dagster.contracts.windows import Window
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.lakehouse.storage import TableStorage
from emaps_dagster.transforms.timestamps import in_hours, instant


class TableReads(TableStorage):
    """Lazy reads for transforms, and rows as Arrow tables."""

    def scan_hours(self, table: Table, window: Window, *, version: int | None = None) -> DataFrame:
        """The rows of silver or gold whose `datetime` lies in the window; reads only its months."""
        return self.scan(table, version=version).where(
            F.col(table.partition).isin(window.months()) & in_hours(window.start, window.end)
        )

    def scan_responses(self, table: Table, window: Window, *, longest: timedelta) -> DataFrame:
        """The rows of bronze that share an hour with the window, without withdrawn responses.

        Args:
            table: a bronze table, partitioned by the month in which a body begins.
            window: the hours of interest.
            longest: upper bound of a body's span, so that bodies that begin earlier need not be read.
        """
        months = window.widen(longest, timedelta(0)).months()
        rows = self.scan(table).where(
            F.col(table.partition).isin(months)
            & (F.col("window_start") < instant(window.end))
            & (F.col("window_end") > instant(window.start))
        )
        # Tables of a release without quarantine get the column with the next run of bronze.
        if TRUSTED not in self.types(table):
            rows = rows.withColumn(TRUSTED, F.lit(None).cast("string"))
        return self.without_withdrawn(table, rows, months)

    def scan_mix(self, window: Window, *, longest: timedelta) -> DataFrame | None:
        """`scan_responses` of bronze.mix_data; None while no run has requested electricity-mix.

        Without the table no plan reads it, so that power-breakdown alone costs what it did.
        """
        if not self.exists(MIX_DATA):
            return None
        return self.scan_responses(MIX_DATA, window, longest=longest)

    def without_withdrawn(self, table: Table, rows: DataFrame, months: list[str] | None = None) -> DataFrame:
        """Removes withdrawn responses from the rows of a bronze table (docs/adr/0014).

        Args:
            table: the bronze table of the rows.
            rows: with at least the columns of its key.
            months: the partitions of the rows; None for all.
        """
        if self._left_out is not None and self._left_out.num_rows:
            rows = self._without(table, rows, self.spark.createDataFrame(self._left_out))
        # The table exists only after a withdrawal; without it no plan needs the join.
        if not self.exists(WITHDRAWN_RESPONSES):
            return rows
        withdrawn = self.scan(WITHDRAWN_RESPONSES)
        if months:
            withdrawn = withdrawn.where(F.col(WITHDRAWN_RESPONSES.partition).isin(months))
        return self._without(table, rows, withdrawn)

    @contextmanager
    def leaving_out(self, responses: pa.Table) -> Iterator[None]:
        """Context manager in which reads treat these rows of `WITHDRAWN_RESPONSES` as stored, for a dry run."""
        self._left_out = responses
        try:
            yield
        finally:
            self._left_out = None

    def _without(self, table: Table, rows: DataFrame, withdrawn: DataFrame) -> DataFrame:
        keys = withdrawn.where(F.col("bronze_table") == table.name).select(*table.key)
        return rows.join(keys, list(table.key), "left_anti")

    def read_arrow(self, table: Table, window: Window, *, columns: tuple[str, ...] = ()) -> pa.Table:
        """Reads the rows of `scan_hours` as an Arrow table with the contract's schema; empty without the table.

        Args:
            table: silver or gold. Bronze has a file for every tick, which the engine opens faster.
            window: the hours of interest.
            columns: the columns to read; all if empty.

        Raises:
            LakehouseError: files of the table are missing or cannot be read.
        """
        stored = self._rows(table, window, None, window.months(), columns) if self.exists(table) else pa.table({})
        rows = conform(stored, table)
        return rows.select(list(columns)) if columns else rows

    def zones(self, rows: DataFrame) -> int:
        """Number of distinct zones in the rows."""
        found = self.collect(rows.agg(F.count_distinct("zone").alias("zones")))
        return int(found["zones"][0].as_py())
