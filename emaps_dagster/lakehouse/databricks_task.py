"""What Databricks hands to a task: its Spark session and its utilities, on a cluster and on serverless compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Settings of the session, which serverless compute permits; the compute's configuration sets all others.
TASK_CONFIG = {"spark.sql.session.timeZone": "UTC"}

# The globals of a script task; a wheel task has none.
_given: dict[str, Any] = {}


def give(spark: Any, dbutils: Any) -> None:
    """Keep the globals `spark` and `dbutils` of a script task for this process; None for one that is not there."""
    _given.update({"spark": spark, "dbutils": dbutils})


def task_session() -> SparkSession:
    """The session of this task, in UTC: its global `spark`, else Databricks Connect's, else Spark's own."""
    from pyspark.sql import SparkSession

    session = _given.get("spark") or _of_databricks_connect() or SparkSession.builder.getOrCreate()
    for name, value in TASK_CONFIG.items():
        session.conf.set(name, value)
    return cast("SparkSession", session)


def task_utilities() -> Any:
    """The `dbutils` of this task.

    Raises:
        ImportError: this is no task of Databricks.
    """
    if _given.get("dbutils") is not None:
        return _given["dbutils"]
    if _on_serverless():
        from databricks.sdk.runtime import dbutils

        return dbutils
    from pyspark.dbutils import DBUtils  # type: ignore[import-not-found]  # part of the runtime's pyspark only

    return DBUtils(task_session())


def _of_databricks_connect() -> SparkSession | None:
    """The session of Databricks Connect, which serverless compute has instead of pyspark; None on a cluster."""
    if not _on_serverless():
        return None
    from databricks.connect import DatabricksSession

    return cast("SparkSession", DatabricksSession.builder.getOrCreate())


def _on_serverless() -> bool:
    # Imported here: a script task without a session pays for no settings.
    from emaps_dagster.contracts.settings import on_serverless

    return on_serverless()
