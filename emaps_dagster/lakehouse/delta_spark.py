"""Tables committed by Spark's own Delta: folders of a local JVM, or tables of a catalog on Databricks.

What a merge or a rebuild is, and when it starts again, is lakehouse.py's; why a commit here is a
compare-and-swap is argued in docs/adr/0008.
"""

from __future__ import annotations

import math
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from uuid import uuid4

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

from emaps_dagster.contracts.tables import Column, Table
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.delta_commits import TRANSACTIONS, properties
from emaps_dagster.lakehouse.locations import Commit, Place, quoted
from emaps_dagster.lakehouse.reports import LostRaceError, Size

_WRITING = {
    "spark.sql.session.timeZone": "UTC",
    # Spark's default is a type that Parquet has given up.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # The rows of a merge come from Arrow: read twice, they are the same.
    "spark.databricks.delta.merge.materializeSource": "none",
    # What maintenance may remove is settled in lakehouse.py; how many files it removed is told by the history.
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.databricks.delta.vacuum.logging.enabled": "true",
}
# Delta's names for a commit that another one has made impossible; pyspark hands them out in several guises.
_LOST_RACE = re.compile(r"\b(Concurrent\w+|DeltaConcurrentModification|MetadataChanged|ProtocolChanged)Exception\b")
# They change no row, so nothing that was computed beside them is stale.
_MAINTENANCE = {"OPTIMIZE", "VACUUM START", "VACUUM END"}


@dataclass(frozen=True)
class Commit:
    """An entry of a table's history; `mark` is what its writer wrote on it."""

    version: int
    operation: str
    mark: str | None
    metrics: dict[str, Any]

    @property
    def is_maintenance(self) -> bool:
        return self.operation in _MAINTENANCE


class Place(ABC):
    """Where tables lie: the one thing in which folders and a catalog differ."""

    @abstractmethod
    def name(self, table: Table) -> str:
        """The table's name in SQL."""

    @abstractmethod
    def where(self, table: Table) -> str:
        """Where a person finds the table."""

    @abstractmethod
    def version(self, spark: SparkSession, table: Table) -> int | None:
        """The table's latest version, None when it does not exist."""

    @abstractmethod
    def history(self, spark: SparkSession, table: Table, limit: int) -> list[Commit]:
        """The latest commits, newest first."""

    def rows(
        self,
        table: Table,  # noqa: ARG002  # of subclasses
        window: Window,  # noqa: ARG002
        version: int,  # noqa: ARG002
        months: list[str] | None,  # noqa: ARG002
        columns: tuple[str, ...],  # noqa: ARG002
    ) -> pa.Table | None:
        """The stored rows of the window, of these months or of all, where they can be read without Spark."""
        return None

    def prepare(self, spark: SparkSession, table: Table) -> None:  # noqa: B027  # folders need nothing
        """Make what a table lies in, if that has to be."""

    def explaining(self, table: Table | None, read: Iterable[tuple[str, str]] = ()) -> AbstractContextManager[None]:  # noqa: ARG002  # of subclasses
        """In here an error that comes from a broken file becomes a sentence, where files can be looked at."""
        return nullcontext()

    def refuse_if_torn(self, table: Table) -> None:  # noqa: B027  # a catalog's files are its own
        """Make sure that the last commit is whole, where it can be looked at."""

    def turn(self, table: Table) -> AbstractContextManager[None]:  # noqa: ARG002  # of subclasses
        """Waits for other writers of the table where it can."""
        return nullcontext()


