"""DBFS and Unity Catalog volumes on folders of this machine, with the limits and errors of their APIs."""

from __future__ import annotations

import base64
import binascii
import shutil
import threading
import time
from email.utils import formatdate
from pathlib import Path, PurePosixPath
from typing import Any

from harness.databricks_emulator.errors import ApiError, invalid, missing

# Databricks' limit of one read and one block.
BLOCK = 1024**2


class Folder:
    """Files below one root, addressed by absolute POSIX paths, that arrive late on demand.

    What the API wrote is there at once. What a cluster wrote is seen by the API `delivery_seconds` later: until then
    it answers what was there before.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.delivery_seconds = 0.0
        self.uploads: list[tuple[str, bytes]] = []
        self._seen: dict[str, list[tuple[float, bytes]]] = {}
        self._ours: dict[str, bytes] = {}
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)

    def place(self, path: str) -> Path:
        parts = PurePosixPath(path)
        if not parts.is_absolute():
            raise invalid(f"Path must be absolute: {path}")
        if ".." in parts.parts:
            raise invalid(f"Path must not contain '..': {path}")
        return self.root.joinpath(*parts.parts[1:])

    def write(self, path: str, content: bytes) -> None:
        with self._lock:
            self.place(path).write_bytes(content)
            self.uploads.append((path, content))
            self._ours[path] = content

    def content(self, path: str) -> bytes:
        """What the API sees of a file.

        Raises:
            ApiError: 404, also for a file that has not arrived yet.
        """
        place = self.place(path)
        if place.is_dir():
            raise invalid(f"Cannot read a directory: {path}")
        now = time.monotonic()
        with self._lock:
            current = place.read_bytes() if place.exists() else None
            if current is None:
                self._seen.pop(path, None)
                raise missing(f"No file or directory exists on path {path}.")
            if current == self._ours.get(path):
                return current
            versions = self._seen.setdefault(path, [])
            if not versions or versions[-1][1] != current:
                versions.append((now, current))
            arrived = [version for version in versions if now - version[0] >= self.delivery_seconds]
        if not arrived:
            raise missing(f"No file or directory exists on path {path}.")
        return arrived[-1][1]


class Dbfs(Folder):
    """/api/2.0/dbfs: everything by JSON, files in base64 blocks of at most 1 MiB."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.enabled = True
        self._open: dict[int, tuple[str, bytearray]] = {}
        self._last_handle = 7_000_000_000

    def call(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """One call by its name, such as `add-block`."""
        if not self.enabled:
            raise ApiError(
                403,
                "PERMISSION_DENIED",
                f"Public DBFS root is disabled. Access is denied on path: {body.get('path', '/')}",
            )
        action = {
            "create": self._create,
            "add-block": self._add_block,
            "close": self._close,
            "read": self._read,
            "delete": self._delete,
            "mkdirs": self._mkdirs,
            "put": self._put,
            "get-status": self._status,
            "list": self._list,
        }.get(name)
        if action is None:
            raise ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for /dbfs/{name}")
        return action(body)

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        path = _required(body, "path")
        place = self.place(path)
        if place.is_dir() or (place.exists() and not body.get("overwrite")):
            raise ApiError(400, "RESOURCE_ALREADY_EXISTS", f"A file or directory already exists at the path {path}.")
        place.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._last_handle += 1
            self._open[self._last_handle] = (path, bytearray())
            return {"handle": self._last_handle}

    def _opened(self, body: dict[str, Any]) -> tuple[str, bytearray]:
        handle = _required(body, "handle")
        if handle not in self._open:
            raise missing(f"No stream exists with the handle {handle}.")
        return self._open[handle]

    def _add_block(self, body: dict[str, Any]) -> dict[str, Any]:
        _, content = self._opened(body)
        content += _decoded(_required(body, "data"))
        return {}

    def _close(self, body: dict[str, Any]) -> dict[str, Any]:
        path, content = self._opened(body)
        del self._open[body["handle"]]
        self.write(path, bytes(content))
        return {}

    def _put(self, body: dict[str, Any]) -> dict[str, Any]:
        handle = self._create(body)
        return self._add_block({**handle, "data": body.get("contents", "")}) or self._close(handle)

    def _read(self, body: dict[str, Any]) -> dict[str, Any]:
        offset, length = int(body.get("offset", 0)), int(body.get("length", BLOCK // 2))
        if length > BLOCK:
            raise ApiError(400, "MAX_READ_SIZE_EXCEEDED", f"The read size {length} exceeds the limit of {BLOCK}.")
        if offset < 0 or length < 0:
            raise invalid("offset and length must not be negative")
        part = self.content(_required(body, "path"))[offset : offset + length]
        return {"bytes_read": len(part), "data": base64.b64encode(part).decode()}

    def _delete(self, body: dict[str, Any]) -> dict[str, Any]:
        place = self.place(_required(body, "path"))
        if place.is_dir():
            if any(place.iterdir()) and not body.get("recursive"):
                raise ApiError(400, "IO_ERROR", f"{body['path']} is a non-empty directory; recursive is not set.")
            shutil.rmtree(place)
        elif place.exists():
            place.unlink()
        else:
            raise missing(f"No file or directory exists on path {body['path']}.")
        return {}

    def _mkdirs(self, body: dict[str, Any]) -> dict[str, Any]:
        self.place(_required(body, "path")).mkdir(parents=True, exist_ok=True)
        return {}

    def _status(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._entry(self.place(_required(body, "path")))

    def _list(self, body: dict[str, Any]) -> dict[str, Any]:
        place = self.place(_required(body, "path"))
        inside = sorted(place.iterdir()) if place.is_dir() else [place]
        return {"files": [self._entry(one) for one in inside]}

    def _entry(self, place: Path) -> dict[str, Any]:
        path = f"/{place.relative_to(self.root).as_posix()}"
        if not place.exists():
            raise missing(f"No file or directory exists on path {path}.")
        size = 0 if place.is_dir() else place.stat().st_size
        changed = int(place.stat().st_mtime * 1000)
        return {"path": path, "is_dir": place.is_dir(), "file_size": size, "modification_time": changed}


class Volumes(Folder):
    """/api/2.0/fs: files of the volumes that exist, as plain bodies."""

    def __init__(self, root: Path, volume: str) -> None:
        super().__init__(root)
        self.volume = volume
        self.place(volume).mkdir(parents=True)

    def place(self, path: str) -> Path:
        parts = PurePosixPath(path).parts
        if len(parts) < 5 or parts[1] != "Volumes":
            raise invalid(f"Invalid path: {path}. It must begin with /Volumes/<catalog>/<schema>/<volume>.")
        if parts[2:5] != PurePosixPath(self.volume).parts[2:5]:
            raise ApiError(404, "NOT_FOUND", f"Volume '{'.'.join(parts[2:5])}' does not exist.")
        # The root is what a cluster sees as /Volumes.
        return super().place("/" + "/".join(parts[2:]))

    def files(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        """Headers and body of a call on /fs/files."""
        place = self.place(path)
        if method == "PUT":
            if not place.parent.is_dir():
                raise ApiError(404, "NOT_FOUND", f"The parent directory of {path} does not exist.")
            if place.exists() and query.get("overwrite") == "false":
                raise ApiError(409, "ALREADY_EXISTS", f"The file being created already exists: {path}.")
            self.write(path, body)
            return {}, b""
        if method == "DELETE":
            if not place.is_file():
                raise ApiError(404, "NOT_FOUND", f"The file being accessed is not found: {path}.")
            place.unlink()
            return {}, b""
        try:
            content = self.content(path)
        except ApiError as error:
            raise ApiError(error.status, "NOT_FOUND", f"The file being accessed is not found: {path}.") from error
        headers = {"Content-Type": "application/octet-stream", "Last-Modified": formatdate(usegmt=True)}
        return headers, content

    def directories(self, method: str, path: str) -> dict[str, Any]:
        """The JSON of a call on /fs/directories."""
        place = self.place(path)
        if method == "PUT":
            place.mkdir(parents=True, exist_ok=True)
            return {}
        if not place.is_dir():
            raise ApiError(404, "NOT_FOUND", f"The directory being accessed is not found: {path}.")
        if method == "DELETE":
            if any(place.iterdir()):
                raise ApiError(400, "DIRECTORY_IS_NOT_EMPTY", f"The directory is not empty: {path}.")
            place.rmdir()
            return {}
        if method == "HEAD":
            return {}
        entries = [
            {
                "path": f"{path.rstrip('/')}/{one.name}",
                "name": one.name,
                "is_directory": one.is_dir(),
                "last_modified": int(one.stat().st_mtime * 1000),
                **({} if one.is_dir() else {"file_size": one.stat().st_size}),
            }
            for one in sorted(place.iterdir())
        ]
        return {"contents": entries}


def _required(body: dict[str, Any], name: str) -> Any:
    if body.get(name) in (None, ""):
        raise invalid(f"Missing required field: {name}")
    return body[name]


def _decoded(data: str) -> bytes:
    try:
        block = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise invalid(f"data is not base64: {error}") from error
    if len(block) > BLOCK:
        raise ApiError(400, "MAX_BLOCK_SIZE_EXCEEDED", f"The block size {len(block)} exceeds the limit of {BLOCK}.")
    return block
