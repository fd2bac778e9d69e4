"""The primitives of table storage that a backend implements, and the retry of conflicting commits."""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta, timezone
from typing import Any, TypeVar, cast

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from emaps_dagster.contracts.errors import WriteConflictError
from emaps_dagster.contracts.table_contract import Column, Table
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.lakehouse.arrow_memory import in_arrow_memory
from emaps_dagster.lakehouse.arrow_schema import arrow_schema, conform
from emaps_dagster.lakehouse.reports import (
    CommitConflictError,
    Size,
)
from emaps_dagster.transforms.quality.contract import column_differences
from emaps_dagster.transforms.timestamps import in_hours

T = TypeVar("T")
logger = logging.getLogger(__name__)

# Each of eight writers on one table has at worst seven conflicts until all are done; thirty leaves room.
_ATTEMPTS = 30
_LONGEST_PAUSE_SECONDS = 2.0


class TableStorage(ABC):
    """Tables by contract. Subclasses implement the location and the commits."""

    def __init__(self, spark: SparkSession) -> None:
        self.spark = spark
        self._left_out: pa.Table | None = None
        # Plans are lazy, so any table that was read may cause the error of a later action.
        self._read: set[tuple[str, str]] = set()

    @abstractmethod
    def version(self, table: Table) -> int | None:
        """The table's latest version, None when it does not exist."""

    def exists(self, table: Table) -> bool:
        """Whether the table exists; in a catalog cheaper than its version, which is read from its history."""
        return self.version(table) is not None

    @abstractmethod
    def scan(self, table: Table, *, version: int | None = None) -> DataFrame:
        """The whole table, at a version or the latest."""

    def collect(self, rows: DataFrame) -> pa.Table:
        """Computes the rows as an Arrow table; column types may differ from the contract's, with equal values."""
        with self._explaining(None):
            return in_arrow_memory(_arrow(rows))

    @abstractmethod
    def location(self, table: Table) -> str:
        """The table's location, for messages."""

    @abstractmethod
    def _create(self, table: Table) -> None:
        """Creates the table; no error if another writer just did."""

    @abstractmethod
    def _add_columns(self, table: Table, columns: list[Column]) -> None:
        """Commits nullable columns of the contract that the table lacks.

        Raises CommitConflictError when a retry may succeed.
        """

    @abstractmethod
    def _append(self, table: Table, rows: pa.Table) -> None:
        """Commits rows. Raises CommitConflictError when a retry may succeed."""

    @abstractmethod
    def _merge(self, table: Table, months: list[str], rows: pa.Table, version: int, stored: pa.Table) -> None:
        """Commits rows with `_change` inserted or updated, computed from `version`.

        `stored` are the rows of that version in these months, over a window that has all hours of `rows`.

        Raises CommitConflictError, having written nothing, when those months changed since.
        """

    def _insert(self, table: Table, months: list[str], rows: DataFrame, version: int) -> pa.Table:
        """Commits rows of hours that held none, computed from `version`, and returns at least their keys.

        Raises CommitConflictError, having written nothing, when those months changed since.
        """
        computed = self._computed(rows, table)
        if computed.num_rows:
            self._merge(table, months, all_inserted(computed), version, conform(pa.table({}), table))
        return computed

    @abstractmethod
    def _replace(self, table: Table, window: Window, rows: pa.Table, version: int) -> None:
        """Commits the replacement of the window's rows, in any month partition, by rows computed from `version`.

        Raises CommitConflictError, having written nothing, when the table changed since.
        """

    @abstractmethod
    def _overwrite(self, table: Table, parts: Iterator[pa.Table], version: int) -> None:
        """Commits rows and columns of the whole table at once, computed from `version`; earlier versions stay readable.

        Raises CommitConflictError, having written nothing, when the table changed since.
        """

    @abstractmethod
    def _size(self, table: Table) -> Size:
        """Size of the latest version."""

    @abstractmethod
    def _compact(self, table: Table) -> None:
        """Commits the same rows in fewer files, if possible, without an effect on readers or rows.

        Raises CommitConflictError, having written nothing, when a file that it read was replaced.
        """

    @abstractmethod
    def _vacuum(self, table: Table, retain: timedelta) -> int:
        """Removes files that no version of the last `retain` needs; returns their number. Leaves a log checkpoint."""

    def span(self, table: Table, *, version: int | None = None) -> Window | None:
        """Window from the first to the last hour of silver or gold; None without rows."""
        rows = self.scan(table, version=version).agg(F.min("datetime").alias("first"), F.max("datetime").alias("last"))
        found = self.collect(rows)
        first, last = (found[name][0].as_py() for name in ("first", "last"))
        if first is None:
            return None
        return Window(floor_hour(first.astimezone(timezone.utc)), floor_hour(last.astimezone(timezone.utc)) + HOUR)

    def schema_differences(self, table: Table, *, version: int | None = None) -> list[str]:
        """Differences of the stored schema from the contract, one phrase each; empty without any."""
        return column_differences(self.types(table, version=version), table)

    def types(self, table: Table, *, version: int | None = None) -> dict[str, str]:
        """Spark's simple type of each stored column, by name."""
        with self._explaining(table):
            return {f.name: f.dataType.simpleString() for f in self.scan(table, version=version).schema.fields}

    def size(self, table: Table) -> Size | None:
        """Files and bytes of the latest version; None when the table does not exist."""
        return self._size(table) if self.exists(table) else None

    def _computed(self, rows: DataFrame, table: Table) -> pa.Table:
        """Computes rows to write, in the contract's columns and types; raises if they have others."""
        # Selected here: one more step of the plan costs an engine time for each column.
        return self.collect(rows).select(table.column_names).cast(arrow_schema(table))

    def _stored(self, table: Table, window: Window, version: int | None) -> pa.Table:
        """The stored rows of the window in the contract's columns, of any partition; none without a version."""
        return conform(pa.table({}) if version is None else self._rows(table, window, version, None, ()), table)

    def _rows(
        self, table: Table, window: Window, version: int | None, months: list[str] | None, columns: tuple[str, ...]
    ) -> pa.Table:
        """The stored rows of the window, in these months or all, with the engine's types; all columns by default.

        `version` None is the latest.
        """
        rows = self.scan(table, version=version).where(in_hours(window.start, window.end))
        if months:
            rows = rows.where(F.col(table.partition).isin(months))
        return self.collect(rows.select(*columns) if columns else rows)

    def _lock(self, table: Table) -> AbstractContextManager[None]:  # noqa: ARG002  # of subclasses
        """Serializes the writers of the table where a lock is possible; the commit guarantees correctness."""
        return nullcontext()

    def _explaining(self, table: Table | None) -> AbstractContextManager[None]:  # noqa: ARG002  # of subclasses
        """Context manager that converts an error caused by a broken file, where files can be inspected.

        Inspects the given table and those that were read, and no other.
        """
        return nullcontext()

    def _retry_on_conflict(self, table: Table, what: str, attempt: Callable[[int], T]) -> T:
        for number in range(_ATTEMPTS):
            try:
                with self._lock(table), self._explaining(table):
                    return attempt(number)
            except CommitConflictError as lost:
                logger.info("%s: %s lost a race (%s), trying again", table.qualified_name, what, lost)
                # Exponential backoff with jitter, so that two losers do not collide again.
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, 0.05 * 2**number)))
        raise WriteConflictError(
            f"{table.qualified_name}: other writers won against {what} {_ATTEMPTS} times. Nothing stale was "
            "written; run the partitions again, with a Dagster pool of 1 for this table."
        )


def _arrow(rows: DataFrame) -> pa.Table:
    # `toArrow` of Spark Connect requests the schema first: the engine would analyse every plan twice, slowly if it is
    # wide. Asks the type: a frame of the JVM looks for a column of that name.
    if hasattr(type(rows), "_to_table"):
        return cast("Any", rows)._to_table()[0]  # noqa: SLF001
    return rows.toArrow()


def all_inserted(fresh: pa.Table) -> pa.Table:
    """Fresh rows with `_change` set to inserted, for hours without stored rows."""
    return fresh.append_column("_change", pa.array(["inserted"] * fresh.num_rows, pa.string()))
