"""Tables committed by Spark's own Delta: folders of a local JVM, or tables of a catalog on Databricks.

merge.py implements merge and rebuild, storage.py their retries; docs/adr/0008 explains why each commit is a
compare-and-swap.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import cached_property
from uuid import uuid4

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

from emaps_dagster.contracts.table_contract import Column, Table
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.delta_commits import TXN_APP_ID, properties
from emaps_dagster.lakehouse.locations import Commit, TableLocations, quoted
from emaps_dagster.lakehouse.reports import CommitConflictError, Size

_WRITING = {
    "spark.sql.session.timeZone": "UTC",
    # Spark's default is a type that Parquet has deprecated.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # The rows of a merge come from Arrow: a second read returns the same rows.
    "spark.databricks.delta.merge.materializeSource": "none",
    # base.py checks the retention; the table's history reports the number of removed files.
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.databricks.delta.vacuum.logging.enabled": "true",
}
# The marks of a commit, by the option of a writer that holds each; the settings that hold them for any statement.
Marks = Mapping[str, str]
_SETTINGS_OF_MARKS = {
    "txnAppId": "spark.databricks.delta.write.txnAppId",
    "txnVersion": "spark.databricks.delta.write.txnVersion",
    "userMetadata": "spark.databricks.delta.commitInfo.userMetadata",
}
# Delta's exceptions for conflicting commits; pyspark wraps them in several ways.
_LOST_RACE = re.compile(r"\b(Concurrent\w+|DeltaConcurrentModification|MetadataChanged|ProtocolChanged)Exception\b")


class DeltaSparkLakehouse(Lakehouse):
    """Tables at a `TableLocations`, read and committed by Spark."""

    def __init__(self, spark: SparkSession, place: TableLocations) -> None:
        super().__init__(spark)
        self.place = place
        self._writing = threading.Lock()

    def location(self, table: Table) -> str:
        return self.place.location(table)

    def version(self, table: Table) -> int | None:
        return self.place.version(self.spark, table)

    def exists(self, table: Table) -> bool:
        return self.place.exists(self.spark, table)

    def scan(self, table: Table, *, version: int | None = None) -> DataFrame:
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

    def _lock(self, table: Table) -> AbstractContextManager[None]:
        return self.place.table_lock(table)

    def _rows(
        self, table: Table, window: Window, version: int | None, months: list[str] | None, columns: tuple[str, ...]
    ) -> pa.Table:
        rows = self.place.rows(table, window, version, months, columns)
        return super()._rows(table, window, version, months, columns) if rows is None else rows

    def _create(self, table: Table) -> None:
        columns = ", ".join(
            f"`{column.name}` {column.type}{'' if column.nullable else ' NOT NULL'} COMMENT {quoted(column.comment)}"
            for column in table.columns
        )
        options = ", ".join(f"{quoted(name)} = {quoted(value)}" for name, value in properties(table).items())
        try:
            self.place.prepare(self._writer, table)
            self._writer.sql(
                f"CREATE TABLE IF NOT EXISTS {self.place.name(table)} ({columns}) USING DELTA "
                f"PARTITIONED BY (`{table.partition}`) COMMENT {quoted(table.meaning)} TBLPROPERTIES ({options})"
            )
        except Exception:
            # Another writer created it at the same moment; each layer that can detect this raises its own error.
            if not self.exists(table):
                raise

    def _add_columns(self, table: Table, columns: list[Column]) -> None:
        definitions = ", ".join(f"`{column.name}` {column.type} COMMENT {quoted(column.comment)}" for column in columns)
        with self._writing, _races():
            try:
                self._writer.sql(f"ALTER TABLE {self.place.name(table)} ADD COLUMNS ({definitions})").collect()
            except PySparkException:
                # Another writer added them at the same moment.
                if not {column.name for column in columns} <= self.types(table).keys():
                    raise

    def _append(self, table: Table, rows: pa.Table) -> None:
        def write(session: SparkSession, marks: Marks) -> None:
            frame = self._frame(session, conform(rows, table))
            frame.write.format("delta").mode("append").options(**marks).saveAsTable(self.place.name(table))

        if table.append_only:
            # Appends do not conflict, and nothing is computed from a version of bronze.
            with self._writing, _races():
                write(self._writer, {})
        else:
            version = self.version(table)
            assert version is not None
            self._commit(table, version, write)

    def _merge(self, table: Table, months: list[str], rows: pa.Table, version: int, stored: pa.Table) -> None:  # noqa: ARG002  # MERGE reads them
        # Literal months prune partitions, so the cost does not grow with the table.
        literals = ", ".join(f"'{month}'" for month in months)
        same_key = " AND ".join(f"t.`{name}` = s.`{name}`" for name in table.key)
        marked = conform(rows, table).append_column("_change", rows["_change"].combine_chunks().cast(pa.string()))

        assign = ", ".join(f"t.`{name}` = s.`{name}`" for name in table.value_columns)
        names = ", ".join(f"`{name}`" for name in table.column_names)
        fresh = ", ".join(f"s.`{name}`" for name in table.column_names)

        def write(session: SparkSession, _: Marks) -> None:
            session.createDataFrame(marked).createOrReplaceTempView("emaps_changes")
            session.sql(
                f"MERGE INTO {self.place.name(table)} t USING emaps_changes s "  # noqa: S608  # names of the contract
                f"ON t.`{table.partition}` IN ({literals}) AND {same_key} "
                f"WHEN MATCHED AND s.`_change` = 'updated' THEN UPDATE SET {assign} "
                f"WHEN NOT MATCHED AND s.`_change` = 'inserted' THEN INSERT ({names}) VALUES ({fresh})"
            ).collect()

        self._commit_alone(table, version, write)

    def _replace(self, table: Table, window: Window, rows: pa.Table, version: int) -> None:
        hours = hours_of(window)

        def write(session: SparkSession, marks: Marks) -> None:
            writer = self._frame(session, conform(rows, table)).write.format("delta").mode("overwrite")
            writer.options(replaceWhere=hours, **marks).saveAsTable(self.place.name(table))

        self._commit_alone(table, version, write)

    def _overwrite(self, table: Table, parts: Iterator[pa.Table], version: int) -> None:
        # The whole table fits in memory: 20 MB per zone and year.
        rows = pa.concat_tables([conform(part, table) for part in parts])

        def write(session: SparkSession, marks: Marks) -> None:
            # The schema carries the comments. Delta makes every column nullable here; a check finds null keys.
            fields = session.createDataFrame([], table.schema).schema.fields
            schema = StructType(
                [
                    StructField(field.name, field.dataType, True, {"comment": column.comment})
                    for field, column in zip(fields, table.columns, strict=True)
                ]
            )
            writer = self._frame(session, rows, schema).write.format("delta").mode("overwrite")
            writer = writer.options(overwriteSchema="true", **marks).partitionBy(table.partition)
            writer.saveAsTable(self.place.name(table))

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
        """A session of its own, as the settings that mark a commit must not affect other sessions."""
        session = self.spark.newSession()
        for name, value in _WRITING.items():
            session.conf.set(name, value)
        return session

    def _frame(self, session: SparkSession, rows: pa.Table, schema: StructType | None = None) -> DataFrame:
        """The rows as a DataFrame of the session."""
        return session.createDataFrame(rows, schema) if schema else session.createDataFrame(rows)

    def _commit(self, table: Table, version: int, write: Callable[[SparkSession, Marks], None]) -> list[Commit]:
        """Commits rows computed from `version` unless another writer of this project has changed rows since.

        Returns:
            The commits in between.
        """
        user_metadata = f"emaps {uuid4().hex}"
        before = self._history_from(table, version, or_before=True)
        self._refuse_commits([commit for commit in before if commit.version > version], version)
        marks = {
            # Delta accepts a transaction of an application only with a higher number than its last accepted one.
            # The number here is the base version, so of two commits from one version only one is accepted.
            "txnAppId": TXN_APP_ID,
            "txnVersion": str(_last_change(before, version)),
            "userMetadata": user_metadata,
        }
        with self._writing, _races():
            self._write_marked(write, marks)
        since = [commit for commit in self._history_from(table, version) if commit.version > version]
        ours = next((commit for commit in since if commit.user_metadata == user_metadata), None)
        if ours is None:
            raise CommitConflictError(f"another writer has committed since version {version}, nothing was written")
        return [commit for commit in since if commit.version < ours.version]

    def _refuse_commits(self, since: list[Commit], version: int) -> None:
        """Raises CommitConflictError for commits since `version` that would not be found by the commit itself."""

    def _write_marked(self, write: Callable[[SparkSession, Marks], None], marks: Marks) -> None:
        """Writes with the marks of a commit: as settings, since MERGE takes no options."""
        for name, value in marks.items():
            self._writer.conf.set(_SETTINGS_OF_MARKS[name], value)
        try:
            write(self._writer, {})
        finally:
            for name in marks:
                self._writer.conf.unset(_SETTINGS_OF_MARKS[name])

    def _commit_alone(self, table: Table, version: int, write: Callable[[SparkSession, Marks], None]) -> None:
        """Commits rows computed from `version` that are valid only if no row has changed since."""
        for commit in self._commit(table, version, write):
            if not commit.is_maintenance:
                # A foreign writer committed in between. Our commit is written already: the retry repairs stale rows.
                raise CommitConflictError(f"version {commit.version} ({commit.operation}) came between")

    def _history_from(self, table: Table, version: int, *, or_before: bool = False) -> list[Commit]:
        """The commits from a version on, newest first; `or_before` extends back to the last that may change rows."""
        limit = 10
        while True:
            commits = self.place.history(self.spark, table, limit)
            reached = [c for c in commits if c.version <= version and not (or_before and c.is_maintenance)]
            if reached or len(commits) < limit:
                return commits
            limit *= 10


def _last_change(commits: list[Commit], version: int) -> int:
    """The last version up to this one that may have changed rows; all versions in between have equal rows."""
    return next((one.version for one in commits if one.version <= version and not one.is_maintenance), version)


def hours_of(window: Window) -> str:
    """The SQL condition of the window's hours."""
    return f"datetime >= '{window.start.isoformat()}' AND datetime < '{window.end.isoformat()}'"


@contextmanager
def _races() -> Iterator[None]:
    """Converts Delta's commit conflicts to CommitConflictError: nothing was written, and a retry may succeed."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        text = str(error.java_exception) if isinstance(error, Py4JJavaError) else f"{type(error).__name__}: {error}"
        if _LOST_RACE.search(text) or "DELTA_CONCURRENT_" in text:
            raise CommitConflictError(text.splitlines()[0]) from error
        raise
