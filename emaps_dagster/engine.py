"""The embedded engine: Sail, a Spark Connect server without a JVM, inside this process.

Who needs a session gets one here; Dagster's resource is resources/spark.py.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from emaps_dagster.errors import LakehouseError

if TYPE_CHECKING:
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

SESSION_CONFIG = {
    # Timestamps are UTC everywhere; without this an engine takes the machine's zone.
    "spark.sql.session.timeZone": "UTC",
    # Else every function call looks for IPython on the disk, to say where it was called: a fifth of a merge.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}

_starting = threading.Lock()


@cache
def _sail() -> SparkConnectServer:
    # Sail writes its log to stderr at INFO, a line a session; warnings are what a person needs.
    os.environ.setdefault("RUST_LOG", "warn,sail_spark_connect=error,sail_common=error")
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    return server


def embedded_address() -> str:
    """Address of this process's Sail server on a free local port; it ends with the process."""
    with _starting:
        _, port = _sail().listening_address
    return f"sc://127.0.0.1:{port}"


@contextmanager
def embedded_session() -> Iterator[SparkSession]:
    """A session of one's own on the embedded engine, for code outside Dagster; stopped at the end.

    Raises:
        LakehouseError: the process runs a session of the JVM, beside which Spark Connect cannot be used.
    """
    from pyspark.sql import SparkSession
    from pyspark.sql.utils import is_remote

    # pyspark's functions build JVM expressions once a JVM session lives, whatever session they are used with.
    if not is_remote() and SparkSession.getActiveSession() is not None:
        raise LakehouseError(
            "This process already runs a Spark session of the JVM, and the embedded engine cannot be used beside "
            "it. Stop that session first (spark.stop()) or ask from another process."
        )
    session = SparkSession.builder.config(map={**SESSION_CONFIG, "spark.remote": embedded_address()}).create()
    try:
        yield session
    finally:
        session.stop()
