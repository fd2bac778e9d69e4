"""The resources of every deployment, on one screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from emaps_dagster.contracts.databricks_settings import check_workspace
from emaps_dagster.contracts.settings import Settings, on_databricks_cluster
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.spark import (
    CatalogLakehouse,
    EmbeddedLakehouse,
    EmbeddedPySpark,
    JvmPySpark,
    SparkLakehouse,
)


def resources(settings: Settings) -> dict[str, Any]:
    """The resources by key, for the deployment of the settings.

    Raises:
        SettingsError: settings of the workspace are missing or exclude each other.
    """
    return {
        **_engine(settings),
        "step_launcher": _step_launcher(settings),
        "electricity_maps": ElectricityMapsResource(
            api_url=settings.api_url, now=settings.fixed_now.isoformat() if settings.fixed_now else None
        ),
    }


def _engine(settings: Settings) -> dict[str, Any]:
    warehouse = str(settings.warehouse.resolve())
    if settings.deployment == "embedded":
        embedded = EmbeddedPySpark()
        return {"pyspark": embedded, "lakehouse": EmbeddedLakehouse(pyspark=embedded, warehouse=warehouse)}
    if settings.deployment == "spark":
        jvm = JvmPySpark()
        return {"pyspark": jvm, "lakehouse": SparkLakehouse(pyspark=jvm, warehouse=warehouse)}
    from emaps_dagster.defs.resources.databricks.session import ClusterPySpark

    cluster = ClusterPySpark()
    return {"pyspark": cluster, "lakehouse": CatalogLakehouse(pyspark=cluster, catalog=settings.catalog)}


def _step_launcher(settings: Settings) -> dg.ResourceDefinition:
    if settings.deployment != "databricks" or on_databricks_cluster():
        return dg.ResourceDefinition.none_resource(description="Steps run in this process.")
    check_workspace(settings.databricks)

    @dg.resource(description="Runs the steps on the cluster that the settings EMAPS_DATABRICKS_* name.")
    def step_launcher(_: dg.InitResourceContext) -> Iterator[object]:
        # Databricks' libraries take a second to import; only a process that launches steps needs them.
        from emaps_dagster.defs.resources.databricks import launcher

        made = launcher.step_launcher(settings)
        try:
            yield made
        finally:
            made.close()

    return step_launcher
