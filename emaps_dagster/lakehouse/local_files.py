"""Opens the files of a Delta folder with Arrow's own file system.

By default deltalake passes every byte to Arrow as a Python object (its `DeltaStorageHandler`). Arrow's threads release
the last of these objects shortly after the result is complete. If the interpreter is shutting down by then, they cannot
take its lock, and the process aborts: "terminate called without an active exception", return code 134. Every tested
pyarrow does that (18, 19.0.1, 20, 21, 22, 23.0.1, 24, 25, 26), so no pin avoids it. Buffers that Arrow reads itself are
not Python objects.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow import fs

from emaps_dagster.contracts.errors import LakehouseError
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.windows import Window


def files_of(table: DeltaTable) -> fs.FileSystem:
    """The `filesystem` argument of deltalake's reading methods, for a table in a local folder."""
    folder = url2pathname(urlsplit(table.table_uri).path)
    return fs.SubTreeFileSystem(folder, fs.LocalFileSystem())


def dataset(table: DeltaTable, predicate: Any = None) -> ds.Dataset:
    """Dataset of the files that a predicate does not exclude; see deltalake's `file_pruning_predicate`."""
    return table.to_pyarrow_dataset(file_pruning_predicate=predicate, filesystem=files_of(table))


def rows_of_files(
    delta: DeltaTable, table: Table, window: Window, months: list[str] | None, columns: tuple[str, ...]
) -> pa.Table:
    """Reads the rows of a window with Arrow, which is faster than the planning of an engine.

    Args:
        delta: the table at a version.
        table: its contract, silver's or gold's; the stored schema may differ.
        window: the hours to read.
        months: the partitions to read; None for all.
        columns: the columns to read, as far as they are stored; all if empty.

    Raises:
        LakehouseError: a file is missing or cannot be read.
    """
    partitions: Any = [(table.partition, "in", months)] if months else None
    wanted = (pc.field("datetime") >= window.start) & (pc.field("datetime") < window.end)
    try:
        stored = dataset(delta, partitions)
        names = [name for name in columns or stored.schema.names if name in stored.schema.names]
        return stored.to_table(names, filter=wanted)
    except (OSError, pa.ArrowException) as error:
        raise LakehouseError(f"{table.qualified_name} at {delta.table_uri} cannot be read: {error}") from error
