"""A whole workspace: storage, jobs, clusters and the API in front, for tests and for a person who wants to look."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from harness.databricks_emulator import image
from harness.databricks_emulator.cluster import Machine
from harness.databricks_emulator.faults import CallFault, Faults, RunFault
from harness.databricks_emulator.jobs import Jobs
from harness.databricks_emulator.runs import Run
from harness.databricks_emulator.server import Api, Request, Server
from harness.databricks_emulator.storage import Dbfs, Volumes

# Why a cluster cannot be had on this machine, if so.
LACKING = (
    "no Java on this machine, which a cluster's Spark needs"
    if shutil.which("java") is None
    else "no uv on this machine, which makes a cluster's Python"
    if image.uv() is None
    else None
)


class Workspace:
    """Use it as a context manager; everything it keeps is below `folder`, which must be empty.

    Args:
        folder: of this workspace, outside the checkout.
        secrets: by (scope, key); they are kept in memory only.
        spark: False for clusters without Spark, which start at once.
        hidden: folders that clusters must not see, besides the checkout and this process's environment.
        port: 0 for a free one.
    """

    volume = "/Volumes/main/emaps/staging"
    cluster_id = "1125-030405-emulated"

    def __init__(
        self,
        folder: Path,
        *,
        secrets: Mapping[tuple[str, str], str] | None = None,
        spark: bool = True,
        hidden: Iterable[Path] = (),
        port: int = 0,
    ) -> None:
        self.folder = folder.resolve()
        self.warehouse = self.folder / "warehouse"
        self._dbfs = Dbfs(self.folder / "dbfs")
        self._volumes = Volumes(self.folder / "Volumes", self.volume)
        self._faults = Faults()
        machine = Machine(self.folder, self._dbfs.root, self._volumes.root, self.warehouse, spark, tuple(hidden))
        values = {f"{scope}/{key}": value for (scope, key), value in (secrets or {}).items()}
        self._jobs = Jobs(machine, self._faults, values, self.cluster_id)
        self._api = Api(self._dbfs, self._volumes, self._jobs, self._faults)
        self._server = Server(self._api, port)
        self._jobs.host = self.host

    def __enter__(self) -> Workspace:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        self._jobs.close()

    @property
    def host(self) -> str:
        return self._api.host

    @property
    def token(self) -> str:
        """The personal access token that is let in."""
        return self._api.token

    @property
    def client_id(self) -> str:
        """Of the service principal that is let in."""
        return self._api.client_id

    @property
    def client_secret(self) -> str:
        return self._api.client_secret

    def shorten_tokens(self, seconds: int) -> None:
        """From now on a token of OAuth is good for so long; Databricks' are for an hour."""
        self._api.token_seconds = seconds

    @property
    def requests(self) -> list[Request]:
        return self._api.requests

    @property
    def runs(self) -> list[Run]:
        return self._jobs.runs

    @property
    def permissions(self) -> dict[str, object]:
        """What was granted, by `jobs/<id>` and `clusters/<id>`."""
        return self._api.permissions

    @property
    def dbfs_enabled(self) -> bool:
        return self._dbfs.enabled

    @dbfs_enabled.setter
    def dbfs_enabled(self, enabled: bool) -> None:
        self._dbfs.enabled = enabled

    @property
    def delivery_seconds(self) -> float:
        """How long the API does not see yet what a cluster wrote."""
        return self._dbfs.delivery_seconds

    @delivery_seconds.setter
    def delivery_seconds(self, seconds: float) -> None:
        self._dbfs.delivery_seconds = self._volumes.delivery_seconds = seconds

    @property
    def terminating_seconds(self) -> float:
        """How long a run that has ended says TERMINATING, without a result; of runs submitted from now on."""
        return self._jobs.terminating_seconds

    @terminating_seconds.setter
    def terminating_seconds(self, seconds: float) -> None:
        self._jobs.terminating_seconds = seconds

    def inject(self, fault: CallFault | RunFault) -> None:
        self._faults.add(fault)

    def clear_faults(self) -> None:
        self._faults.clear()

    def start_cluster(self) -> None:
        """Have the existing cluster's Spark ready before the first run."""
        self._jobs.clusters[self.cluster_id].start(image.python())

    def start_serverless(self) -> str:
        """Have the server of serverless compute ready; returns its address for Spark Connect."""
        self._jobs.serverless.start(image.python())
        return self._jobs.serverless.address

    def count(self, method: str, path: str) -> int:
        """How many calls with this beginning of the path were received."""
        return sum(one.method == method and one.path.startswith(path) for one in self.requests)

    def staged(self) -> list[str]:
        """The files that lie on DBFS and in the volume now."""
        roots = (self._dbfs.root, self._volumes.root)
        return sorted(
            str(path.relative_to(self.folder)) for root in roots for path in root.rglob("*") if path.is_file()
        )

    def received(self) -> Iterator[tuple[str, bytes]]:
        """Everything that came from outside, as (where, bytes): calls as they were, files as they were put together."""
        for request in self.requests:
            yield f"{request.method} {request.path}", f"{request.path} {request.query}".encode()
            yield f"{request.method} {request.path}", request.body
        for folder in (self._dbfs, self._volumes):
            yield from folder.uploads
