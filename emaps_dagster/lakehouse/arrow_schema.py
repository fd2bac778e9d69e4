"""Arrow schemas of the contracts, and rows conformed to them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from emaps_dagster.contracts.table_contract import Column, Table

_ARROW = {
    "string": pa.string(),
    "double": pa.float64(),
    "int": pa.int32(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "map<string,double>": pa.map_(pa.string(), pa.float64()),
}


def arrow_schema(table: Table) -> pa.Schema:
    """The Arrow schema of a contract."""
    return pa.schema([pa.field(column.name, _ARROW[column.type], column.nullable) for column in table.columns])


def conform(rows: pa.Table, table: Table) -> pa.Table:
    """Casts rows to exactly the contract's columns and types.

    A column that is missing or cannot be cast becomes null, so that the other checks can run and find the nulls;
    `schema_matches_the_contract` reports the wrong schema. Times without a zone are UTC.
    """
    stored = dict(zip(rows.column_names, rows.columns, strict=True))
    return pa.table(
        {column.name: _conformed(stored.get(column.name), column, rows.num_rows) for column in table.columns}
    )


def _conformed(values: pa.ChunkedArray | None, column: Column, rows: int) -> Any:
    type_ = _ARROW[column.type]
    if values is not None and values.type == type_:
        return values
    if values is not None:
        try:
            return values.cast(type_, safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            pass
    return pa.nulls(rows, type_)