class Folders(Place):
    """Delta folders `<warehouse>/<layer>/<table>` of this machine, those of the embedded engine."""

    def __init__(self, warehouse: Path) -> None:
        self.warehouse = warehouse.resolve()
        self._root = plain_path(self.warehouse)

    def _path(self, table: Table) -> str:
        return str(self._root / table.layer / table.name)

    def _open(self, table: Table, version: int | None = None) -> DeltaTable:
        return open_table(self._root, self.warehouse, table.layer, table.name, version)

    def name(self, table: Table) -> str:
        return f"delta.`{self._path(table)}`"

    def where(self, table: Table) -> str:
        return str(self.warehouse / table.layer / table.name)

    def version(self, spark: SparkSession, table: Table) -> int | None:  # noqa: ARG002  # a catalog needs it
        # A look into the log: a hundred times as fast as asking Spark.
        try:
            return self._open(table).version()
        except TableNotFoundError:
            return None

    def history(self, spark: SparkSession, table: Table, limit: int) -> list[Commit]:
        # Not by delta-rs: in a folder such as `what? it's` its history lacks the latest commits.
        latest = self.version(spark, table)
        log = Path(self._path(table), "_delta_log")
        newest_first = range(-1 if latest is None else latest, -1, -1)[:limit]
        # Below a checkpoint the log may have been cleaned up.
        files = takewhile(lambda file: file[1].exists(), ((v, log / f"{v:020}.json") for v in newest_first))
        return [_commit_of(version, path.read_text()) for version, path in files]

    def rows(
        self, table: Table, window: Window, version: int, months: list[str] | None, columns: tuple[str, ...]
    ) -> pa.Table | None:
        try:
            with self.explaining(table):
                return rows_of_files(self._open(table, version), table, window, months, columns)
        except LakehouseError as error:
            if not isinstance(error.__cause__, DeltaProtocolError):
                raise
            # Somebody switched on what only Spark can read, such as deletion vectors.
            return None

    def explaining(self, table: Table | None, read: Iterable[tuple[str, str]] = ()) -> AbstractContextManager[None]:
        return explaining_folders(self.warehouse, table, read)

    def refuse_if_torn(self, table: Table) -> None:
        refuse_if_torn(Path(self.where(table)))

    def turn(self, table: Table) -> AbstractContextManager[None]:
        # Not only for speed: Spark publishes a commit on a local disk by renaming, which is not atomic
        # between processes, so that another engine's commit of the same moment could be overwritten.
        return turn(Path(self.where(table)))


class Catalog(Place):
    """Tables `<catalog>.<layer>.<table>` of Unity Catalog; without a catalog `<layer>.<table>` of the metastore."""

    def __init__(self, catalog: str | None) -> None:
        self.catalog = catalog

    def _parts(self, table: Table) -> list[str]:
        return [*([self.catalog] if self.catalog else []), table.layer, table.name]

    def name(self, table: Table) -> str:
        return ".".join(f"`{part}`" for part in self._parts(table))

    def where(self, table: Table) -> str:
        return ".".join(self._parts(table))

    def version(self, spark: SparkSession, table: Table) -> int | None:
        if not spark.catalog.tableExists(self.name(table)):
            return None
        return self.history(spark, table, 1)[0].version

    def history(self, spark: SparkSession, table: Table, limit: int) -> list[Commit]:
        rows = spark.sql(f"DESCRIBE HISTORY {self.name(table)} LIMIT {limit}").collect()
        return [
            Commit(row["version"], row["operation"], row["userMetadata"], row["operationMetrics"] or {}) for row in rows
        ]

    def prepare(self, spark: SparkSession, table: Table) -> None:
        schema = ".".join(f"`{part}`" for part in self._parts(table)[:-1])
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")


