"""The rows of a table after a merge, in Arrow: what MERGE would leave, for partitions that fit into memory.

delta-rs plans a MERGE as a query over every column: 0.35 CPU s for one row among 336 of 171 columns, where writing the
month takes 0.06 s. Either way the month's file is rewritten whole (docs/adr/0024).
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from emaps_dagster.contracts.table_contract import Table


def merged_rows(stored: pa.Table, changes: pa.Table, table: Table) -> pa.Table:
    """The stored rows with updated rows in their places, then the inserted rows.

    A key that is stored twice is updated twice, as MERGE does: its check reports it.

    Args:
        stored: all rows of the partitions to replace, columns of the contract.
        changes: rows with `_change`, "updated" or "inserted"; a key occurs once.
        table: silver or gold.
    """
    names = table.column_names
    stored = stored.select(names)
    updated, inserted = (
        changes.filter(pc.field("_change") == change).select(names).cast(stored.schema)
        for change in ("updated", "inserted")
    )
    key = list(table.key)
    places = updated.select(key).append_column("_place", _numbers(stored.num_rows, updated.num_rows))
    own = stored.select(key).append_column("_row", _numbers(0, stored.num_rows))
    found = own.join(places, key).sort_by("_row")
    rows = pc.coalesce(found["_place"], found["_row"])
    return pa.concat_tables([pa.concat_tables([stored, updated]).take(rows), inserted])


def _numbers(first: int, count: int) -> pa.Array:
    return pa.array(range(first, first + count), pa.int64())
