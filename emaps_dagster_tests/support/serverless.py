"""Serverless compute in tests: one emulated workspace with its Spark Connect server for all modules that need one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from emaps_dagster.lakehouse.databricks_task import TASK_CONFIG
from emaps_dagster.lakehouse.delta_connect import DeltaConnectLakehouse
from emaps_dagster.lakehouse.locations import UnityCatalog
from harness.databricks_emulator import serverless
from harness.databricks_emulator.workspace import LACKING

TOKEN = "token-of-electricity-maps"
WHY_NOT = LACKING or serverless.lacking()


@contextmanager
def connect_to(address: str) -> Iterator[SparkSession]:
    """A session of the server with the settings that a task's has."""
    session = SparkSession.builder.remote(address).create()
    for name, value in TASK_CONFIG.items():
        session.conf.set(name, value)
    try:
        yield session
    finally:
        session.stop()


class ConnectFolders(DeltaConnectLakehouse):
    """The server's tables; `folder` is where they are found as `<layer>/<table>`.

    Args:
        spark: a session of the server.
        folder: of links to the warehouse of the server, made here.
        warehouse: of the server.
    """

    def __init__(self, spark: SparkSession, folder: Path, warehouse: Path) -> None:
        super().__init__(spark, UnityCatalog(None))
        folder.mkdir(parents=True, exist_ok=True)
        for layer in ("bronze", "silver", "gold"):
            if not (folder / layer).exists():
                (folder / layer).symlink_to(warehouse / f"{layer}.db", target_is_directory=True)


def drop_tables(spark: SparkSession) -> None:
    """Empty the server's catalog."""
    for layer in ("bronze", "silver", "gold"):
        spark.sql(f"DROP SCHEMA IF EXISTS {layer} CASCADE").collect()
