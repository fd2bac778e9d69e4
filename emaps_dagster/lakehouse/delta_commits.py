"""Schemas, table properties and commits in the terms of deltalake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake import CommitProperties, Field, Schema, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.schema import MapType, PrimitiveType

from emaps_dagster.contracts.tables import Column, Table
from emaps_dagster.lakehouse.reports import CommitConflictError

# Under this name a commit that changes rows says from which version it was made. delta-rs looks at versions alone;
# Spark's Delta, which rebases, needs it (docs/adr/0008).
TXN_APP_ID = "emaps"


def properties(table: Table) -> dict[str, str]:
    """The Delta properties of a table, whoever creates it."""
    narrowing = ("zone", "datetime", "window_start", "window_end")
    return {
        "delta.appendOnly": "true" if table.append_only else "false",
        # What reads are narrowed by; statistics of a hundred values would only swell the log.
        "delta.dataSkippingStatsColumns": ",".join(name for name in narrowing if name in table.column_names),
    }


@contextmanager
def commit_conflicts() -> Iterator[None]:
    """delta-rs's refusal of a commit is a lost race: nothing was written, and computing again may win."""
    try:
        yield
    except CommitFailedError as error:
        raise CommitConflictError(str(error)) from error


def made_from(version: int) -> CommitProperties:
    """A commit on another base must not be rebased onto rows it has not seen."""
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
