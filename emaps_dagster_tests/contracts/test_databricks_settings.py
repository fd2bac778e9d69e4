"""Which settings of Databricks suffice together, and what is said of those that do not."""

from __future__ import annotations

import pytest

from emaps_dagster.contracts.databricks_settings import DatabricksSettings, check_workspace
from emaps_dagster.contracts.errors import SettingsError

WHOLE = {"host": "https://h", "token": "t", "cluster_id": "c"}
SERVERLESS = {"host": "https://h", "token": "t", "compute": "serverless", "staging": "/Volumes/main/emaps/staging"}


@pytest.mark.parametrize(
    "given",
    [
        WHOLE,
        {"host": "https://h", "client_id": "i", "client_secret": "s", "node_type": "m5d.large", "policy_id": "p"},
        SERVERLESS,
        # As in a copy of .env.example: the defaults of a cluster's settings.
        {**SERVERLESS, "performance_target": "STANDARD", "workers": "0", "runtime": "17.3.x-scala2.13"},
    ],
)
def test_a_workspace_a_name_and_compute_are_enough_for_databricks(given: dict[str, str]) -> None:
    check_workspace(_databricks(**given))


TOKEN = "EMAPS_DATABRICKS_TOKEN (or EMAPS_DATABRICKS_CLIENT_ID and EMAPS_DATABRICKS_CLIENT_SECRET)"
CLUSTER = (
    "EMAPS_DATABRICKS_CLUSTER_ID (or EMAPS_DATABRICKS_NODE_TYPE for a cluster of each run's own, or "
    "EMAPS_DATABRICKS_COMPUTE=serverless)"
)
NEEDS = "EMAPS_DEPLOYMENT is 'databricks', which also needs"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, f"{NEEDS} EMAPS_DATABRICKS_HOST, {TOKEN}, {CLUSTER}."),
        ({**WHOLE, "host": None}, f"{NEEDS} EMAPS_DATABRICKS_HOST."),
        ({**WHOLE, "token": None, "client_id": "i"}, f"{NEEDS} EMAPS_DATABRICKS_CLIENT_SECRET."),
        (
            {**WHOLE, "client_id": "i", "client_secret": "s"},
            "EMAPS_DATABRICKS_TOKEN and EMAPS_DATABRICKS_CLIENT_ID are two ways to authenticate: give one.",
        ),
        (
            {**WHOLE, "node_type": "m5d.large", "policy_id": "p"},
            "EMAPS_DATABRICKS_NODE_TYPE is for a new cluster, but EMAPS_DATABRICKS_CLUSTER_ID names one. "
            "EMAPS_DATABRICKS_POLICY_ID is for a new cluster, but EMAPS_DATABRICKS_CLUSTER_ID names one.",
        ),
        (
            {**SERVERLESS, "host": None, "cluster_id": "c", "workers": "2"},
            f"{NEEDS} EMAPS_DATABRICKS_HOST. "
            "EMAPS_DATABRICKS_CLUSTER_ID is for a cluster, but EMAPS_DATABRICKS_COMPUTE is 'serverless'. "
            "EMAPS_DATABRICKS_WORKERS is for a cluster, but EMAPS_DATABRICKS_COMPUTE is 'serverless'.",
        ),
        (
            {**SERVERLESS, "staging": "dbfs:/dagster_staging"},
            "EMAPS_DATABRICKS_COMPUTE is 'serverless', which has no DBFS: set EMAPS_DATABRICKS_STAGING to a folder of "
            "a volume, /Volumes/catalog/schema/volume.",
        ),
        (
            {**WHOLE, "performance_target": "STANDARD"},
            "EMAPS_DATABRICKS_PERFORMANCE_TARGET is for EMAPS_DATABRICKS_COMPUTE=serverless only.",
        ),
    ],
)
def test_what_is_missing_for_databricks_is_named_together(given: dict[str, str | None], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_workspace(_databricks(**given))
    assert str(caught.value) == f"{told} See docs/databricks.md, Settings."


def _databricks(**given: str | None) -> DatabricksSettings:
    return DatabricksSettings.model_validate({name: value for name, value in given.items() if value is not None})
