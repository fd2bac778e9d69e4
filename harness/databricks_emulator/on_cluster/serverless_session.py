"""The session of a task on serverless compute: what Databricks refuses there is refused, in its words.

Attributes of the JVM (`sparkContext`, `newSession`, RDDs) are refused by Spark Connect's client itself.
"""

from __future__ import annotations

import re
from typing import Any

ALLOWED = {
    "spark.databricks.execution.timeout",
    "spark.sql.ansi.enabled",
    "spark.sql.files.maxPartitionBytes",
    "spark.sql.legacy.timeParserPolicy",
    "spark.sql.session.timeZone",
    "spark.sql.shuffle.partitions",
}
LARGEST_RELATION_BYTES = 128 * 2**20
_STATEMENTS = (
    (r"\s*(CACHE|UNCACHE)\s", "PERSIST TABLE"),
    (r"\s*CREATE\s+(OR\s+REPLACE\s+)?GLOBAL\s+TEMP", "GLOBAL TEMPORARY VIEW"),
)


def make() -> Any:
    """The session of Databricks Connect, found by SPARK_REMOTE."""
    from databricks.connect import DatabricksSession
    from pyspark.sql.connect.catalog import Catalog
    from pyspark.sql.connect.conf import RuntimeConf
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

    _guard_settings(RuntimeConf)
    for name in ("cache", "persist", "unpersist"):
        setattr(DataFrame, name, _refusing("PERSIST TABLE"))
    for name in ("cacheTable", "uncacheTable"):
        setattr(Catalog, name, _refusing("PERSIST TABLE"))
    for name in ("createGlobalTempView", "createOrReplaceGlobalTempView"):
        setattr(DataFrame, name, _refusing("GLOBAL TEMPORARY VIEW"))
    _guard_statements(SparkSession)
    _guard_local_rows(SparkSession)
    return DatabricksSession.builder.getOrCreate()


def _error(message: str) -> Exception:
    from pyspark.errors.exceptions.connect import AnalysisException

    return AnalysisException(message=message)


def _check_setting(key: str) -> None:
    if key not in ALLOWED:
        raise _error(f"[CONFIG_NOT_AVAILABLE] Configuration {key} is not available. SQLSTATE: 42K0I")


def _refusing(what: str) -> Any:
    def refuse(*_: Any, **__: Any) -> None:
        raise _error(f"[NOT_SUPPORTED_WITH_SERVERLESS] {what} is not supported on serverless compute. SQLSTATE: 0A000")

    return refuse


def _guard_settings(conf: Any) -> None:
    # Reads are let through: the client itself reads others than these six. So are settings of a session's builder,
    # which the client sends without regard to a refusal.
    for name in ("set", "unset"):
        original = getattr(conf, name)

        def guarded(self: Any, key: str, *rest: Any, _original: Any = original) -> Any:
            _check_setting(key)
            return _original(self, key, *rest)

        setattr(conf, name, guarded)


def _guard_statements(session: Any) -> None:
    original = session.sql

    def guarded(self: Any, query: str, *rest: Any, **more: Any) -> Any:
        for pattern, what in _STATEMENTS:
            if re.match(pattern, query, re.IGNORECASE):
                _refusing(what)()
        setting = re.match(r"\s*SET\s+(spark[\w.]+)", query, re.IGNORECASE)
        if setting:
            _check_setting(setting[1])
        return original(self, query, *rest, **more)

    session.sql = guarded


def _guard_local_rows(session: Any) -> None:
    original = session.createDataFrame

    def guarded(self: Any, data: Any, *rest: Any, **more: Any) -> Any:
        size = getattr(data, "nbytes", 0)
        if isinstance(size, int) and size > LARGEST_RELATION_BYTES:
            told = f"Local relation size ({size} bytes) exceeds the limit ({LARGEST_RELATION_BYTES} bytes)."
            raise _error(f"[LOCAL_RELATION_SIZE_LIMIT_EXCEEDED] {told}")
        return original(self, data, *rest, **more)

    session.createDataFrame = guarded
