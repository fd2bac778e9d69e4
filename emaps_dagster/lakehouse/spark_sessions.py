"""The engines of one machine: Sail, a Spark Connect server without a JVM inside this process, and Spark's own JVM.

This module creates all sessions; Dagster's resources are in defs/resources/spark.py. One process uses one engine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from emaps_dagster.contracts.errors import EngineError, LakehouseError
from emaps_dagster.lakehouse.locks import interprocess_lock

if TYPE_CHECKING:
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession
from pyspark.sql import SparkSession

SESSION_CONFIG = {
    # Timestamps are UTC everywhere; by default an engine uses the machine's zone.
    "spark.sql.session.timeZone": "UTC",
    # Otherwise every function call searches the disk for IPython to record its call site: a fifth of a merge.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}

JVM_CONFIG = {
    **SESSION_CONFIG,
    "spark.app.name": "emaps_dagster",
    "spark.master": "local[*]",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # Listens on this machine only, and needs no resolvable host name.
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    # For tables of some thousand rows, Spark's 200 tasks per shuffle, 50 per snapshot of a table and 10,000 per listing
    # of files cost more than the work (a VACUUM of 20 files took 40 s).
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    # Replanning between stages does not pay off for such tables.
    "spark.sql.adaptive.enabled": "false",
    # Generated code for a query of some hundred columns runs only once, on some thousand rows.
    "spark.sql.codegen.wholeStage": "false",
    # The remaining generated code exceeds Spark's cache of a hundred entries, so the next merge would compile it again.
    "spark.sql.codegen.cache.maxEntries": "5000",
}
_OLDEST_JAVA = 17
_LONGEST_FETCH_SECONDS = 120.0

_starting = threading.Lock()


@cache
def _sail() -> SparkConnectServer:
    # Sail logs to stderr at INFO, a line per session; only warnings are useful.
    os.environ.setdefault("RUST_LOG", "warn,sail_spark_connect=error,sail_common=error")
    # By default Sail drops a session after 15 idle minutes; fifty slow calls of the API take longer.
    os.environ.setdefault("SAIL_SPARK__SESSION_TIMEOUT_SECS", str(24 * 3600))
    # Read when the library is loaded. To clear pages of 2 MB of which a part is used is a tenth of a first backfill.
    os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    return server


def embedded_address() -> str:
    """Starts this process's Sail server on a free local port and returns its address; it ends with the process."""
    with _starting:
        _, port = _sail().listening_address
    return f"sc://127.0.0.1:{port}"


def connect_session(config: Mapping[str, Any] = SESSION_CONFIG) -> SparkSession:
    """A new session in this process's Sail server; the caller stops it."""
    from pyspark.sql import SparkSession

    session: Any = SparkSession.builder.config(map={**config, "spark.remote": embedded_address()}).create()
    # A stream within this process does not break and needs no reattaching. With it, pyspark 4.0 has one thread pool
    # for all sessions, which any of them closes when it is collected: a query of another session that was using the
    # pool then raised "cannot schedule new futures after shutdown" or hung forever.
    session.client.disable_reattachable_execute()
    return cast("SparkSession", session)


@contextmanager
def embedded_session() -> Iterator[SparkSession]:
    """A new session on the embedded engine, for code outside Dagster; stopped at the end.

    Raises:
        LakehouseError: the process runs a session of the JVM, which excludes Spark Connect.
    """
    from pyspark.sql import SparkSession
    from pyspark.sql.utils import is_remote

    # pyspark's functions build JVM expressions as soon as a JVM session exists, for any session.
    if not is_remote() and SparkSession.getActiveSession() is not None:
        raise LakehouseError(
            "This process already runs a Spark session of the JVM, and the embedded engine cannot be used beside "
            "it. Stop that session first (spark.stop()), or use another process."
        )
    session = connect_session()
    try:
        yield session
    finally:
        session.stop()


def jvm_session(config: Mapping[str, str] = JVM_CONFIG) -> SparkSession:
    """The session of this process's JVM with Delta, started at the first call; it ends with the process.

    Raises:
        EngineError: no suitable Java was found, the JVM stopped (as it does without its jars), or this process
            uses the embedded engine.
    """
    from delta import configure_spark_with_delta_pip
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession
    from pyspark.sql.utils import is_remote

    # pyspark's functions build expressions for Spark Connect from the first Connect session on.
    if is_remote():
        raise EngineError(
            "This process already uses Spark Connect (the embedded engine), and a Spark session of the JVM cannot be "
            "used beside it. Use another process."
        )
    with _starting:
        if SparkSession.getActiveSession() is None:
            _check_java()
        try:
            with one_fetches_jars():
                return configure_spark_with_delta_pip(SparkSession.builder.config(map=dict(config))).getOrCreate()
        except PySparkRuntimeError as error:
            if error.getCondition() != "JAVA_GATEWAY_EXITED":
                raise
            raise EngineError(_JVM_STOPPED) from error


def one_fetches_jars() -> AbstractContextManager[None]:
    """Lock against other processes of this user that start a JVM: concurrent fetches of the same jars fail."""
    return interprocess_lock(Path.home() / ".ivy2.5.2.lock", _LONGEST_FETCH_SECONDS)


_JVM_STOPPED = (
    "The JVM of EMAPS_DEPLOYMENT=spark stopped while it was starting; its output is above. If it could not get "
    "Delta's jars (io.delta:delta-spark): the first start fetches them from Maven Central, https://repo1.maven.org, "
    "and keeps them in ~/.ivy2.5.2, which may be copied from another machine. Behind a proxy set "
    "JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=HOST -Dhttps.proxyPort=PORT'; for a mirror write the line "
    "`spark.jars.ivySettings FILE` into spark-defaults.conf of a folder and set SPARK_CONF_DIR to it."
)


def _check_java() -> None:
    # The same search order as Spark's own start script.
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    remedy = (
        f"EMAPS_DEPLOYMENT=spark needs Java {_OLDEST_JAVA} or newer: install one (Debian: apt install "
        f"openjdk-{_OLDEST_JAVA}-jre-headless) and set JAVA_HOME to it, or use EMAPS_DEPLOYMENT=embedded, which needs "
        "none."
    )
    if java is None:
        raise EngineError(f"No java was found in PATH, and JAVA_HOME is not set. {remedy}")
    try:
        process = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"{java} cannot be run ({error}). {remedy}") from error
    # Java 8 reports the version 1.8.
    version = re.search(r'version "(?:1\.)?(\d+)', process.stderr)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        found = next((line for line in process.stderr.splitlines() if "version" in line), process.stderr.strip())
        raise EngineError(f"{java} is too old: {found}. {remedy}")
