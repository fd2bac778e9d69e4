"""Both engines in one test process: whose functions pyspark hands out, and the door to folders of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.delta_spark import DeltaSparkLakehouse
from emaps_dagster.lakehouse.locations import LocalFolders
from harness.jvm import SHORT_LIVED

# A JVM that runs each query once, on ten rows.
FAST = {
    "spark.driver.extraJavaOptions": SHORT_LIVED,
    "spark.master": "local[1]",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    # No Java is made and compiled for expressions: a quarter of such a JVM's work. Deployment `spark` compiles
    # (test_deployment_spark.py runs it), so both ways are tested.
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
# pyspark's functions ask at every call whether it is set: whatever a test builds belongs to the engine it is of.
_CONNECT = "SPARK_CONNECT_MODE_ENABLED"


@contextmanager
def jvm_functions() -> Iterator[None]:
    """In here pyspark's functions build expressions of the JVM, though the process has a Connect session, too."""
    connect = os.environ.pop(_CONNECT, None)
    try:
        yield
    finally:
        if connect is not None:
            os.environ[_CONNECT] = connect


def is_jvm(spark: SparkSession) -> bool:
    return not type(spark).__module__.startswith("pyspark.sql.connect")


def open_folders(spark: SparkSession, warehouse: Path) -> Lakehouse:
    """A lakehouse of Delta folders as the session's deployment uses it; each call opens another."""
    return DeltaSparkLakehouse(spark, LocalFolders(warehouse)) if is_jvm(spark) else FolderLakehouse(spark, warehouse)
