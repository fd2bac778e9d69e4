"""The resources of every deployment, on one screen."""

from __future__ import annotations

from typing import Any

from dagster_pyspark import PySparkResource

from emaps_dagster.errors import SettingsError
from emaps_dagster.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.resources.spark import (
    EmbeddedLakehouse,
    EmbeddedPySpark,
    JvmPySpark,
    LakehouseResource,
    SparkLakehouse,
)
from emaps_dagster.settings import Settings


def resources(settings: Settings) -> dict[str, Any]:
    """Resources by key, for the deployment the settings name.

    Raises:
        SettingsError: this release cannot run that deployment yet.
    """
    if settings.deployment == "databricks":
        raise SettingsError(
            "EMAPS_DEPLOYMENT is 'databricks': this release runs 'embedded' and 'spark'; 'databricks' is named in the "
            "design and not built yet."
        )
    pyspark: PySparkResource
    lakehouse: LakehouseResource
    warehouse = str(settings.warehouse.resolve())
    if settings.deployment == "embedded":
        pyspark = EmbeddedPySpark()
        lakehouse = EmbeddedLakehouse(pyspark=pyspark, warehouse=warehouse)
    else:
        pyspark = JvmPySpark()
        lakehouse = SparkLakehouse(pyspark=pyspark, warehouse=warehouse)
    return {
        "pyspark": pyspark,
        "lakehouse": lakehouse,
        "electricity_maps": ElectricityMapsResource(
            api_url=settings.api_url, now=settings.now.isoformat() if settings.now else None
        ),
    }
