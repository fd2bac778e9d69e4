"""The staging folder of a step's code and events while it runs: DBFS, or a volume of Unity Catalog.

This machine accesses it through the API, the cluster as files.
"""

from __future__ import annotations

import io
import logging
import posixpath
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

from dagster_databricks.databricks import DatabricksClient
from databricks.sdk.errors.platform import NotFound

from emaps_dagster.defs.resources.databricks.retries import API_ERRORS, with_retries

logger = logging.getLogger(__name__)


class Staging(ABC):
    """Files below one root, by their path in the API."""

    remedy: str

    def __init__(self, client: DatabricksClient, root: str) -> None:
        self._client = client
        self.root = root

    def folder(self, run_id: str, step_key: str) -> str:
        """The folder of a step."""
        # Keys of dynamic steps contain brackets, which a path must not.
        return posixpath.join(self.folder_of(run_id), step_key.replace("[", "__").replace("]", "__"))

    def folder_of(self, run_id: str) -> str:
        """The folder of a Dagster run, which has one for each of its Databricks runs."""
        return posixpath.join(self.root, run_id)

    def run_ids(self) -> list[str]:
        """The Dagster runs that have a folder.

        Raises:
            DatabricksError: the workspace refuses.
        """
        try:
            return sorted(posixpath.basename(path.rstrip("/")) for path in with_retries(self._list, self.root))
        except NotFound:
            # Nothing was staged yet.
            return []

    @abstractmethod
    def uri(self, path: str) -> str:
        """The name of a file to run in a task."""

    @abstractmethod
    def on_cluster(self, path: str) -> str:
        """The path of a file for a process on the cluster."""

    def put(self, folder: str, files: dict[str, bytes]) -> None:
        """Write the files, and overwrite those of an earlier attempt."""
        for name, content in files.items():
            # A retry writes the whole file: a block whose response was lost could be stored twice.
            with_retries(self._put, posixpath.join(folder, name), content)

    def get(self, path: str) -> bytes | None:
        """The content of a file; None while it does not exist."""
        try:
            return with_retries(self._get, path)
        except NotFound:
            return None

    def remove(self, folder: str) -> None:
        """Remove a step's folder, and with the last step the run's. Failures are logged, not raised."""
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

    def remove_run(self, run_id: str) -> bool:
        """Remove the folder of a Dagster run with all that is in it; whether it is gone."""
        try:
            with_retries(self._remove, self.folder_of(run_id))
        except NotFound:
            pass
        except API_ERRORS as error:
            logger.warning("The staging folder %s could not be removed: %s", self.folder_of(run_id), error)
            return False
        return True

    @abstractmethod
    def _list(self, folder: str) -> list[str]: ...

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

    def _list(self, folder: str) -> list[str]:
        return [entry.path for entry in self._client.workspace_client.dbfs.list(folder) if entry.path]

    def _remove(self, folder: str) -> None:
        self._do("POST", "/api/2.0/dbfs/delete", body={"path": folder, "recursive": True})

    def _remove_empty(self, folder: str) -> None:
        self._do("POST", "/api/2.0/dbfs/delete", body={"path": folder, "recursive": False})


class VolumeStaging(Staging):
    """A folder of a volume of Unity Catalog: the same path in the API and on the cluster."""

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

    def _list(self, folder: str) -> list[str]:
        entries = self._client.workspace_client.files.list_directory_contents(folder)
        return [entry.path for entry in entries if entry.path]

    def _remove(self, folder: str) -> None:
        files = self._client.workspace_client.files
        for entry in files.list_directory_contents(folder):
            # The task of a cancelled run may have removed its own files meanwhile.
            with suppress(NotFound):
                if entry.path and entry.is_directory:
                    self._remove(entry.path)
                elif entry.path:
                    files.delete(entry.path)
        files.delete_directory(folder)

    def _remove_empty(self, folder: str) -> None:
        self._client.workspace_client.files.delete_directory(folder)


def staging(client: DatabricksClient, place: str) -> Staging:
    """The staging for `EMAPS_DATABRICKS_STAGING`."""
    if place.startswith("dbfs:"):
        return DbfsStaging(client, place.removeprefix("dbfs:"))
    return VolumeStaging(client, place)
