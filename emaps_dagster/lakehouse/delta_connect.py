"""Tables of a catalog, committed by Spark's Delta over Spark Connect: serverless compute and standard clusters.

Such a session has no second session, refuses settings, and its MERGE takes no marks of a commit. So the marks are
options of writers, and a merge is an append, or the replacement of a span of hours (docs/adr/0023).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.lakehouse.delta_spark import DeltaSparkLakehouse, Marks, hours_of
from emaps_dagster.lakehouse.locations import Commit, UnityCatalog, quoted
from emaps_dagster.lakehouse.reports import CommitConflictError


class DeltaConnectLakehouse(DeltaSparkLakehouse):
    """Tables at a `TableLocations`, read and committed over Spark Connect."""

    # VACUUM refuses a shorter one unless a setting allows it, which serverless compute refuses in turn.
    shortest_retention = timedelta(days=7)
    _why_no_shorter_retention = "serverless compute and Spark Connect remove no younger files"
    # Rows travel to the server, and what a merge holds should be one local relation.
    _cells = 8_000_000
    # Serverless compute takes 128 MB of local rows at once.
    _largest_relation_bytes = 100 * 2**20

    @property
    def _writer(self) -> SparkSession:
        return self.spark

    def _write_marked(self, write: Callable[[SparkSession, Marks], None], marks: Marks) -> None:
        write(self.spark, marks)

    def _frame(self, session: SparkSession, rows: pa.Table, schema: StructType | None = None) -> DataFrame:
        count = -(-rows.nbytes // self._largest_relation_bytes)
        size = max(1, -(-rows.num_rows // max(1, count)))
        parts = [rows.slice(first, size) for first in range(0, rows.num_rows, size)] or [rows]
        frame = super()._frame
        return reduce(DataFrame.union, [frame(session, part, schema) for part in parts])

    def _merge(self, table: Table, months: list[str], rows: pa.Table, version: int, stored: pa.Table) -> None:
        updated = rows.filter(pc.field("_change") == "updated")
        fresh = conform(rows, table)
        condition = None
        if updated.num_rows:
            span = _span(fresh)
            literals = ", ".join(map(quoted, months))
            condition = f"`{table.partition}` IN ({literals}) AND {hours_of(span)}"
            replaced = stored.filter((pc.field("datetime") >= span.start) & (pc.field("datetime") < span.end))
            fresh = _merged(replaced, conform(updated, table), _inserted(rows, table), table)

        def write(session: SparkSession, marks: Marks) -> None:
            mode, options = ("overwrite", {"replaceWhere": condition}) if condition else ("append", {})
            writer = self._frame(session, fresh).write.format("delta").mode(mode)
            writer.options(**options, **marks).saveAsTable(self.place.name(table))

        self._commit_alone(table, version, write)

    def _refuse_commits(self, since: list[Commit], version: int) -> None:
        # Of all rows in a replaced span those that a stranger has inserted would be lost; MERGE would keep them.
        if not all(commit.is_maintenance for commit in since):
            raise CommitConflictError(f"another writer has committed since version {version}, nothing was written")


def is_connect(session: SparkSession) -> bool:
    """Whether the session is one of Spark Connect."""
    return type(session).__module__.startswith("pyspark.sql.connect")


def catalog_lakehouse(session: SparkSession, catalog: str | None) -> DeltaSparkLakehouse:
    """The tables of a catalog, or of the metastore without one, by the kind of the session."""
    kind = DeltaConnectLakehouse if is_connect(session) else DeltaSparkLakehouse
    return kind(session, UnityCatalog(catalog))


def _inserted(rows: pa.Table, table: Table) -> pa.Table:
    return conform(rows.filter(pc.field("_change") == "inserted"), table)


def _span(rows: pa.Table) -> Window:
    ends = pc.min_max(rows["datetime"]).as_py()
    return Window(ends["min"], ends["max"] + HOUR)


def _merged(stored: pa.Table, updated: pa.Table, inserted: pa.Table, table: Table) -> pa.Table:
    """The rows that MERGE would leave: a key that is stored twice is updated twice."""
    places = updated.select(table.key).append_column("_place", pa.array(range(updated.num_rows), pa.int64()))
    numbered = stored.select(table.key).append_column("_row", pa.array(range(stored.num_rows), pa.int64()))
    found = numbered.join(places, list(table.key), join_type="left outer").sort_by("_row")["_place"].combine_chunks()
    kept = stored.filter(pc.is_null(found))
    return pa.concat_tables([kept, updated.take(found.drop_null()), inserted])
