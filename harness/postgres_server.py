"""A PostgreSQL server of one's own, from Debian's package: what Dagster's storage is tested and measured on.

It listens on 127.0.0.1 only, keeps its data in the temp folder and is ended by whom it was started.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emaps_dagster.cli.demo.dev import free_port

PASSWORD = "a password of a server that lives for minutes"
_STARTS_WITHIN_SECONDS = 60


def programs() -> Path | None:
    """Where `initdb` and `postgres` are; Debian keeps them off the PATH. None if they are not here, or cannot run."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    found = shutil.which("initdb")
    candidates = [*reversed(folders), *([Path(found).resolve().parent] if found else [])]
    # It refuses to be root; the package brings a user for it.
    if os.getuid() == 0 and not _as_whom():
        return None
    return next((folder for folder in candidates if (folder / "postgres").exists()), None)


@contextmanager
def server(*, durable: bool) -> Iterator[dict[str, str]]:
    """A fresh server with an empty database `dagster`; yields the variables that deploy/dagster.yaml wants.

    Args:
        durable: whether commits wait for the disk, as they do by default; tests need not.
    """
    import psycopg2

    where = programs()
    assert where is not None, "there is no PostgreSQL on this machine"
    root = Path(tempfile.mkdtemp(prefix="emaps-postgres-"))
    user = _as_whom()
    try:
        secret = root / "password"
        secret.write_text(PASSWORD)
        if user:
            for path in (root, secret):
                shutil.chown(path, user=user["user"])
        data, port = root / "data", free_port(0)
        options = ["--username=dagster", "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--no-sync"]
        made = subprocess.run(
            [where / "initdb", *options, data], capture_output=True, text=True, check=False, cwd=root, **user
        )
        assert made.returncode == 0, made.stderr
        settings = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={root}"]
        settings += [] if durable else ["fsync=off", "synchronous_commit=off"]
        arguments = [part for setting in settings for part in ("-c", setting)]
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [where / "postgres", "-D", data, *arguments], stdout=log, stderr=log, cwd=root, **user
            )
        try:
            deadline = time.monotonic() + _STARTS_WITHIN_SECONDS
            while True:
                try:
                    connection = psycopg2.connect(
                        host="127.0.0.1", port=port, dbname="postgres", user="dagster", password=PASSWORD
                    )
                    break
                except psycopg2.OperationalError:
                    is_alive = process.poll() is None and time.monotonic() < deadline
                    assert is_alive, (root / "log").read_text()
                    time.sleep(0.1)
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE dagster")
            connection.close()
            yield {
                "DAGSTER_POSTGRES_HOST": "127.0.0.1",
                "DAGSTER_POSTGRES_PORT": str(port),
                "DAGSTER_POSTGRES_DB": "dagster",
                "DAGSTER_POSTGRES_USER": "dagster",
                "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
            }
        finally:
            # "Fast": it does not wait for those who are connected.
            process.send_signal(signal.SIGINT)
            process.wait(_STARTS_WITHIN_SECONDS)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _as_whom() -> dict[str, Any]:
    """For subprocess: nothing when we are a plain user, the package's user when we are root and there is one."""
    if os.getuid() != 0:
        return {}
    try:
        owner = pwd.getpwnam("postgres")
    except KeyError:
        return {}
    return {"user": owner.pw_name, "group": owner.pw_gid, "extra_groups": []}
