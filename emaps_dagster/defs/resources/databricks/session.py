"""The Spark session that Databricks provides to a task, set to UTC for a step."""

# No postponed annotations: Dagster reads the field types of a resource when the class is defined.

from typing import Any

import dagster as dg
from pydantic import Field

from emaps_dagster.contracts.settings import on_databricks_cluster
from emaps_dagster.defs.resources.pyspark_resource import PySparkResource
from emaps_dagster.lakehouse.databricks_task import TASK_CONFIG, task_session


class ClusterPySpark(PySparkResource):
    """dagster-pyspark's resource on the task's session; none on the host, where no step runs."""

    spark_config: dict[str, Any] = Field(default=TASK_CONFIG)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  # Dagster's signature
        if on_databricks_cluster():
            self._spark_session = task_session()
