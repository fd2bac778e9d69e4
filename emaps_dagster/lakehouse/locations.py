"""Locations of the tables for Spark: local folders or a catalog."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaProtocolError, TableNotFoundError
from pyspark.sql import SparkSession

from emaps_dagster.contracts.errors import LakehouseError
from emaps_dagster.contracts.paths import plain_path
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.windows import Window
from emaps_dagster.lakehouse.damage import open_table, refuse_if_torn
from emaps_dagster.lakehouse.delta_rs import explaining_folders, table_lock
from emaps_dagster.lakehouse.local_files import rows_of_files


class TableLocations(ABC):
    """Location of the tables, the only difference between local folders and a catalog."""

    @abstractmethod
    def name(self, table: Table) -> str:
        """The table's name in SQL."""

    @abstractmethod
    def location(self, table: Table) -> str:
        """The table's location, for messages."""

    @abstractmethod
    def version(self, spark: SparkSession, table: Table) -> int | None:
        """The table's latest version, None when it does not exist."""

    def exists(self, spark: SparkSession, table: Table) -> bool:
        """Whether the table exists."""
        return self.version(spark, table) is not None

    @abstractmethod
    def history(self, spark: SparkSession, table: Table, limit: int) -> list[Commit]:
        """The latest commits, newest first."""

    def rows(
        self,
        table: Table,  # noqa: ARG002  # of subclasses
        window: Window,  # noqa: ARG002
        version: int | None,  # noqa: ARG002
        months: list[str] | None,  # noqa: ARG002
        columns: tuple[str, ...],  # noqa: ARG002
    ) -> pa.Table | None:
        """The stored rows of the window, in these months or all; None where only Spark can read them.

        `version` None is the latest.
        """
        return None

    def prepare(self, spark: SparkSession, table: Table) -> None:  # noqa: B027  # folders need nothing
        """Creates the schema that contains the table, where one is needed."""

    def explaining(self, table: Table | None, read: Iterable[tuple[str, str]] = ()) -> AbstractContextManager[None]:  # noqa: ARG002  # of subclasses
        """Context manager that converts an error caused by a broken file, where files can be inspected."""
        return nullcontext()

    def refuse_if_torn(self, table: Table) -> None:  # noqa: B027  # a catalog's files are its own
        """Checks that the last commit is complete, where files can be inspected."""

    def table_lock(self, table: Table) -> AbstractContextManager[None]:  # noqa: ARG002  # of subclasses
        """Serializes the writers of the table, where a lock is possible."""
        return nullcontext()


class LocalFolders(TableLocations):
    """Delta folders `<warehouse>/<layer>/<table>` of this machine, shared with the embedded engine."""

    def __init__(self, warehouse: Path) -> None:
        self.warehouse = warehouse.resolve()
        self._root = plain_path(self.warehouse)

    def _path(self, table: Table) -> str:
        return str(self._root / table.layer / table.name)

    def _open(self, table: Table, version: int | None = None) -> DeltaTable:
        return open_table(self._root, self.warehouse, table.layer, table.name, version)

    def name(self, table: Table) -> str:
        return f"delta.`{self._path(table)}`"

    def location(self, table: Table) -> str:
        return str(self.warehouse / table.layer / table.name)

    def version(self, spark: SparkSession, table: Table) -> int | None:  # noqa: ARG002  # a catalog needs it
        # Reads the log directly, a hundred times as fast as a query with Spark.
        try:
            return self._open(table).version()
        except TableNotFoundError:
            return None

    def history(self, spark: SparkSession, table: Table, limit: int) -> list[Commit]:
        # Not with delta-rs: in a folder such as `what? it's` its history lacks the latest commits.
        latest = self.version(spark, table)
        log = Path(self._path(table), "_delta_log")
        newest_first = range(-1 if latest is None else latest, -1, -1)[:limit]
        # Log entries before a checkpoint may have been deleted.
        files = takewhile(lambda file: file[1].exists(), ((v, log / f"{v:020}.json") for v in newest_first))
        return [commit_of(version, path.read_text()) for version, path in files]

    def rows(
        self, table: Table, window: Window, version: int | None, months: list[str] | None, columns: tuple[str, ...]
    ) -> pa.Table | None:
        try:
            with self.explaining(table):
                return rows_of_files(self._open(table, version), table, window, months, columns)
        except LakehouseError as error:
            if not isinstance(error.__cause__, DeltaProtocolError):
                raise
            # The table has a feature that only Spark can read, such as deletion vectors.
            return None

    def explaining(self, table: Table | None, read: Iterable[tuple[str, str]] = ()) -> AbstractContextManager[None]:
        return explaining_folders(self.warehouse, table, read)

    def refuse_if_torn(self, table: Table) -> None:
        refuse_if_torn(Path(self.location(table)))

    def table_lock(self, table: Table) -> AbstractContextManager[None]:
        # Required for correctness, too: Spark publishes a commit on a local disk by renaming, which is not atomic
        # between processes, so it could overwrite another engine's commit of the same moment.
        return table_lock(Path(self.location(table)))


class UnityCatalog(TableLocations):
    """Tables `<catalog>.<layer>.<table>` of Unity Catalog; without a catalog `<layer>.<table>` of the metastore."""

    def __init__(self, catalog: str | None) -> None:
        self.catalog = catalog

    def _parts(self, table: Table) -> list[str]:
        return [*([self.catalog] if self.catalog else []), table.layer, table.name]

    def name(self, table: Table) -> str:
        return ".".join(f"`{part}`" for part in self._parts(table))

    def location(self, table: Table) -> str:
        return ".".join(self._parts(table))

    def version(self, spark: SparkSession, table: Table) -> int | None:
        return self.history(spark, table, 1)[0].version if self.exists(spark, table) else None

    def exists(self, spark: SparkSession, table: Table) -> bool:
        return bool(spark.catalog.tableExists(self.name(table)))

    def history(self, spark: SparkSession, table: Table, limit: int) -> list[Commit]:
        rows = spark.sql(f"DESCRIBE HISTORY {self.name(table)} LIMIT {limit}").collect()
        return [
            Commit(row["version"], row["operation"], row["userMetadata"], row["operationMetrics"] or {}) for row in rows
        ]

    def prepare(self, spark: SparkSession, table: Table) -> None:
        schema = ".".join(f"`{part}`" for part in self._parts(table)[:-1])
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")


@dataclass(frozen=True)
class Commit:
    """An entry of a table's history; `mark` is the user metadata of its writer."""

    version: int
    operation: str
    user_metadata: str | None
    metrics: dict[str, Any]

    @property
    def is_maintenance(self) -> bool:
        return self.operation in _MAINTENANCE


def commit_of(version: int, log: str) -> Commit:
    """Parses the commit info of a log entry."""
    entries = map(json.loads, log.splitlines())
    info: dict[str, Any] = next((entry["commitInfo"] for entry in entries if "commitInfo" in entry), {})
    return Commit(version, info.get("operation", ""), info.get("userMetadata"), info.get("operationMetrics") or {})


def quoted(value: str) -> str:
    """Quotes a string literal for Spark's SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


# These operations change no row, so a concurrent computation does not become stale.
_MAINTENANCE = {"OPTIMIZE", "VACUUM START", "VACUUM END"}