class DeltaSparkLakehouse(Lakehouse):
    """Tables of a place, read and committed by Spark."""

    def __init__(self, spark: SparkSession, place: Place) -> None:
        super().__init__(spark)
        self.place = place
        self._writing = threading.Lock()

    def where(self, table: Table) -> str:
        return self.place.where(table)

    def version(self, table: Table) -> int | None:
        return self.place.version(self.spark, table)

    def read(self, table: Table, *, version: int | None = None) -> DataFrame:
        self._read.add((table.layer, table.name))
        reader = self.spark.read
        if version is not None:
            reader = reader.option("versionAsOf", version)
        else:
            self.place.refuse_if_torn(table)
        with self._explaining(table):
            return reader.table(self.place.name(table))

    def _explaining(self, table: Table | None) -> AbstractContextManager[None]:
        return self.place.explaining(table, self._read)

    def _turn(self, table: Table) -> AbstractContextManager[None]:
        return self.place.turn(table)

    def _rows(
        self, table: Table, window: Window, version: int, months: list[str] | None, columns: tuple[str, ...]
    ) -> pa.Table:
        rows = self.place.rows(table, window, version, months, columns)
        return super()._rows(table, window, version, months, columns) if rows is None else rows

    def _create(self, table: Table) -> None:
        columns = ", ".join(
            f"`{column.name}` {column.type}{'' if column.nullable else ' NOT NULL'} COMMENT {quoted(column.comment)}"
            for column in table.columns
        )
        told = ", ".join(f"{quoted(name)} = {quoted(value)}" for name, value in properties(table).items())
        try:
            self.place.prepare(self._writer, table)
            self._writer.sql(
                f"CREATE TABLE IF NOT EXISTS {self.place.name(table)} ({columns}) USING DELTA "
                f"PARTITIONED BY (`{table.partition}`) COMMENT {quoted(table.meaning)} TBLPROPERTIES ({told})"
            )
        except Exception:
            # Another writer made it at the same moment; each layer that can notice has an error of its own.
            if self.version(table) is None:
                raise

    def _add_columns(self, table: Table, columns: list[Column]) -> None:
        told = ", ".join(f"`{column.name}` {column.type} COMMENT {quoted(column.comment)}" for column in columns)
        with self._writing, _races():
            try:
                self._writer.sql(f"ALTER TABLE {self.place.name(table)} ADD COLUMNS ({told})").collect()
            except PySparkException:
                # Another writer added them at the same moment.
                if not {column.name for column in columns} <= self.types(table).keys():
                    raise

    def _append(self, table: Table, rows: pa.Table) -> None:
        def write(session: SparkSession) -> None:
            frame = session.createDataFrame(conform(rows, table))
            frame.write.format("delta").mode("append").saveAsTable(self.place.name(table))

        if table.append_only:
            # Appends do not disturb each other, and nothing is computed from a version of bronze.
            with self._writing, _races():
                write(self._writer)
        else:
            version = self.version(table)
            assert version is not None
            self._commit(table, version, write)

    def _merge(self, table: Table, months: list[str], rows: pa.Table, version: int) -> None:
        # Literal months prune partitions: the cost does not grow with the table.
        literals = ", ".join(f"'{month}'" for month in months)
        same_key = " AND ".join(f"t.`{name}` = s.`{name}`" for name in table.key)
        marked = conform(rows, table).append_column("_change", rows["_change"].combine_chunks().cast(pa.string()))

        assign = ", ".join(f"t.`{name}` = s.`{name}`" for name in table.value_columns)
        names = ", ".join(f"`{name}`" for name in table.column_names)
        fresh = ", ".join(f"s.`{name}`" for name in table.column_names)

        def write(session: SparkSession) -> None:
            session.createDataFrame(marked).createOrReplaceTempView("emaps_changes")
            session.sql(
                f"MERGE INTO {self.place.name(table)} t USING emaps_changes s "  # noqa: S608  # names of the contract
                f"ON t.`{table.partition}` IN ({literals}) AND {same_key} "
                f"WHEN MATCHED AND s.`_change` = 'updated' THEN UPDATE SET {assign} "
                f"WHEN NOT MATCHED AND s.`_change` = 'inserted' THEN INSERT ({names}) VALUES ({fresh})"
            ).collect()

        self._commit_alone(table, version, write)

    def _replace(self, table: Table, window: Window, rows: pa.Table, version: int) -> None:
        hours = f"datetime >= '{window.start.isoformat()}' AND datetime < '{window.end.isoformat()}'"

        def write(session: SparkSession) -> None:
            frame = session.createDataFrame(conform(rows, table))
            frame.write.format("delta").mode("overwrite").option("replaceWhere", hours).saveAsTable(
                self.place.name(table)
            )

        self._commit_alone(table, version, write)

    def _overwrite(self, table: Table, parts: Iterator[pa.Table], version: int) -> None:
        # All of a table at once: 20 MB a zone and year.
        rows = pa.concat_tables([conform(part, table) for part in parts])

        def write(session: SparkSession) -> None:
            # Comments come with the schema. Delta makes every column nullable here; null keys are a check's.
            fields = session.createDataFrame([], table.schema).schema.fields
            schema = StructType(
                [
                    StructField(field.name, field.dataType, True, {"comment": column.comment})
                    for field, column in zip(fields, table.columns, strict=True)
                ]
            )
            writer = session.createDataFrame(rows, schema).write.format("delta").mode("overwrite")
            writer.option("overwriteSchema", "true").partitionBy(table.partition).saveAsTable(self.place.name(table))

        self._commit_alone(table, version, write)

    def _size(self, table: Table) -> Size:
        detail = self.spark.sql(f"DESCRIBE DETAIL {self.place.name(table)}").collect()[0]
        return Size(detail["numFiles"], detail["sizeInBytes"])

    def _compact(self, table: Table) -> None:
        with self._writing, _races():
            self._writer.sql(f"OPTIMIZE {self.place.name(table)}").collect()

    def _vacuum(self, table: Table, retain: timedelta) -> int:
        version = self.version(table)
        assert version is not None
        with self._writing, _races():
            self._writer.sql(f"VACUUM {self.place.name(table)} RETAIN {math.ceil(retain / HOUR)} HOURS").collect()
        since = [commit for commit in self._history_from(table, version) if commit.version > version]
        return sum(int(c.metrics.get("numDeletedFiles", 0)) for c in since if c.operation == "VACUUM END")

    @cached_property
    def _writer(self) -> SparkSession:
        """A session of its own: what marks a commit is a setting, and must mark no other's."""
        session = self.spark.newSession()
        for name, value in _WRITING.items():
            session.conf.set(name, value)
        return session

    def _commit(self, table: Table, version: int, write: Callable[[SparkSession], None]) -> list[Commit]:
        """Commit what was made from `version` unless another of our writers has changed rows since.

        Returns:
            The commits that came between.
        """
        mark = f"emaps {uuid4().hex}"
        settings = {
            # Delta takes a transaction of an application only with a higher number than that of the last one taken.
            # Ours carries the version that it was made from, so of two made from one version one is taken.
            "spark.databricks.delta.write.txnAppId": TRANSACTIONS,
            "spark.databricks.delta.write.txnVersion": str(self._last_change(table, version)),
            "spark.databricks.delta.commitInfo.userMetadata": mark,
        }
        with self._writing, _races():
            for name, value in settings.items():
                self._writer.conf.set(name, value)
            try:
                write(self._writer)
            finally:
                for name in settings:
                    self._writer.conf.unset(name)
        since = [commit for commit in self._history_from(table, version) if commit.version > version]
        ours = next((commit for commit in since if commit.mark == mark), None)
        if ours is None:
            raise LostRaceError(f"another writer has committed since version {version}, nothing was written")
        return [commit for commit in since if commit.version < ours.version]

    def _commit_alone(self, table: Table, version: int, write: Callable[[SparkSession], None]) -> None:
        """Commit what was made from `version` and holds only if no row has changed since."""
        for commit in self._commit(table, version, write):
            if not commit.is_maintenance:
                # Not one of our writers. Ours is written already: computing again finds and heals what is stale.
                raise LostRaceError(f"version {commit.version} ({commit.operation}) came between")

    def _last_change(self, table: Table, version: int) -> int:
        """The last version up to this one that may have changed rows: of all between, rows are the same."""
        for commit in self._history_from(table, version, or_before=True):
            if commit.version <= version and not commit.is_maintenance:
                return commit.version
        return version

    def _history_from(self, table: Table, version: int, *, or_before: bool = False) -> list[Commit]:
        """The commits from that version on, newest first; `or_before` goes back to the last that may change rows."""
        limit = 10
        while True:
            commits = self.place.history(self.spark, table, limit)
            reached = [c for c in commits if c.version <= version and not (or_before and c.is_maintenance)]
            if reached or len(commits) < limit:
                return commits
            limit *= 10


@contextmanager
def _races() -> Iterator[None]:
    """Delta's refusals of a commit are lost races: nothing was written, and computing again may win."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        told = str(error.java_exception) if isinstance(error, Py4JJavaError) else f"{type(error).__name__}: {error}"
        if _LOST_RACE.search(told) or "DELTA_CONCURRENT_" in told:
            raise LostRaceError(told.splitlines()[0]) from error
        raise
