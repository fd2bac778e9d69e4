"""The resources of every deployment, on one screen."""

from __future__ import annotations

from typing import Any

from emaps_dagster.errors import SettingsError
from emaps_dagster.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.resources.spark import EmbeddedPySpark, LakehouseResource
from emaps_dagster.settings import Settings


def resources(settings: Settings) -> dict[str, Any]:
    """Resources by key, for the deployment the settings name.

    Raises:
        SettingsError: this release cannot run that deployment yet.
    """
    if settings.deployment != "embedded":
        raise SettingsError(
            f"EMAPS_DEPLOYMENT is {settings.deployment!r}: this release runs 'embedded' only; "
            "'spark' and 'databricks' are named in the design and not built yet."
        )
    pyspark = EmbeddedPySpark()
    return {
        "pyspark": pyspark,
        "lakehouse": LakehouseResource(pyspark=pyspark, warehouse=str(settings.warehouse.resolve())),
        "electricity_maps": ElectricityMapsResource(
            api_url=settings.api_url, now=settings.now.isoformat() if settings.now else None
        ),
    }
