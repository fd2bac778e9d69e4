"""Converts contracts to deltalake schemas and table properties, and builds commit properties."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake import CommitProperties, Field, Schema, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.schema import MapType, PrimitiveType

from emaps_dagster.contracts.table_contract import Column, Table
from emaps_dagster.lakehouse.reports import CommitConflictError

# Transaction name under which a commit that changes rows records the version it was computed from. delta-rs compares
# versions only; Spark's Delta, which rebases, needs the transaction (docs/adr/0008).
TXN_APP_ID = "emaps"


def properties(table: Table) -> dict[str, str]:
    """The Delta properties of a table, equal for all engines."""
    narrowing = ("zone", "datetime", "window_start", "window_end")
    return {
        "delta.appendOnly": "true" if table.append_only else "false",
        # Columns that reads filter by; statistics of a hundred value columns would only enlarge the log.
        "delta.dataSkippingStatsColumns": ",".join(name for name in narrowing if name in table.column_names),
    }


@contextmanager
def commit_conflicts() -> Iterator[None]:
    """Converts delta-rs's commit failure to a CommitConflictError: nothing was written, and a retry may succeed."""
    try:
        yield
    except CommitFailedError as error:
        raise CommitConflictError(str(error)) from error


def made_from(version: int) -> CommitProperties:
    """Commit properties that record the base version, so that no engine rebases the commit onto unseen rows."""
    return CommitProperties(max_commit_retries=0, app_transactions=[Transaction(TXN_APP_ID, version)])


def delta_schema(table: Table) -> Schema:
    return Schema([_field(column) for column in table.columns])


def _arrow_schema(table: Table) -> pa.Schema:
    return pa.schema(delta_schema(table).to_arrow())


def _field(column: Column) -> Field:
    primitive = {"int": "integer"}
    type_: PrimitiveType | MapType = (
        MapType(PrimitiveType("string"), PrimitiveType("double"))
        if column.type == "map<string,double>"
        else PrimitiveType(primitive.get(column.type, column.type))
    )
    return Field(column.name, type_, nullable=column.nullable, metadata={"comment": column.comment})
