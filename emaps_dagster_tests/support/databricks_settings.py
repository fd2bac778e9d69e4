"""Settings of deployment databricks for tests of the launcher."""

from __future__ import annotations

from typing import Any

from emaps_dagster.contracts.databricks_settings import DatabricksSettings
from emaps_dagster.contracts.settings import Settings
from emaps_dagster_tests.support.builders import utc


def databricks_settings(**given: Any) -> Settings:
    """An existing cluster of a workspace, with these fields of `DatabricksSettings` changed."""
    fields = {"host": "https://h", "token": "dapi-s3cret", "cluster_id": "0101-existing", **given}
    return Settings(
        deployment="databricks",
        api_token="the-api-s3cret",
        zones=("GR", "BG"),
        start=utc(2024, 5, 1),
        catalog="main",
        _env_file=None,
        databricks=DatabricksSettings.model_validate(fields),
    )
