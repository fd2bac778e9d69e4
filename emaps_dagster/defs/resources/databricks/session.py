"""Spark as a step finds it on a cluster of Databricks: already there, in the time zone of the cluster."""

# No postponed annotations: Dagster reads the field types of a resource when the class is made.

from typing import Any

import dagster as dg
from dagster_pyspark import PySparkResource
from pydantic import Field
from pyspark.sql import SparkSession

from emaps_dagster.contracts.settings import on_databricks_cluster

# What is the session's own; what is the cluster's is set with the cluster.
_SESSION_CONFIG = {"spark.sql.session.timeZone": "UTC"}


class ClusterPySpark(PySparkResource):
    """dagster-pyspark's resource on the session that the runtime gives; on the host, where no step runs, none."""

    spark_config: dict[str, Any] = Field(default=_SESSION_CONFIG)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  # Dagster's signature
        if on_databricks_cluster():
            self._spark_session = cluster_session()


def cluster_session() -> SparkSession:
    """The session of this task on the cluster, in UTC."""
    session = SparkSession.builder.getOrCreate()
    for name, value in _SESSION_CONFIG.items():
        session.conf.set(name, value)
    return session
