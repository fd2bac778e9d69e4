"""Opens the tables that a query reads: a folder by the embedded engine, or a Spark session's folders or catalog.

Writes nothing, and creates no table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emaps_dagster.contracts.errors import FeaturesError, NoFeaturesError
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.features.commands import how_to_fill
from emaps_dagster.features.reading import warehouse_folder
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Source:
    """Where the tables are: a folder, or a session with a folder or a catalog."""

    warehouse: str | Path | None = None
    session: SparkSession | None = None
    catalog: str | None = None

    @contextmanager
    def open(self, *tables: Table) -> Iterator[Lakehouse]:
        """The lakehouse, in which all of these tables exist.

        Raises:
            FeaturesError: the arguments contradict each other.
            NoFeaturesError: a table does not exist.
        """
        if self.catalog is not None and (self.session is None or self.warehouse is not None):
            raise FeaturesError("catalog needs session, the Spark session that has it, and excludes warehouse.")
        if self.session is None:
            folder = self._folder()
            if folder.exists():
                with embedded_session() as spark:
                    yield _with_tables(FolderLakehouse(spark, folder), tables, folder)
                return
            raise NoFeaturesError(
                f"There is no folder {folder}. Give the folder of the pipeline's tables as warehouse= or "
                "EMAPS_WAREHOUSE, " + how_to_fill(folder)
            )
        with in_utc(self.session):
            yield _with_tables(self._of_session(self.session), tables, None)

    def _of_session(self, session: SparkSession) -> Lakehouse:
        from emaps_dagster.lakehouse.delta_connect import catalog_lakehouse
        from emaps_dagster.lakehouse.delta_spark import DeltaSparkLakehouse
        from emaps_dagster.lakehouse.locations import LocalFolders

        if self.warehouse is None:
            return catalog_lakehouse(session, self.catalog)
        return DeltaSparkLakehouse(session, LocalFolders(self._folder()))

    def _folder(self) -> Path:
        return warehouse_folder(
            self.warehouse, ": give session=spark, and catalog= with its name; or a folder as warehouse=."
        )


@contextmanager
def in_utc(session: SparkSession) -> Iterator[SparkSession]:
    """Sets the time zone of a user's session to UTC, which times and months are in, and sets it back at the end."""
    name = "spark.sql.session.timeZone"
    before = session.conf.get(name)
    session.conf.set(name, "UTC")
    try:
        yield session
    finally:
        if before is not None:
            session.conf.set(name, before)


def _with_tables(lakehouse: Lakehouse, tables: Iterable[Table], folder: Path | None) -> Lakehouse:
    for table in tables:
        if not lakehouse.exists(table):
            raise NoFeaturesError(
                f"There is no {table.qualified_name} at {lakehouse.location(table)}. Give the place of the pipeline's "
                "tables, which is a folder as warehouse= or EMAPS_WAREHOUSE, or a catalog of the session; "
                + (how_to_fill(folder) if folder else "or run the pipeline's job `hourly`.")
            )
    return lakehouse
