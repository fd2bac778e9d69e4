"""Finds the broken file of a Delta folder by inspecting the folder, independently of the engine and its error.

Searches only after a failure. Only the last commit is checked whenever a table is opened, since every engine reads an
empty commit as if nothing had been written.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from emaps_dagster.contracts.errors import DamagedTableError, LakehouseError

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(\.\d{10}\.\d{10})?\.parquet")
# A commit that another process is writing is complete after this pause.
_PAUSE_SECONDS = 0.2
# Engine errors about pages that cannot be decompressed; only then is every file read to find the broken one.
_ABOUT_CONTENT = re.compile(r"parquet|corrupt|snappy|decompress|zstd|thrift|magic", re.IGNORECASE)
_REBUILT = (
    "Move the folder {folder} away and launch the job `rebuild` with start: first, end: last: it makes the table again "
    "from bronze, nothing is fetched (docs/operations.md, Damaged tables)."
)
_RESTORED = (
    "Restore this file from a copy of {folder}; bronze cannot be made again. docs/operations.md, Damaged tables, says "
    "what can be done without a copy."
)
_SPARE = "Remove this file: the log is whole without it, nothing is lost (docs/operations.md, Damaged tables)."


def open_table(root: Path, shown: Path, layer: str, name: str, version: int | None = None) -> DeltaTable:
    """Opens a table with delta-rs.

    Args:
        root: the warehouse under a name that engines can read.
        shown: the warehouse under the configured name, for messages.
        layer: of the table.
        name: of the table.
        version: None for the latest.

    Raises:
        TableNotFoundError: the table does not exist.
        DamagedTableError: a file of the table is broken.
    """
    path = root / layer / name
    with explaining(shown, (layer, name)):
        try:
            opened = DeltaTable(str(path), version=version)
        except TableNotFoundError:
            refuse_if_log_is_gone(shown / layer / name)
            raise
    if version is None:
        refuse_if_torn(shown / layer / name, opened.version())
    return opened


@contextmanager
def explaining(
    warehouse: Path,
    table: tuple[str, str] | None = None,
    read: Iterable[tuple[str, str]] = (),
    *,
    passing: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Context manager that converts an error caused by a broken file to a DamagedTableError.

    Inspects only the tables used in the block: a broken table must not fail the work on another.

    Args:
        warehouse: the folder of the tables.
        table: layer and name of the table that the block works on, if it is a single one.
        read: layer and name of the tables that the block reads.
        passing: error types with a known other cause, passed through.
    """
    try:
        yield
    except DamagedTableError:
        raise
    except Exception as error:
        if isinstance(error, passing):
            raise
        for layer, name in [*([table] if table else []), *sorted(read)]:
            if found := _damage(warehouse / layer / name, str(error)):
                raise found from error
        if table and isinstance(error, (DeltaError, pa.ArrowException)) and not isinstance(error, TableNotFoundError):
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            where = warehouse / table[0] / table[1]
            raise LakehouseError(f"{'.'.join(table)} at {where} cannot be used: {reason[:300]}") from error
        raise


def refuse_if_torn(folder: Path, version: int | None = None) -> None:
    """Checks that the last commit is complete: engines accept an empty one without an error and lose its rows.

    Args:
        folder: of the table.
        version: the latest, where it is known.

    Raises:
        DamagedTableError: the commit is incomplete.
    """
    log = folder / "_delta_log"
    if version is None:
        names = os.listdir(log) if log.is_dir() else []  # noqa: PTH208  # thousands, and only their names matter
        version = max((int(match[1]) for name in names if (match := _COMMIT.fullmatch(name))), default=-1)
    file = log / f"{version:020}.json"
    # Commits before a checkpoint may have been deleted.
    if file.exists() and (wrong := _wrong_with_commit(file)):
        raise _damaged(folder, file, wrong)


