"""Spark sessions for the deployments, through dagster-pyspark's resource.

Where engines differ at start-up is settled here, so that transforms need not know their engine.
"""

# No postponed annotations: Dagster reads the field types of a resource when the class is made.

from pathlib import Path
from typing import Any

import dagster as dg
from dagster_pyspark import PySparkResource
from pydantic import Field

from emaps_dagster.engine import SESSION_CONFIG, embedded_address
from emaps_dagster.folders import FolderLakehouse
from emaps_dagster.lakehouse import Lakehouse


class EmbeddedPySpark(PySparkResource):
    """dagster-pyspark's resource on a Spark Connect server inside this process: no JVM, nothing to start."""

    spark_config: dict[str, Any] = Field(default=SESSION_CONFIG)

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
