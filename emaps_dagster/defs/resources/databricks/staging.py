"""The folder in which a step's code and events lie while it runs: DBFS, or a volume of Unity Catalog.

This machine reaches it by the API, the cluster as files.
"""

from __future__ import annotations

import io
import logging
import posixpath
from abc import ABC, abstractmethod
from typing import Any

from dagster_databricks.databricks import DatabricksClient
from databricks.sdk.errors.platform import NotFound

from emaps_dagster.defs.resources.databricks.retries import API_ERRORS, with_retries

logger = logging.getLogger(__name__)


class Staging(ABC):
    """Files by their path as the API knows it, below one root."""

    remedy: str

    def __init__(self, client: DatabricksClient, root: str) -> None:
        self._client = client
        self.root = root

    def folder(self, run_id: str, step_key: str) -> str:
        # Keys of dynamic steps hold brackets, which are no letters of a path.
        return posixpath.join(self.root, run_id, step_key.replace("[", "__").replace("]", "__"))

    @abstractmethod
    def uri(self, path: str) -> str:
        """The name by which a task names a file to run."""

    @abstractmethod
    def on_cluster(self, path: str) -> str:
        """The path by which a process on the cluster opens a file."""

    def put(self, folder: str, files: dict[str, bytes]) -> None:
        """Write the files, over whatever an earlier attempt left."""
        for name, content in files.items():
            # As a whole again: a block whose answer was lost may be there twice.
            with_retries(self._put, posixpath.join(folder, name), content)

    def get(self, path: str) -> bytes | None:
        """The content of a file, None while there is none."""
        try:
            return with_retries(self._get, path)
        except NotFound:
            return None

    def remove(self, folder: str) -> None:
        """Remove a step's folder, and its run's with the last step. What cannot be removed is told, no more."""
        try:
            with_retries(self._remove, folder)
        except NotFound:
            pass
        except API_ERRORS as error:
            logger.warning("The staging folder %s could not be removed: %s", folder, error)
            return
        try:
            self._remove_empty(posixpath.dirname(folder))
        except API_ERRORS:
            logger.debug("%s is left to the other steps of its run", posixpath.dirname(folder))

    @abstractmethod
    def _put(self, path: str, content: bytes) -> None: ...

    @abstractmethod
    def _get(self, path: str) -> bytes: ...

    @abstractmethod
    def _remove(self, folder: str) -> None: ...

    @abstractmethod
    def _remove_empty(self, folder: str) -> None: ...

    def _do(self, method: str, path: str, **arguments: Any) -> Any:
        return self._client.workspace_client.api_client.do(method, path, **arguments)


class DbfsStaging(Staging):
    """A folder of DBFS: `/dbfs` on the cluster."""

    remedy = "If DBFS is disabled in this workspace, set EMAPS_DATABRICKS_STAGING to a folder of a volume"

    def uri(self, path: str) -> str:
        return f"dbfs:{path}"

    def on_cluster(self, path: str) -> str:
        return f"/dbfs{path}"

    def _put(self, path: str, content: bytes) -> None:
        self._client.put_file(io.BytesIO(content), path, overwrite=True)

    def _get(self, path: str) -> bytes:
        return self._client.read_file(path)

    def _remove(self, folder: str) -> None:
        self._do("POST", "/api/2.0/dbfs/delete", body={"path": folder, "recursive": True})

    def _remove_empty(self, folder: str) -> None:
        self._do("POST", "/api/2.0/dbfs/delete", body={"path": folder, "recursive": False})


class VolumeStaging(Staging):
    """A folder of a volume of Unity Catalog, by one name everywhere."""

    remedy = "Make the volume of EMAPS_DATABRICKS_STAGING, and grant READ VOLUME and WRITE VOLUME on it"

    def uri(self, path: str) -> str:
        return path

    def on_cluster(self, path: str) -> str:
        return path

    def put(self, folder: str, files: dict[str, bytes]) -> None:
        with_retries(self._client.workspace_client.files.create_directory, folder)
        super().put(folder, files)

    def _put(self, path: str, content: bytes) -> None:
        self._client.workspace_client.files.upload(path, io.BytesIO(content), overwrite=True)

    def _get(self, path: str) -> bytes:
        contents = self._client.workspace_client.files.download(path).contents
        if contents is None:
            return b""
        with contents:
            return contents.read()

    def _remove(self, folder: str) -> None:
        files = self._client.workspace_client.files
        for entry in files.list_directory_contents(folder):
            if entry.path:
                files.delete(entry.path)
        files.delete_directory(folder)

    def _remove_empty(self, folder: str) -> None:
        self._client.workspace_client.files.delete_directory(folder)


def staging(client: DatabricksClient, place: str) -> Staging:
    """The staging of `EMAPS_DATABRICKS_STAGING`."""
    if place.startswith("dbfs:"):
        return DbfsStaging(client, place.removeprefix("dbfs:"))
    return VolumeStaging(client, place)
