"""One task as Databricks runs it: `spark`, `sc` and `dbutils` are there, secrets come from the workspace.

The order, secrets included, arrives by stdin: it is on no disk, in no environment and in no list of processes.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import types
from importlib.metadata import distribution
from typing import Any

import serverless_session  # beside this file on a cluster


class Secrets:
    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def get(self, scope: str, key: str) -> str:
        try:
            return self._values[f"{scope}/{key}"]
        except KeyError:
            raise ValueError(
                f"IllegalArgumentException: Secret does not exist with scope: {scope} and key: {key}"
            ) from None


class DBUtils:
    """`dbutils` as far as jobs need it."""

    # `DBUtils(spark)` is how modules get theirs.
    values: dict[str, str]

    def __init__(self, spark: Any = None) -> None:
        self.secrets = Secrets(self.values)


class NoSpark:
    """Stands for `spark` and `sc` on a cluster that was made without Spark."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"this emulated cluster was made without Spark (spark=False); {name} was asked of it")


def attach(gateway: dict[str, Any] | None) -> tuple[Any, Any]:
    """A session of its own in the cluster's JVM, and its context."""
    if gateway is None:
        return NoSpark(), NoSpark()
    os.environ["PYSPARK_GATEWAY_PORT"] = str(gateway["port"])
    os.environ["PYSPARK_GATEWAY_SECRET"] = gateway["secret"]
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    client = launch_gateway()
    jvm = client.jvm
    java_context = jvm.JavaSparkContext.fromSparkContext(jvm.org.apache.spark.SparkContext.getOrCreate())
    conf = SparkConf(_jvm=jvm, _jconf=java_context.getConf())
    context = SparkContext(gateway=client, jsc=java_context, conf=conf)
    session = jvm.org.apache.spark.sql.classic.SparkSession.builder().getOrCreate().newSession()
    return SparkSession(context, session), context


def offer(names: dict[str, Any]) -> None:
    """What modules import on a cluster: `databricks.sdk.runtime` looks for dbruntime, others for pyspark.dbutils."""
    runtime = types.ModuleType("dbruntime")

    class UserNamespaceInitializer:
        @staticmethod
        def getOrCreate() -> UserNamespaceInitializer:  # noqa: N802 - Databricks' own name
            return UserNamespaceInitializer()

        def get_namespace_globals(self) -> dict[str, Any]:
            return names

    runtime.UserNamespaceInitializer = UserNamespaceInitializer  # type: ignore[attr-defined]
    utilities = types.ModuleType("pyspark.dbutils")
    utilities.DBUtils = DBUtils  # type: ignore[attr-defined]
    sys.modules["dbruntime"] = runtime
    sys.modules["pyspark.dbutils"] = utilities


def entry_point(package: str, name: str) -> Any:
    """The named entry point of a wheel, or the function of that name in its package, as Databricks looks for it."""
    for point in distribution(package).entry_points:
        if point.name == name:
            return point.load()
    return getattr(importlib.import_module(package), name)


def main() -> None:
    order = json.load(sys.stdin)
    DBUtils.values = order["secrets"]
    if order.get("serverless"):
        # No `sc`: there is no JVM on this side.
        names = {"spark": serverless_session.make() if order["remote"] else NoSpark(), "dbutils": DBUtils()}
    else:
        spark, context = attach(order["gateway"])
        names = {"spark": spark, "sc": context, "dbutils": DBUtils()}
    offer(names)
    if order["python_file"]:
        sys.argv = [order["python_file"], *order["parameters"]]
        runpy.run_path(order["python_file"], init_globals=names, run_name="__main__")
    else:
        sys.argv = [order["entry_point"], *order["parameters"]]
        entry_point(order["package_name"], order["entry_point"])()


if __name__ == "__main__":
    main()
