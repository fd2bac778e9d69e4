"""A Delta folder's files for Arrow, read by Arrow itself.

By default deltalake passes every byte to Arrow as a Python object (its `DeltaStorageHandler`). Arrow's threads drop the
last of these objects a moment after the answer is there. If the interpreter is ending by then, they cannot get its
lock, and the process aborts: "terminate called without an active exception", return code 134. Every pyarrow that was
tried does that (18, 19.0.1, 20, 21, 22, 23.0.1, 24, 25, 26), so no pin avoids it. Bytes that Arrow reads itself belong
to no interpreter.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow import fs


def files_of(table: DeltaTable) -> fs.FileSystem:
    """What deltalake's reading methods take as `filesystem`, for a table in a folder of this machine."""
    folder = url2pathname(urlsplit(table.table_uri).path)
    return fs.SubTreeFileSystem(folder, fs.LocalFileSystem())


def dataset(table: DeltaTable, predicate: Any = None) -> ds.Dataset:
    """The rows of the files that a predicate does not rule out; see deltalake's `file_pruning_predicate`."""
    return table.to_pyarrow_dataset(file_pruning_predicate=predicate, filesystem=files_of(table))