def refuse_if_log_is_gone(folder: Path) -> None:
    """Checks that a folder without a table has not lost its log: a new table would ignore the data in it.

    Raises:
        DamagedTableError: the folder holds data.
    """
    if next(folder.glob("*=*/*.parquet"), None):
        raise _damaged(folder, folder / "_delta_log", "is missing or empty, though there are data files")


def _damage(folder: Path, error: str) -> DamagedTableError | None:
    """Finds the broken file in the folder of a table; None without one, or without a table."""
    log = folder / "_delta_log"
    if not log.is_dir():
        return None
    commits = {int(match[1]): file for file in log.iterdir() if (match := _COMMIT.fullmatch(file.name))}
    checkpoints = {file: int(match[1]) for file in log.iterdir() if (match := _CHECKPOINT.fullmatch(file.name))}
    if not commits and not checkpoints:
        return None
    last = max([*commits, *checkpoints.values()])
    broken = {version: why for version, file in commits.items() if (why := _wrong_with_commit(file))}
    is_whole = not broken and all(version in commits for version in range(last + 1))
    for file in checkpoints:
        if why := _wrong_with_parquet(file):
            return _damaged(folder, file, why, spare=is_whole)
    begin = max((version for version in checkpoints.values()), default=-1) + 1
    for version in range(begin, last + 1):
        file = log / f"{version:020}.json"
        if version not in commits:
            return _damaged(folder, file, "is missing")
        if version in broken:
            return _damaged(folder, file, broken[version])
    return _damage_of_data(folder, error)


def _damage_of_data(folder: Path, error: str) -> DamagedTableError | None:
    try:
        actions = pa.table(DeltaTable(str(folder.resolve())).get_add_actions())
    except (DeltaError, OSError, pa.ArrowException):
        return None
    files = [(folder / path, size) for path, size in zip(*(actions[n].to_pylist() for n in ("path", "size_bytes")))]  # noqa: B905
    for file, size in files:
        if not file.exists():
            return _damaged(folder, file, "is missing")
        if (stored := file.stat().st_size) != size:
            return _damaged(folder, file, f"has {stored:,} bytes instead of {size:,}")
    if _ABOUT_CONTENT.search(error):
        for file, _ in files:
            if why := _wrong_with_parquet(file):
                return _damaged(folder, file, why)
    return None


def _wrong_with_commit(file: Path) -> str | None:
    if (wrong := _wrong_with_text(file)) is None:
        return None
    time.sleep(_PAUSE_SECONDS)
    return _wrong_with_text(file) and wrong


def _wrong_with_text(file: Path) -> str | None:
    try:
        text = file.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not text.strip():
        return "is empty"
    try:
        entries: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines() if line.strip()]
        if not all(isinstance(entry, dict) for entry in entries):
            return "is no commit"
        info: dict[str, Any] = next((entry["commitInfo"] for entry in entries if "commitInfo" in entry), {})
        # Compares with delta-rs's count of appended files: a commit truncated between two lines is well-formed.
        added = info.get("operationMetrics", {}).get("num_added_files", 0) if info.get("operation") == "WRITE" else 0
        if int(added) > sum("add" in entry for entry in entries):
            return "is cut off"
    except (ValueError, TypeError, AttributeError, RecursionError):
        return "is cut off or overwritten"
    return None


def _wrong_with_parquet(file: Path) -> str | None:
    try:
        with pq.ParquetFile(file) as opened:
            for _ in opened.iter_batches():
                pass
    except (OSError, pa.ArrowException):
        return "is cut off or overwritten"
    return None


def _damaged(folder: Path, file: Path, wrong: str, *, spare: bool = False) -> DamagedTableError:
    layer, name = folder.parts[-2:]
    remedy = _SPARE if spare else (_RESTORED if layer == "bronze" else _REBUILT).format(folder=folder)
    return DamagedTableError(f"{layer}.{name} cannot be used: its file {file} {wrong}. {remedy}")
