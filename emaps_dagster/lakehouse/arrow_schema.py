"""Arrow schemas of the contracts, and rows conformed to them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from emaps_dagster.contracts.tables import Column, Table

_ARROW = {
    "string": pa.string(),
    "double": pa.float64(),
    "int": pa.int32(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "map<string,double>": pa.map_(pa.string(), pa.float64()),
}


def arrow_schema(table: Table) -> pa.Schema:
    """The contract's columns as Arrow's."""
    return pa.schema([pa.field(column.name, _ARROW[column.type], column.nullable) for column in table.columns])


def conform(rows: pa.Table, table: Table) -> pa.Table:
    """The rows with exactly the contract's columns and types, whatever is stored.

    A column that is missing or cannot be read as its type becomes null, so that judging goes on and finds the
    nulls; that the schema is wrong is told by `schema_matches_the_contract`. Times without a zone are UTC.
    """
    return pa.table({column.name: _conformed(rows, column) for column in table.columns})


def _conformed(rows: pa.Table, column: Column) -> Any:
    type_ = _ARROW[column.type]
    if column.name in rows.column_names:
        try:
            return rows.column(column.name).cast(type_, safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            pass
    return pa.nulls(rows.num_rows, type_)
