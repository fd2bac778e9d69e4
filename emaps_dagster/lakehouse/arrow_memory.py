"""Copies rows that Spark returned into Arrow's own memory.

pyspark hands Arrow the bytes of a socket or of a gRPC message as Python objects. Arrow's threads (`group_by`, `join`,
`filter`) release the last of them shortly after a result is complete. If the interpreter is shutting down by then, the
process aborts with "terminate called without an active exception", although its work is done; local_files.py avoids the
same for files. A task of a job would end as failed.
"""

from __future__ import annotations

import pyarrow as pa


def in_arrow_memory(rows: pa.Table) -> pa.Table:
    """The same rows and schema, without a buffer that is a Python object."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return pa.ipc.open_stream(sink.getvalue()).read_all()
