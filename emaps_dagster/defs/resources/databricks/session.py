"""The Spark session that a Databricks cluster provides, set to UTC for a step."""

# No postponed annotations: Dagster reads the field types of a resource when the class is defined.

from typing import Any

import dagster as dg
from dagster_pyspark import PySparkResource
from pydantic import Field

from emaps_dagster.contracts.settings import on_databricks_cluster
from emaps_dagster.lakehouse.spark_sessions import CLUSTER_CONFIG, cluster_session


class ClusterPySpark(PySparkResource):
    """dagster-pyspark's resource on the runtime's session; none on the host, where no step runs."""

    spark_config: dict[str, Any] = Field(default=CLUSTER_CONFIG)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  # Dagster's signature
        if on_databricks_cluster():
            self._spark_session = cluster_session()
