"""Cache of rows as they were known: files beside the warehouse, each named by all that its rows depend on.

A file is written under another name and renamed, holds a digest of its content, and is only ever a shortcut: a missing,
torn or unreadable one is computed again. The folder can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
from pyarrow import feather

from emaps_dagster.contracts.errors import SettingsError
from emaps_dagster.contracts.settings import read_settings

logger = logging.getLogger(__name__)

# The code and the packages that decide the rows. The code, not its release: a change during development counts too.
_CODE = ("contracts", "transforms", "lakehouse", "features")
_PACKAGES = ("pyspark", "pyspark-client", "pysail", "holidays", "tzdata")
_SUFFIX = ".arrow"
_UNFINISHED = ".part"
# A writer that needs longer than this for one file was killed.
_LONGEST_WRITE_SECONDS = 3600.0
_DIGEST_BYTES = hashlib.sha256().digest_size


def cache_of(warehouse: Path) -> Cache:
    """The cache of a warehouse: the folder `.<name>.features-cache` beside it, as the settings bound it."""
    try:
        megabytes = read_settings().features_cache_mb
    except SettingsError as error:
        # A query that names its warehouse needs no settings.
        logger.info("no cache: %s", error)
        megabytes = 0
    if not warehouse.name:
        # Nothing lies beside the root of a file system.
        return Cache(warehouse, 0)
    return Cache(warehouse.with_name(f".{warehouse.name}.features-cache"), megabytes * 1_000_000)


class Cache:
    """Arrow tables by key, in a folder of bounded size; the least recently used go first."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit`: the most bytes that the folder holds after a write; 0 turns the cache off."""
        self.folder, self.limit = folder, limit

    @property
    def is_on(self) -> bool:
        return self.limit > 0

    def key(self, *parts: object) -> str:
        """A key of these parts, of the code that computes rows and of the packages that it uses."""
        return hashlib.sha256(repr((*parts, _computed_by())).encode()).hexdigest()

    def get(self, key: str) -> pa.Table | None:
        """The table of a key; None without a whole one."""
        path = self.folder / (key + _SUFFIX)
        try:
            stored = path.read_bytes()
            if hashlib.sha256(stored[_DIGEST_BYTES:]).digest() != stored[:_DIGEST_BYTES]:
                return None
            rows = feather.read_table(pa.BufferReader(pa.py_buffer(stored).slice(_DIGEST_BYTES)))
        except (OSError, pa.ArrowException):
            return None
        with suppress(OSError):
            os.utime(path)
        return rows

    def put(self, key: str, rows: pa.Table) -> None:
        """Stores a table, if the folder can be written and the table is not above the limit."""
        sink = io.BytesIO()
        feather.write_feather(rows, sink, compression="zstd")
        content = sink.getbuffer()
        if len(content) + _DIGEST_BYTES > self.limit:
            return
        unfinished = self.folder / f"{uuid4().hex}{_UNFINISHED}"
        try:
            self.folder.mkdir(exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
            unfinished.replace(self.folder / (key + _SUFFIX))
            self._shrink()
        except OSError as error:
            logger.info("%s cannot be written (%s); the rows are computed again next time", self.folder, error)
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def _shrink(self) -> None:
        """Removes the least recently used files until the limit holds, and what killed writers left."""
        held = []
        for path in self.folder.iterdir():
            if path.suffix not in (_SUFFIX, _UNFINISHED):
                continue
            # Another process may remove a file meanwhile.
            with suppress(FileNotFoundError):
                status = path.stat()
                if path.suffix == _SUFFIX:
                    held.append((status.st_mtime_ns, status.st_size, path))
                elif time.time() - status.st_mtime > _LONGEST_WRITE_SECONDS:
                    path.unlink()
        total = sum(size for _, size, _ in held)
        for _, size, path in sorted(held):
            if total <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= size


@cache
def _computed_by() -> tuple[str, ...]:
    """Digest of the code that computes rows, and the versions of its packages."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for room in _CODE for path in (root / room).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return (digest.hexdigest(), *(_version(name) for name in _PACKAGES))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} none"
