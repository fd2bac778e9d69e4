"""Tables as Delta folders `<warehouse>/<layer>/<table>`: read by Spark, committed by delta-rs.

What a merge or a rebuild is, and when it starts again, is lakehouse.py's.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.schema import MapType, PrimitiveType
from deltalake.transaction import AddAction, RemoveAction
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructField, StructType

from emaps_dagster.damage import explaining, open_table, refuse_if_torn
from emaps_dagster.errors import DamagedTableError, LakehouseError
from emaps_dagster.lakehouse import Lakehouse, LostRaceError, Size
from emaps_dagster.local_files import dataset
from emaps_dagster.paths import plain_path
from emaps_dagster.tables import Column, Table
from emaps_dagster.transforms.quality.contract import schema_matches_the_contract
from emaps_dagster.turns import one_at_a_time
from emaps_dagster.windows import HOUR, Window

# Under this name a commit that changes rows says from which version it was made. delta-rs looks at versions alone;
# Spark's Delta, which rebases, needs it (docs/adr/0008).
TRANSACTIONS = "emaps"
_LONGEST_WAIT_SECONDS = 60.0


class FolderLakehouse(Lakehouse):
    """Delta folders `<warehouse>/<layer>/<table>`, committed by delta-rs."""

    def __init__(self, spark: SparkSession, warehouse: Path) -> None:
        super().__init__(spark)
        self.warehouse = warehouse.resolve()
        self._root = plain_path(self.warehouse)
        self._opened: dict[str, DeltaTable] = {}

    def where(self, table: Table) -> str:
        return str(self.warehouse / table.layer / table.name)

    def _path(self, table: Table) -> str:
        return str(self._root / table.layer / table.name)

    def _explaining(self, table: Table | None) -> AbstractContextManager[None]:
        return explaining_folders(self.warehouse, table, self._read)

    def _turn(self, table: Table) -> AbstractContextManager[None]:
        return turn(Path(self.where(table)))

    def _delta(self, table: Table, version: int | None = None) -> DeltaTable:
        """The table at a version, or at its latest."""
        path = self._path(table)
        opened = self._opened.get(path)
        if version is not None and opened and opened.version() == version:
            return opened
        if version is not None or not opened:
            found = open_table(self._root, self.warehouse, table.layer, table.name, version)
            return found if version is not None else self._opened.setdefault(path, found)
        try:
            with self._explaining(table):
                # Only what the log gained is read: opening a table of ten years costs as much as reading a day of it.
                opened.update_incremental()
            refuse_if_torn(Path(self.where(table)), opened.version())
        except DamagedTableError:
            del self._opened[path]
            raise
        return opened

    def version(self, table: Table) -> int | None:
        try:
            return self._delta(table).version()
        except TableNotFoundError:
            return None

    def read(self, table: Table, *, version: int | None = None) -> DataFrame:
        self._read.add((table.layer, table.name))
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        # Delta's schemas are Spark's, and asking delta-rs saves a round trip to the engine.
        stored = StructType.fromJson(json.loads(self._delta(table, version).schema().to_json()))
        # delta-rs merges write strings as nullable views, and Sail 0.7.2 reads those into no NOT NULL column
        # unless a file holds one value only: with a second zone every read of silver and gold would fail.
        nullable = StructType([StructField(field.name, field.dataType) for field in stored.fields])
        return reader.schema(nullable).load(self._path(table))

    def collect(self, rows: DataFrame) -> pa.Table:
        with self._explaining(None):
            # toArrow asks for the schema first: the engine would analyse every plan twice, and wide ones take it long.
            collected, _ = cast("Any", rows)._to_table()  # noqa: SLF001
        return cast("pa.Table", collected)

    def types(self, table: Table, *, version: int | None = None) -> dict[str, str]:
        stored = self._delta(table, version).schema()
        return {f.name: f.dataType.simpleString() for f in StructType.fromJson(json.loads(stored.to_json())).fields}

    def _rows(
        self, table: Table, window: Window, version: int, months: list[str] | None, columns: tuple[str, ...]
    ) -> pa.Table:
        with self._explaining(table):
            return rows_of_files(self._delta(table, version), table, window, months, columns)

    def _create(self, table: Table) -> None:
        try:
            DeltaTable.create(
                self._path(table),
                schema=_schema(table),
                partition_by=[table.partition],
                description=table.meaning,
                configuration=properties(table),
                mode="ignore",
            )
        except CommitFailedError:
            # Another writer made it at the same moment.
            if self.version(table) is None:
                raise

    def _add_columns(self, table: Table, columns: list[Column]) -> None:
        with _races():
            self._delta(table).alter.add_columns([_field(column) for column in columns])

    def _append(self, table: Table, rows: pa.Table) -> None:
        delta = self._delta(table)
        _add(delta, rows, None if table.append_only else _made_from(delta.version()))

    def _merge(self, table: Table, months: list[str], rows: pa.Table, version: int) -> None:
        target = self._delta(table, version)
        if pc.all(pc.equal(rows["_change"], "inserted")).as_py():
            # What a merge would insert, without its reading of the months and its join.
            _add(target, rows.select(table.column_names).cast(_arrow_schema(table)), _made_from(version))
            return
        # Literal months prune partitions: the cost does not grow with the table.
        literals = ", ".join(f"'{month}'" for month in months)
        same_key = " AND ".join(f"t.`{name}` = s.`{name}`" for name in table.key)
        merger = target.merge(
            rows,
            predicate=f"t.`{table.partition}` IN ({literals}) AND {same_key}",
            source_alias="s",
            target_alias="t",
            commit_properties=_made_from(version),
        )
        with _races():
            (
                merger.when_matched_update({n: f"s.`{n}`" for n in table.value_columns}, "s.`_change` = 'updated'")
                .when_not_matched_insert({n: f"s.`{n}`" for n in table.column_names}, "s.`_change` = 'inserted'")
                .execute()
            )

    def _insert(self, table: Table, months: list[str], rows: DataFrame, version: int) -> pa.Table:  # noqa: ARG002  # a merge needs them
        # Written by the engine, the values of a backfill need not pass through this process (docs/adr/0011).
        folder = Path(self._path(table))
        staged = folder / f"insert-{uuid4().hex}"
        try:
            rows.select(table.column_names).write.partitionBy(table.partition).parquet(str(staged))
            checked = {path: _keys_of(path, table) for path in staged.rglob("*.parquet")}
            # Never taken back: whether a commit that failed was made is not always known, and maintenance finds them.
            files = {_moved(path, folder / path.relative_to(staged)): keys for path, keys in checked.items()}
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        if files:
            _commit_files(self._delta(table, version), table, folder, files, version)
        return pa.concat_tables(files.values()) if files else _arrow_schema(table).empty_table().select(list(table.key))

    def _replace(self, table: Table, window: Window, rows: pa.Table, version: int) -> None:
        hours = f"datetime >= '{window.start.isoformat()}' AND datetime < '{window.end.isoformat()}'"
        self._write(table, rows.cast(_arrow_schema(table)), version, predicate=hours)

    def _overwrite(self, table: Table, parts: Iterator[pa.Table], version: int) -> None:
        schema = _arrow_schema(table)
        # Rows of a long table do not fit in memory, and nothing may be computed inside delta-rs's own threads.
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
        with _races():
            self._delta(table).optimize.compact()

    def _vacuum(self, table: Table, retain: timedelta) -> int:
        hours = math.ceil(retain / HOUR)
        delta = self._delta(table)
        with _races():
            # In full, it also takes what killed writers left behind, once that is as old.
            removed = delta.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
        self._delta(table).create_checkpoint()
        # A hint that readers can do without; with it, Sail 0.7.2 finds no version before the checkpoint.
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
        with _races():
            write_deltalake(
                self._delta(table, version),
                rows,
                mode="overwrite",
                partition_by=[table.partition],
                commit_properties=_made_from(version),
                predicate=predicate,
                schema_mode=schema_mode,
            )


def explaining_folders(
    warehouse: Path, table: Table | None, read: Iterable[tuple[str, str]]
) -> AbstractContextManager[None]:
    """In here an error that comes from a broken file of the table, or else of those read, becomes a sentence."""
    return explaining(warehouse, (table.layer, table.name) if table else None, read, passing=(LostRaceError,))


def turn(folder: Path) -> AbstractContextManager[None]:
    """Waits for the other writers of a table's folder on this machine, whatever their engine.

    Eight writers without turns compute most of their merges for nothing: all but one lose the race. Who gets none
    writes nevertheless: the commit finds every race.
    """
    return one_at_a_time(folder.with_name(f".{folder.name}.lock"), _LONGEST_WAIT_SECONDS)


def rows_of_files(
    delta: DeltaTable, table: Table, window: Window, months: list[str] | None, columns: tuple[str, ...]
) -> pa.Table:
    """The rows of a window, of these months or of all: files are read faster than an engine plans to.

    Args:
        delta: the table at a version.
        table: its contract, silver's or gold's, not what is stored.
        window: the hours wanted.
        months: its partitions that are read, all of them without.
        columns: those that are read, where they are stored; all of them without.

    Raises:
        LakehouseError: a file is gone or cannot be read.
    """
    partitions: Any = [(table.partition, "in", months)] if months else None
    wanted = (pc.field("datetime") >= window.start) & (pc.field("datetime") < window.end)
    try:
        stored = dataset(delta, partitions)
        names = [name for name in columns or stored.schema.names if name in stored.schema.names]
        return stored.to_table(names, filter=wanted)
    except (OSError, pa.ArrowException) as error:
        raise LakehouseError(f"{table.qualified_name} at {delta.table_uri} cannot be read: {error}") from error


def properties(table: Table) -> dict[str, str]:
    """The Delta properties of a table, whoever creates it."""
    narrowing = ("zone", "datetime", "window_start", "window_end")
    return {
        "delta.appendOnly": "true" if table.append_only else "false",
        # What reads are narrowed by; statistics of a hundred values would only swell the log.
        "delta.dataSkippingStatsColumns": ",".join(name for name in narrowing if name in table.column_names),
    }


@contextmanager
def _races() -> Iterator[None]:
    """delta-rs's refusal of a commit is a lost race: nothing was written, and computing again may win."""
    try:
        yield
    except CommitFailedError as error:
        raise LostRaceError(str(error)) from error


