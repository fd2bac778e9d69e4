"""Spark sessions for the deployments, through dagster-pyspark's resource.

Where engines differ at start-up is settled here, so that transforms need not know their engine.
"""

# No postponed annotations: Dagster reads the field types of a resource when the class is made.

import os
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_pyspark import PySparkResource
from pydantic import Field

from emaps_dagster.lakehouse import FolderLakehouse, Lakehouse

if TYPE_CHECKING:
    from pysail.spark import SparkConnectServer

# Timestamps are UTC everywhere; without this an engine takes the machine's zone.
_SESSION_CONFIG = {"spark.sql.session.timeZone": "UTC"}


@cache
def _sail() -> "SparkConnectServer":
    # Sail writes its log to stderr at INFO, a line a session; warnings are what a person needs.
    os.environ.setdefault("RUST_LOG", "warn,sail_spark_connect=error,sail_common=error")
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    return server


_starting = threading.Lock()


def embedded_address() -> str:
    """Address of this process's Sail server on a free local port; it ends with the process."""
    with _starting:
        _, port = _sail().listening_address
    return f"sc://127.0.0.1:{port}"


class EmbeddedPySpark(PySparkResource):
    """dagster-pyspark's resource on a Spark Connect server inside this process: no JVM, nothing to start."""

    spark_config: dict[str, Any] = Field(default=_SESSION_CONFIG)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        remote = PySparkResource(spark_config={**self.spark_config, "spark.remote": embedded_address()})
        remote.setup_for_execution(context)
        self._spark_session = remote.spark_session


class LakehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The tables, opened with the run's Spark session."""

    pyspark: dg.ResourceDependency[PySparkResource]
    warehouse: str

    def open(self) -> Lakehouse:
        return FolderLakehouse(self.pyspark.spark_session, Path(self.warehouse))
