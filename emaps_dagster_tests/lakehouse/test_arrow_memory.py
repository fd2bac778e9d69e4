"""Rows that Spark returned keep no Python object alive, whose release by a thread of Arrow aborts the process."""

from __future__ import annotations

import io
import sys
from datetime import datetime, timezone

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from emaps_dagster.lakehouse.arrow_memory import in_arrow_memory
from emaps_dagster_tests.support.engines import open_folders

pytestmark = pytest.mark.both_engines
ROWS = pa.table(
    {
        "zone": pa.array(["GR", None, "BG"]),
        "datetime": pa.array([datetime(2024, 5, 4, tzinfo=timezone.utc)] * 3, pa.timestamp("us", "UTC")),
        "flows": pa.array([[("AL", 1.5)], None, []], pa.map_(pa.string(), pa.float64())),
        "change": pa.array(["new", "new", None]).dictionary_encode(),
    }
)


def _over(raw: bytes) -> pa.Table:
    """As pyspark makes a table: over bytes of Python."""
    return pa.ipc.open_stream(pa.py_buffer(raw)).read_all()


def _raw(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows, max_chunksize=2)
    return sink.getvalue()


@pytest.mark.embedded_alone("no engine is asked")
def test_the_copy_is_equal_and_holds_no_python_object() -> None:
    raw = _raw(ROWS)
    alone = sys.getrefcount(raw)
    rows = _over(raw)
    assert sys.getrefcount(raw) > alone, "a table over bytes holds them"
    copy = in_arrow_memory(rows)
    assert copy.equals(rows)
    assert copy.schema.equals(rows.schema, check_metadata=True)
    del rows
    assert sys.getrefcount(raw) == alone
    assert in_arrow_memory(ROWS.slice(0, 0)).schema == ROWS.schema


def test_what_a_lakehouse_collects_is_such_a_copy(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[pa.Table] = []

    def copy(rows: pa.Table) -> pa.Table:
        copied.append(in_arrow_memory(rows))
        return copied[-1]

    monkeypatch.setattr("emaps_dagster.lakehouse.storage.in_arrow_memory", copy)
    lakehouse = open_folders(spark, tmp_path_factory.mktemp("empty"))
    assert lakehouse.collect(spark.range(3)) is copied[-1]
    assert copied[-1].column(0).to_pylist() == [0, 1, 2]
