"""Tables as Delta folders `<warehouse>/<layer>/<table>`: read by Spark, committed by delta-rs.

merge.py implements merge and rebuild, storage.py their retries.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

from emaps_dagster.contracts.errors import DamagedTableError
from emaps_dagster.contracts.paths import plain_path
from emaps_dagster.contracts.table_contract import Column, Table
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.damage import explaining, open_table, refuse_if_torn
from emaps_dagster.lakehouse.delta_commits import (
    _arrow_schema,
    _field,
    commit_conflicts,
    delta_schema,
    made_from,
    properties,
)
from emaps_dagster.lakehouse.local_files import dataset, rows_of_files
from emaps_dagster.lakehouse.locks import interprocess_lock
from emaps_dagster.lakehouse.merged_rows import merged_rows
from emaps_dagster.lakehouse.parquet_insert import FILE_OPTIONS, commit_files, keys_of, moved
from emaps_dagster.lakehouse.reports import CommitConflictError, Size

_LONGEST_WAIT_SECONDS = 60.0


class FolderLakehouse(Lakehouse):
    """Delta folders `<warehouse>/<layer>/<table>`, committed by delta-rs."""

    def __init__(self, spark: SparkSession, warehouse: Path) -> None:
        super().__init__(spark)
        self.warehouse = warehouse.resolve()
        self._root = plain_path(self.warehouse)
        self._opened: dict[str, DeltaTable] = {}

    def location(self, table: Table) -> str:
        return str(self.warehouse / table.layer / table.name)

    def _path(self, table: Table) -> str:
        return str(self._root / table.layer / table.name)

    def _explaining(self, table: Table | None) -> AbstractContextManager[None]:
        return explaining_folders(self.warehouse, table, self._read)

    def _lock(self, table: Table) -> AbstractContextManager[None]:
        return table_lock(Path(self.location(table)))

    def _delta(self, table: Table, version: int | None = None) -> DeltaTable:
        """The table at a version, by default the latest."""
        path = self._path(table)
        opened = self._opened.get(path)
        if version is not None and opened and opened.version() == version:
            return opened
        if version is not None or not opened:
            found = open_table(self._root, self.warehouse, table.layer, table.name, version)
            return found if version is not None else self._opened.setdefault(path, found)
        try:
            with self._explaining(table):
                # Reads only new log entries: opening a table of ten years costs as much as reading a day of it.
                opened.update_incremental()
            refuse_if_torn(Path(self.location(table)), opened.version())
        except DamagedTableError:
            del self._opened[path]
            raise
        return opened

    def version(self, table: Table) -> int | None:
        try:
            return self._delta(table).version()
        except TableNotFoundError:
            return None

    def scan(self, table: Table, *, version: int | None = None) -> DataFrame:
        self._read.add((table.layer, table.name))
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        # Delta's schemas are Spark's; reading the schema with delta-rs saves a round trip to the engine.
        stored = StructType.fromJson(json.loads(self._delta(table, version).schema().to_json()))
        # delta-rs merges write strings as nullable views, which Sail 0.7.2 cannot read into a NOT NULL column
        # unless a file holds one value only: with a second zone every read of silver and gold would fail.
        nullable = StructType([StructField(field.name, field.dataType) for field in stored.fields])
        return reader.schema(nullable).load(self._path(table))

    def types(self, table: Table, *, version: int | None = None) -> dict[str, str]:
        stored = self._delta(table, version).schema()
        return {f.name: f.dataType.simpleString() for f in StructType.fromJson(json.loads(stored.to_json())).fields}

    def _rows(
        self, table: Table, window: Window, version: int | None, months: list[str] | None, columns: tuple[str, ...]
    ) -> pa.Table:
        with self._explaining(table):
            return rows_of_files(self._delta(table, version), table, window, months, columns)

    def _create(self, table: Table) -> None:
        try:
            DeltaTable.create(
                self._path(table),
                schema=delta_schema(table),
                partition_by=[table.partition],
                description=table.meaning,
                configuration=properties(table),
                mode="ignore",
            )
        except CommitFailedError:
            # Another writer created it at the same moment.
            if self.version(table) is None:
                raise

    def _add_columns(self, table: Table, columns: list[Column]) -> None:
        with commit_conflicts():
            self._delta(table).alter.add_columns([_field(column) for column in columns])

    def _append(self, table: Table, rows: pa.Table) -> None:
        delta = self._delta(table)
        _add(delta, rows, None if table.append_only else made_from(delta.version()))

    def _merge(self, table: Table, months: list[str], rows: pa.Table, version: int, stored: pa.Table) -> None:  # noqa: ARG002  # whole months are read here
        target = self._delta(table, version)
        if pc.all(pc.equal(rows["_change"], "inserted")).as_py():
            # Inserts the same rows as a merge, without its scan of the months and its join.
            _add(target, rows.select(table.column_names).cast(_arrow_schema(table)), made_from(version))
            return
        changed = sorted(pc.unique(rows[table.partition]).to_pylist())
        whole = self._whole(target, table, changed)
        if whole is not None:
            merged = merged_rows(whole, rows, table).cast(_arrow_schema(table))
            self._write(table, merged, version, predicate=f"`{table.partition}` IN ({_literals(changed)})")
            return
        # Literal months prune partitions, so the cost does not grow with the table.
        same_key = " AND ".join(f"t.`{name}` = s.`{name}`" for name in table.key)
        merger = target.merge(
            rows,
            predicate=f"t.`{table.partition}` IN ({_literals(months)}) AND {same_key}",
            source_alias="s",
            target_alias="t",
            commit_properties=made_from(version),
        )
        with commit_conflicts():
            (
                merger.when_matched_update({n: f"s.`{n}`" for n in table.value_columns}, "s.`_change` = 'updated'")
                .when_not_matched_insert({n: f"s.`{n}`" for n in table.column_names}, "s.`_change` = 'inserted'")
                .execute()
            )

    def _whole(self, target: DeltaTable, table: Table, months: list[str]) -> pa.Table | None:
        """All rows of the months; None if they are too many for memory, or have other columns than the contract."""
        files = dataset(target, [(table.partition, "in", months)])
        if set(files.schema.names) != set(table.column_names):
            return None
        with self._explaining(table):
            if files.count_rows() * len(table.columns) > self._cells:
                return None
            return files.to_table()

    def _insert(self, table: Table, months: list[str], rows: DataFrame, version: int) -> pa.Table:  # noqa: ARG002  # a merge needs them
        # The engine writes the files, so the values of a backfill do not pass through this process (docs/adr/0011).
        folder = Path(self._path(table))
        staged = folder / f"insert-{uuid4().hex}"
        try:
            rows.write.options(**FILE_OPTIONS).partitionBy(table.partition).parquet(str(staged))
            checked = {path: keys_of(path, table) for path in staged.rglob("*.parquet")}
            # Never deletes the files: a failed commit may have succeeded, and maintenance removes unreferenced files.
            files = {moved(path, folder / path.relative_to(staged)): keys for path, keys in checked.items()}
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        if files:
            commit_files(self._delta(table, version), table, folder, files, version)
        return pa.concat_tables(files.values()) if files else _arrow_schema(table).empty_table().select(list(table.key))

    def _replace(self, table: Table, window: Window, rows: pa.Table, version: int) -> None:
        hours = f"datetime >= '{window.start.isoformat()}' AND datetime < '{window.end.isoformat()}'"
        self._write(table, rows.cast(_arrow_schema(table)), version, predicate=hours)

    def _overwrite(self, table: Table, parts: Iterator[pa.Table], version: int) -> None:
        schema = _arrow_schema(table)
        # Spools to disk: a long table does not fit in memory, and delta-rs's own threads must not compute anything.
        with tempfile.TemporaryFile() as spool:
            with pa.ipc.new_stream(spool, schema) as writer:
                for part in parts:
                    writer.write_table(part.cast(schema))
            spool.seek(0)
            self._write(table, pa.ipc.open_stream(spool), version, schema_mode="overwrite")

    def _size(self, table: Table) -> Size:
        sizes = pa.table(self._delta(table).get_add_actions())["size_bytes"].to_pylist()
        return Size(len(sizes), sum(sizes))

    def _compact(self, table: Table) -> None:
        with commit_conflicts():
            self._delta(table).optimize.compact()

    def _vacuum(self, table: Table, retain: timedelta) -> int:
        hours = math.ceil(retain / HOUR)
        delta = self._delta(table)
        with commit_conflicts():
            # A full vacuum also removes old enough files that killed writers left behind.
            removed = delta.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
        self._delta(table).create_checkpoint()
        # The file is an optional hint for readers; with it, Sail 0.7.2 finds no version before the checkpoint.
        (Path(self._path(table)) / "_delta_log" / "_last_checkpoint").unlink(missing_ok=True)
        return len(removed)

    def _write(
        self,
        table: Table,
        rows: pa.Table | pa.RecordBatchReader,
        version: int,
        predicate: str | None = None,
        schema_mode: Literal["overwrite"] | None = None,
    ) -> None:
        with commit_conflicts():
            write_deltalake(
                self._delta(table, version),
                rows,
                mode="overwrite",
                partition_by=[table.partition],
                commit_properties=made_from(version),
                predicate=predicate,
                schema_mode=schema_mode,
            )


def explaining_folders(
    warehouse: Path, table: Table | None, read: Iterable[tuple[str, str]]
) -> AbstractContextManager[None]:
    """Context manager that converts an error caused by a broken file of the tables to a DamagedTableError."""
    return explaining(warehouse, (table.layer, table.name) if table else None, read, passing=(CommitConflictError,))


def table_lock(folder: Path) -> AbstractContextManager[None]:
    """Serializes the writers of a table's folder on this machine, across engines.

    Without the lock, eight writers discard most of their merges: all but one have conflicting commits. On lock
    timeout the writer proceeds; the commit detects conflicts.
    """
    return interprocess_lock(folder.with_name(f".{folder.name}.lock"), _LONGEST_WAIT_SECONDS)


def _literals(months: Iterable[str]) -> str:
    return ", ".join(f"'{month}'" for month in months)


def _add(delta: DeltaTable, rows: pa.Table, made_from: CommitProperties | None) -> None:
    with commit_conflicts():
        write_deltalake(delta, rows, mode="append", commit_properties=made_from)
