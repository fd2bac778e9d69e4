"""Checks of Dagster's home and of its run storage."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from emaps_dagster.cli.preflight.findings import Finding, first_line, ok, problem, refusal_to_write, this_user

_CONNECT_SECONDS = 5


def dagster_home(value: str | None) -> Generator[Finding, None, Path | None]:
    """Check DAGSTER_HOME; returns the folder if it can be used."""
    if not value:
        yield problem("DAGSTER_HOME is not set: Dagster would forget every run. Set it to a folder that stays.")
        return None
    home = Path(value)
    if not home.is_absolute():
        yield problem(f"DAGSTER_HOME is {value!r}: Dagster wants an absolute path.")
        return None
    if not home.is_dir():
        yield problem(f"DAGSTER_HOME ({home}) is no folder: make it, and put a dagster.yaml into it.")
        return None
    refused = refusal_to_write(home)
    if refused:
        yield problem(f"DAGSTER_HOME ({home}) cannot be written by this user ({this_user()}): {refused}.")
        return None
    yield ok(f"DAGSTER_HOME is {home}.")
    return home


def storage(home: Path, environment: Mapping[str, str], wait: float) -> Iterator[Finding]:
    """Check that the run storage can be reached and fits this release of Dagster."""
    file = home / "dagster.yaml"
    try:
        config = (yaml.safe_load(file.read_text()) or {}) if file.exists() else {}
        named = config.get("storage", {})
        server = (named.get("postgres") or named.get("custom", {}).get("config", {})).get("postgres_db")
    except (yaml.YAMLError, OSError, AttributeError) as error:
        yield problem(f"{file} cannot be read: {first_line(error)}.")
        return
    if server:
        found = yield from postgres(file, server, environment, wait)
        if not found:
            return
    elif "storage" not in config:
        yield ok("Dagster keeps its history in SQLite: fine for one person; deploy/dagster.yaml has PostgreSQL.")
    yield from instance(home)


def postgres(
    file: Path, server: Mapping[str, Any], environment: Mapping[str, str], wait: float
) -> Generator[Finding, None, bool]:
    """Check PostgreSQL; returns whether the server answers."""
    named = [value["env"] for value in server.values() if isinstance(value, dict) and "env" in value]
    missing = [name for name in named if not environment.get(name)]
    if missing:
        yield problem(f"{file} takes PostgreSQL's whereabouts from {', '.join(missing)}, which is not set.")
        return False
    try:
        import psycopg2
    except ImportError:
        yield problem(
            f"{file} names PostgreSQL, and its driver is not installed: pip install 'emaps_dagster[postgres]'."
        )
        return False
    known = {name: environment[v["env"]] if isinstance(v, dict) else v for name, v in server.items()}
    where = f"PostgreSQL at {known.get('hostname')}:{known.get('port', 5432)}, database {known.get('db_name')}"
    deadline = time.monotonic() + wait
    while True:
        try:
            psycopg2.connect(
                host=known.get("hostname"),
                port=known.get("port", 5432),
                dbname=known.get("db_name"),
                user=known.get("username"),
                password=known.get("password"),
                connect_timeout=_CONNECT_SECONDS,
            ).close()
        except psycopg2.OperationalError as error:
            if time.monotonic() < deadline:
                time.sleep(1)
                continue
            yield problem(f"{where}, cannot be used by {known.get('username')}: {first_line(error)}.")
            return False
        yield ok(f"{where}, answers.")
        return True


def instance(home: Path) -> Iterator[Finding]:
    """Check that Dagster can open its home, and that its schema is current."""
    import dagster as dg
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with dg.DagsterInstance.from_config(str(home)) as opened:
            versions = [
                opened.run_storage.alembic_version(),
                opened.event_log_storage.alembic_version(),
            ]
    except (dg.DagsterError, SQLAlchemyError, OSError) as error:
        yield problem(f"Dagster cannot open {home}: {first_line(error)}.")
        return
    if any(version and version[0] != version[1] for version in versions):
        yield problem("Dagster's storage is of another release: stop everything, run `dagster instance migrate` once.")
        return
    yield ok(f"Dagster {dg.__version__} can open its storage.")
