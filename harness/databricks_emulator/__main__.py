"""`python -m harness.databricks_emulator`: serve until interrupted."""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
from pathlib import Path

from harness.databricks_emulator import serverless
from harness.databricks_emulator.cluster import isolation
from harness.databricks_emulator.workspace import Workspace


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m harness.databricks_emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 for a free one (default)")
    parser.add_argument("--folder", type=Path, help="an empty one that stays; without it, one that does not")
    parser.add_argument("--secret", type=_secret, action="append", default=[], metavar="SCOPE/KEY=VALUE")
    parser.add_argument("--no-dbfs", action="store_true", help="a workspace in which DBFS is disabled")
    options = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory() as folder:
        place = options.folder or Path(folder) / "workspace"
        with Workspace(place, secrets=dict(options.secret), port=options.port) as workspace:
            workspace.dbfs_enabled = not options.no_dbfs
            print(f"host: {workspace.host}")
            print(f"token: {workspace.token}")
            print(f"service principal: {workspace.client_id} {workspace.client_secret}")
            print(f"cluster: {workspace.cluster_id}")
            print(f"volume: {workspace.volume}")
            print(f"serverless compute: {serverless.lacking() or 'EMAPS_DATABRICKS_COMPUTE=serverless'}")
            print(f"tables: {workspace.warehouse}")
            print(f"processes are kept apart by: {isolation()}", flush=True)
            ended.wait()


def _secret(text: str) -> tuple[tuple[str, str], str]:
    place, _, value = text.partition("=")
    scope, _, key = place.partition("/")
    if not (scope and key and value):
        raise argparse.ArgumentTypeError("SCOPE/KEY=VALUE is needed")
    return (scope, key), value


if __name__ == "__main__":
    main()
