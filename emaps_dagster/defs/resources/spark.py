"""Spark sessions and tables of the deployments, through dagster-pyspark's resource.

All differences between the engines at start-up are handled here, so that transforms have no engine ifs.
"""

# No postponed annotations: Dagster reads the field types of a resource when the class is defined.

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from emaps_dagster.defs.resources.pyspark_resource import PySparkResource
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.delta_connect import catalog_lakehouse
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.delta_spark import DeltaSparkLakehouse
from emaps_dagster.lakehouse.locations import LocalFolders
from emaps_dagster.lakehouse.spark_sessions import JVM_CONFIG, SESSION_CONFIG, connect_session, jvm_session


class EmbeddedPySpark(PySparkResource):
    """dagster-pyspark's resource on a Spark Connect server inside this process: no JVM, nothing to start."""

    spark_config: dict[str, Any] = Field(default=SESSION_CONFIG)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  # Dagster's signature
        # A separate session: the parent's getOrCreate fails beside a JVM session, which a test process has.
        self._spark_session = connect_session(self.spark_config)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  # Dagster's signature
        self.spark_session.stop()


class JvmPySpark(PySparkResource):
    """dagster-pyspark's resource on this machine's own JVM, with Delta's jars."""

    spark_config: dict[str, Any] = Field(default=JVM_CONFIG)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  # Dagster's signature
        self._spark_session = jvm_session(self.spark_config)


class LakehouseResource(dg.ConfigurableResource, ABC):  # type: ignore[type-arg]
    """The tables, opened with the run's Spark session."""

    pyspark: dg.ResourceDependency[PySparkResource]

    @abstractmethod
    def open(self) -> Lakehouse:
        """The lakehouse of the deployment."""


class EmbeddedLakehouse(LakehouseResource):
    """Delta folders, committed by delta-rs."""

    warehouse: str

    def open(self) -> Lakehouse:
        return FolderLakehouse(self.pyspark.spark_session, Path(self.warehouse))


class SparkLakehouse(LakehouseResource):
    """The same Delta folders, committed by Spark's own Delta."""

    warehouse: str

    def open(self) -> Lakehouse:
        return DeltaSparkLakehouse(self.pyspark.spark_session, LocalFolders(Path(self.warehouse)))


class CatalogLakehouse(LakehouseResource):
    """Tables of a catalog, or of the metastore without one, committed by Spark's own Delta."""

    catalog: str | None = None

    def open(self) -> Lakehouse:
        return catalog_lakehouse(self.pyspark.spark_session, self.catalog)