def _add(delta: DeltaTable, rows: pa.Table, made_from: CommitProperties | None) -> None:
    with _races():
        write_deltalake(delta, rows, mode="append", commit_properties=made_from)


def _keys_of(path: Path, table: Table) -> pa.Table:
    """The keys of a file's rows; an error unless it has the contract's columns, and no null where none may be."""
    with pq.ParquetFile(path) as file:
        stored = from_arrow_schema(file.schema_arrow)
        told = {field.name: field.dataType.simpleString() for field in stored.fields} | {table.partition: "string"}
        differences = [finding.what for finding in schema_matches_the_contract(told, table).findings]
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


def _moved(path: Path, target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    return path.rename(target)


def _commit_files(delta: DeltaTable, table: Table, folder: Path, files: dict[Path, pa.Table], version: int) -> None:
    """Commit files of a table's folder, each with the keys of its rows, made from `version`."""
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
    with _races():
        delta.create_write_transaction(
            added, "append", _schema(table), [table.partition], commit_properties=_made_from(version)
        )


def _statistics(keys: pa.Table) -> dict[str, Any]:
    """What Delta's log says of a file: what reads are narrowed by (`properties`) are the keys."""
    ends = {name: pc.min_max(keys[name]).as_py() for name in keys.column_names}
    return {
        "numRecords": keys.num_rows,
        "minValues": {name: _in_log(end["min"]) for name, end in ends.items()},
        "maxValues": {name: _in_log(end["max"]) for name, end in ends.items()},
        "nullCount": dict.fromkeys(ends, 0),
    }


def _in_log(value: str | datetime) -> str:
    return value if isinstance(value, str) else f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"


def _made_from(version: int) -> CommitProperties:
    """A commit on another base must not be rebased onto rows it has not seen."""
    return CommitProperties(max_commit_retries=0, app_transactions=[Transaction(TRANSACTIONS, version)])


def _schema(table: Table) -> Schema:
    return Schema([_field(column) for column in table.columns])


def _arrow_schema(table: Table) -> pa.Schema:
    return pa.schema(_schema(table).to_arrow())


def _field(column: Column) -> Field:
    primitive = {"int": "integer"}
    type_: PrimitiveType | MapType = (
        MapType(PrimitiveType("string"), PrimitiveType("double"))
        if column.type == "map<string,double>"
        else PrimitiveType(primitive.get(column.type, column.type))
    )
    return Field(column.name, type_, nullable=column.nullable, metadata={"comment": column.comment})
