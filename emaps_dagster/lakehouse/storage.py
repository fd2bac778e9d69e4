"""The primitives of table storage that a backend implements, and the retry of conflicting commits."""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta, timezone
from typing import TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from emaps_dagster.contracts.errors import WriteConflictError
from emaps_dagster.contracts.tables import Column, Table
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.lakehouse.arrow_schema import arrow_schema, conform
from emaps_dagster.lakehouse.reports import (
    CommitConflictError,
    Size,
)
from emaps_dagster.transforms.timestamps import in_hours

T = TypeVar("T")
logger = logging.getLogger(__name__)

# Eight writers on one table each lose seven races at worst before the queue is empty; thirty leaves room.
_ATTEMPTS = 30
_LONGEST_PAUSE_SECONDS = 2.0


class TableStorage(ABC):
    """Tables by contract. Subclasses implement where they lie and how a commit is made there."""

    def __init__(self, spark: SparkSession) -> None:
        self.spark = spark
        self._left_out: pa.Table | None = None
        # Plans are lazy: an error of one may come from any table that was read.
        self._read: set[tuple[str, str]] = set()

    @abstractmethod
    def version(self, table: Table) -> int | None:
        """The table's latest version, None when it does not exist."""

    @abstractmethod
    def scan(self, table: Table, *, version: int | None = None) -> DataFrame:
        """The whole table, or as it was at a version."""

    def collect(self, rows: DataFrame) -> pa.Table:
        """What the engine computes; its columns may have other types of the same values than the contract's."""
        with self._explaining(None):
            return rows.toArrow()

    @abstractmethod
    def location(self, table: Table) -> str:
        """Where a person finds the table."""

    @abstractmethod
    def _create(self, table: Table) -> None:
        """Create the table; no error if another writer just did."""

    @abstractmethod
    def _add_columns(self, table: Table, columns: list[Column]) -> None:
        """Commit nullable columns of the contract that the table lacks.

        Raises LostRaceError when it can be tried again.
        """

    @abstractmethod
    def _append(self, table: Table, rows: pa.Table) -> None:
        """Commit rows. Raises LostRaceError when it can be tried again."""

    @abstractmethod
    def _merge(self, table: Table, months: list[str], rows: pa.Table, version: int) -> None:
        """Commit rows with `_change` inserted or updated, made from `version`.

        Raises LostRaceError, having written nothing, when those months changed since.
        """

    def _insert(self, table: Table, months: list[str], rows: DataFrame, version: int) -> pa.Table:
        """Commit rows of hours that held none, made from `version`, and return them, their keys at least.

        Raises LostRaceError, having written nothing, when those months changed since.
        """
        computed = self._computed(rows, table)
        if computed.num_rows:
            self._merge(table, months, all_inserted(computed), version)
        return computed

    @abstractmethod
    def _replace(self, table: Table, window: Window, rows: pa.Table, version: int) -> None:
        """Commit that the window's rows, in whatever month they lie, are these and no others, made from `version`.

        Raises LostRaceError, having written nothing, when the table changed since.
        """

    @abstractmethod
    def _overwrite(self, table: Table, parts: Iterator[pa.Table], version: int) -> None:
        """Commit rows and columns of the whole table at once, made from `version`; earlier versions stay readable.

        Raises LostRaceError, having written nothing, when the table changed since.
        """

    @abstractmethod
    def _size(self, table: Table) -> Size:
        """Of the latest version."""

    @abstractmethod
    def _compact(self, table: Table) -> None:
        """Commit the same rows in fewer files, if that can be; no reader and no row may notice.

        Raises LostRaceError, having written nothing, when a file that it read was replaced.
        """

    @abstractmethod
    def _vacuum(self, table: Table, retain: timedelta) -> int:
        """Remove files that no version of the last `retain` needs; returns how many. Leaves a checkpoint of the log."""

    def span(self, table: Table, *, version: int | None = None) -> Window | None:
        """From the first to the last hour that silver or gold holds; None without rows."""
        rows = self.scan(table, version=version).agg(F.min("datetime").alias("first"), F.max("datetime").alias("last"))
        found = self.collect(rows)
        first, last = (found[name][0].as_py() for name in ("first", "last"))
        if first is None:
            return None
        return Window(floor_hour(first.astimezone(timezone.utc)), floor_hour(last.astimezone(timezone.utc)) + HOUR)

    def schema_differences(self, table: Table, *, version: int | None = None) -> list[str]:
        """How the stored schema departs from the contract, one phrase each; empty when it does not."""
        stored = self.types(table, version=version)
        wanted = {column.name: column.type for column in table.columns}
        return [
            *(f"column {name} is missing" for name in wanted if name not in stored),
            *(f"column {name} is not in the contract" for name in stored if name not in wanted),
            *(
                f"column {name} is {stored[name]}, not {type_}"
                for name, type_ in wanted.items()
                if stored.get(name, type_) != type_
            ),
        ]

    def types(self, table: Table, *, version: int | None = None) -> dict[str, str]:
        """Spark's simple type of each stored column, by name."""
        with self._explaining(table):
            return {f.name: f.dataType.simpleString() for f in self.scan(table, version=version).schema.fields}

    def size(self, table: Table) -> Size | None:
        """Files and bytes of the latest version; None when the table does not exist."""
        return None if self.version(table) is None else self._size(table)

    def _computed(self, rows: DataFrame, table: Table) -> pa.Table:
        """Rows that are to be written, in the contract's columns and types; an error if they have others."""
        return self.collect(rows.select(table.column_names)).cast(arrow_schema(table))

    def _stored(
        self,
        table: Table,
        window: Window,
        version: int | None,
        months: list[str] | None = None,
        columns: tuple[str, ...] = (),
    ) -> pa.Table:
        """The rows of the window in the contract's columns; without `months` those that lie in a wrong one, too."""
        if version is None:
            return conform(pa.table({}), table)
        return conform(self._rows(table, window, version, months, columns), table)

    def _rows(
        self, table: Table, window: Window, version: int, months: list[str] | None, columns: tuple[str, ...]
    ) -> pa.Table:
        """The stored rows of the window, of these months or of all, as the engine reads them; all columns without."""
        rows = self.scan(table, version=version).where(in_hours(window.start, window.end))
        if months:
            rows = rows.where(F.col(table.partition).isin(months))
        return self.collect(rows.select(*columns) if columns else rows)

    def _lock(self, table: Table) -> AbstractContextManager[None]:  # noqa: ARG002  # of subclasses
        """Waits for other writers of the table where it can; what guards the rows is the commit, not this."""
        return nullcontext()

    def _explaining(self, table: Table | None) -> AbstractContextManager[None]:  # noqa: ARG002  # of subclasses
        """In here an error that comes from a broken file becomes a sentence, where files can be looked at.

        It is looked for in the table, if one is given, and in those that were read, and in no other.
        """
        return nullcontext()

    def _retry_on_conflict(self, table: Table, what: str, attempt: Callable[[int], T]) -> T:
        for number in range(_ATTEMPTS):
            try:
                with self._lock(table), self._explaining(table):
                    return attempt(number)
            except CommitConflictError as lost:
                logger.info("%s: %s lost a race (%s), trying again", table.qualified_name, what, lost)
                # Exponential, with jitter, so that two losers do not meet again.
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, 0.05 * 2**number)))
        raise WriteConflictError(
            f"{table.qualified_name}: other writers won against {what} {_ATTEMPTS} times. Nothing stale was "
            "written; run the partitions again, with a Dagster pool of 1 for this table."
        )


def all_inserted(fresh: pa.Table) -> pa.Table:
    """Fresh rows with `_change`, where nothing is stored."""
    return fresh.append_column("_change", pa.array(["inserted"] * fresh.num_rows, pa.string()))
