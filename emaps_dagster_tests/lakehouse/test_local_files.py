"""Reading a Delta folder does not abort the process at its end (issue 16, item 26)."""

from __future__ import annotations

import ast
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import fs

import emaps_dagster
from emaps_dagster.lakehouse.local_files import dataset, files_of
from emaps_dagster_tests.support.endings import count, ending, scripts

PACKAGE = Path(emaps_dagster.__file__).parent
READING = {"to_pyarrow_dataset", "to_pyarrow_table", "to_pandas"}
READ = """
import sys
from deltalake import DeltaTable
from emaps_dagster.lakehouse.local_files import dataset

print(dataset(DeltaTable(sys.argv[1])).to_table().num_rows)
"""


@pytest.fixture
def table(tmp_path: Path) -> DeltaTable:
    folder = tmp_path / "my tables"
    hours = pa.table({"hour": list(range(48)), "value": [0.5] * 48, "year_month": ["2024-01"] * 24 + ["2024-02"] * 24})
    write_deltalake(str(folder), hours, partition_by=["year_month"])
    return DeltaTable(str(folder))


def test_arrow_reads_the_files_itself_and_not_through_python(table: DeltaTable) -> None:
    assert table.to_pyarrow_dataset().filesystem.type_name.startswith("py::")
    files = dataset(table).filesystem
    assert isinstance(files, fs.SubTreeFileSystem)
    assert files.base_fs.type_name == "local"


def test_what_is_read_is_what_deltalake_reads(table: DeltaTable) -> None:
    assert dataset(table).to_table().sort_by("hour") == table.to_pyarrow_table().sort_by("hour")
    assert len(table.to_pandas(filesystem=files_of(table))) == 48
    february = dataset(table, [("year_month", "in", ["2024-02"])]).to_table(["hour"])
    assert sorted(february["hour"].to_pylist()) == list(range(24, 48))


def test_a_process_that_read_ends_well(table: DeltaTable, tmp_path: Path) -> None:
    def read(_: int) -> tuple[int, str, str]:
        command = [sys.executable, "-c", READ, str(tmp_path / "my tables")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    with ThreadPoolExecutor(4) as runs:
        # By deltalake's default one in four aborts.
        assert set(runs.map(read, range(12))) == {(0, "48\n", "")}


def test_the_long_proof_counts_what_aborts(tmp_path: Path) -> None:
    (tmp_path / "demo" / "warehouse").mkdir(parents=True)
    assert count(lambda: ending(["-c", "import os; os.abort()"], tmp_path, ""), 2, 2) == {-6: 2}
    assert count(lambda: ending(["-c", "import demo"], tmp_path, ""), 2, 1) == {0: 2}
    names = ["README: features", "README: deltalake", "README: polars", "README: duckdb", "README: spark"]
    assert [name for name in scripts() if name.startswith("README")] == names


def test_nothing_of_the_package_reads_by_deltalakes_default() -> None:
    calls = [
        (path.name, node.lineno, {keyword.arg for keyword in node.keywords})
        for path in PACKAGE.rglob("*.py")
        if "DeltaTable" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READING
    ]
    # features.load asks Arrow, not Delta, for pandas.
    by_default = [call[:2] for call in calls if "filesystem" not in call[2] and "types_mapper" not in call[2]]
    assert calls
    assert by_default == []
