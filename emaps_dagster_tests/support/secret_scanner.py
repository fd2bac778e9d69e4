"""Where a secret is written in a folder: in any file, in any table inside a file, in any usual encoding."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import lzma
import pickletools
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq


def forms_of(secret: str) -> dict[str, bytes]:
    """The secret as it may be written, in lower case: that of hexadecimal digits varies, and nothing is missed."""
    raw = secret.encode()
    forms = {
        "plain": raw,
        "url": quote(secret, safe="").encode(),
        "url with plus": quote_plus(secret).encode(),
        "json": json.dumps(secret)[1:-1].encode(),
        "json in json": json.dumps(json.dumps(secret)[1:-1])[1:-1].encode(),
        "html": html.escape(secret).encode(),
        "hex": raw.hex().encode(),
        "utf-16": secret.encode("utf-16-le"),
        "reversed": raw[::-1],
    }
    for before in range(3):
        # In the midst of something longer, as in `Authorization: Basic`: the letters that the secret alone decides.
        first, last = -(-before * 4 // 3), (before + len(raw)) * 4 // 3
        for name, encode in (("base64", base64.b64encode), ("base64 for URLs", base64.urlsafe_b64encode)):
            forms[f"{name} after {before} bytes"] = encode(bytes(before) + raw)[first:last]
    return {name: form.lower() for name, form in forms.items()}


def forms_in(content: bytes, secret: str) -> list[str]:
    """The names of the forms in which the secret stands in the bytes."""
    lowered = content.lower()
    return [name for name, form in forms_of(secret).items() if form in lowered]


def traces(folder: Path, secret: str) -> list[tuple[str, str]]:
    """Every place where the secret is written below a folder, as (path, form); names of files are searched too."""
    found = []
    for path in sorted(folder.rglob("*")):
        place = str(path.relative_to(folder))
        contents = [place.encode(), *(_contents(path) if path.is_file() else ())]
        found += [(place, form) for form in sorted({form for part in contents for form in forms_in(part, secret)})]
    return found


def opened(raw: bytes) -> Iterator[bytes]:
    """Bytes, and what is packed in them by gzip, xz, zip or pickle, however deep."""
    yield raw
    if raw.startswith(b"\x1f\x8b"):
        yield from opened(gzip.decompress(raw))
    if raw.startswith(b"\xfd7zXZ"):
        # A tar holds its files as they are.
        yield from opened(lzma.decompress(raw))
    if raw.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from opened(archive.read(name))
    if raw.startswith(b"\x80") and raw.endswith(b"."):
        for _, value, _ in pickletools.genops(raw):
            if isinstance(value, (str, bytes)):
                yield value.encode() if isinstance(value, str) else value


def _contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and every value of the tables in it: compressed, or cut into pages, bytes hide them."""
    raw = path.read_bytes()
    yield from opened(raw)
    if raw.startswith(b"PAR1"):
        for row in pq.ParquetFile(path).read().to_pylist():
            yield from _values(row)
    if raw.startswith(b"SQLite format 3\0"):
        yield from _values_of_sqlite(path)


def _values_of_sqlite(path: Path) -> Iterator[bytes]:
    connection = sqlite3.connect(path)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in tables:
            for row in connection.execute(f'SELECT * FROM "{name}"'):
                yield from _values(row)
    finally:
        connection.close()


def _values(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _values(part)
    elif isinstance(value, bytes):
        yield value
    elif value is not None:
        yield str(value).encode()
