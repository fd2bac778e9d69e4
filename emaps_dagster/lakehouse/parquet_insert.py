"""Commits Parquet files that the engine wrote: initial loads bypass the merge."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction, RemoveAction
from pyspark.sql.pandas.types import from_arrow_schema

from emaps_dagster.contracts.errors import LakehouseError
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.lakehouse.delta_commits import commit_conflicts, delta_schema, made_from
from emaps_dagster.transforms.quality.contract import column_differences

# For the engine's writer. Values of measurements seldom repeat, so dictionaries make files longer. zstd would make them
# a third shorter and take a tenth of the time of a first backfill.
FILE_OPTIONS = {"compression": "snappy", "dictionary_enabled": "false"}


def keys_of(path: Path, table: Table) -> pa.Table:
    """Reads the keys of a file's rows; raises unless it has the contract's columns and no forbidden null."""
    with pq.ParquetFile(path) as file:
        differences = [*_schema_differences(file.schema_arrow, table)]
        required = {column.name for column in table.columns if not column.nullable}
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        chunks = [group.column(place) for group in groups for place in range(group.num_columns)]
        nulls = [c.path_in_schema for c in chunks if c.path_in_schema in required and c.statistics.null_count]
        differences += [f"column {name} holds nulls" for name in sorted(set(nulls))]
        if differences:
            raise LakehouseError(
                f"{table.qualified_name}: what was computed is not what its contract promises: "
                f"{'; '.join(differences)}. Nothing was written."
            )
        return file.read(columns=list(table.key))


# The files of one write have one schema.
@lru_cache(maxsize=8)
def _schema_differences(schema: pa.Schema, table: Table) -> tuple[str, ...]:
    stored = from_arrow_schema(schema)
    types = {field.name: field.dataType.simpleString() for field in stored.fields} | {table.partition: "string"}
    return tuple(column_differences(types, table))


def moved(path: Path, target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    return path.rename(target)


def commit_files(delta: DeltaTable, table: Table, folder: Path, files: dict[Path, pa.Table], version: int) -> None:
    """Commits files of a table's folder, each with the keys of its rows, computed from `version`."""
    added: list[AddAction | RemoveAction] = [
        AddAction(
            str(path.relative_to(folder)),
            path.stat().st_size,
            dict([path.parent.name.split("=")]),
            int(path.stat().st_mtime * 1000),
            True,
            json.dumps(_statistics(keys)),
        )
        for path, keys in files.items()
    ]
    with commit_conflicts():
        delta.create_write_transaction(
            added, "append", delta_schema(table), [table.partition], commit_properties=made_from(version)
        )


def _statistics(keys: pa.Table) -> dict[str, Any]:
    """The file statistics for Delta's log, of the key columns, by which reads filter (see `properties`)."""
    ends = {name: pc.min_max(keys[name]).as_py() for name in keys.column_names}
    return {
        "numRecords": keys.num_rows,
        "minValues": {name: _in_log(end["min"]) for name, end in ends.items()},
        "maxValues": {name: _in_log(end["max"]) for name, end in ends.items()},
        "nullCount": dict.fromkeys(ends, 0),
    }


def _in_log(value: str | datetime) -> str:
    return value if isinstance(value, str) else f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"
