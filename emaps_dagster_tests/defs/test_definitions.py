"""The graph itself: pinned names, what Dagster shows of the tables, deployments, the map of the package."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.step_launcher import StepLauncher
from pyspark.sql import SparkSession

import emaps_dagster
from emaps_dagster.contracts.databricks_settings import DatabricksSettings
from emaps_dagster.contracts.errors import SettingsError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.definitions import build_definitions
from emaps_dagster.defs.assets.gold import gold_asset
from emaps_dagster.defs.partitions import hourly_partitions
from emaps_dagster.defs.resources.deployments import resources
from emaps_dagster.defs.resources.spark import CatalogLakehouse, EmbeddedLakehouse, SparkLakehouse
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster_tests.support.builders import silver, utc
from emaps_dagster_tests.support.graph import GOLDEN, graph_text
from harness.dagster_runs import quick_instance

ROOT = Path(__file__).resolve().parents[2]


def test_the_graph_is_the_one_that_is_pinned() -> None:
    pinned, actual = GOLDEN.read_text(), graph_text()
    diff = difflib.unified_diff(pinned.splitlines(), actual.splitlines(), "pinned", "now", lineterm="", n=1)
    assert actual == pinned, (
        "the graph changed:\n"
        + "\n".join(diff)
        + "\nIf on purpose: python -m emaps_dagster_tests.support.graph > emaps_dagster_tests/support/graph.txt"
    )


def test_dagster_shows_the_columns_of_the_contracts() -> None:
    definitions = build_definitions(Settings(zones=("GR", "BG"), _env_file=None))
    for table in (POWER_DATA, CARBON_DATA, ENERGY_DATA, ml_features(("GR", "BG"))):
        key = dg.AssetKey(table.asset_key)
        schema = definitions.resolve_assets_def(key).get_asset_spec(key).metadata["dagster/column_schema"]
        shown = [(c.name, c.type, c.constraints.nullable, c.description, dict(c.tags)) for c in schema.columns]
        units = {None: {}, "MW": {"unit": "MW"}, "gCO2eq/kWh": {"unit": "gCO2eq_per_kWh"}}
        units |= {"%": {"unit": "percent"}, "h": {"unit": "h"}}
        for _, _, _, _, tags in shown:
            tags.pop("source", None)
        assert shown == [
            (c.name, c.type, c.nullable, f"{c.meaning} [{c.unit}]" if c.unit else c.meaning, units[c.unit])
            for c in table.columns
        ]


WORKSPACE = {"host": "https://dbc-1.cloud.databricks.com", "token": "dapi0123", "node_type": "m5d.large"}


def test_deployments_differ_in_their_resources_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def door(settings: Settings) -> type[object]:
        assert graph_text(settings) == GOLDEN.read_text()
        return type(resources(settings)["lakehouse"])

    workspace = DatabricksSettings.model_validate(WORKSPACE)
    assert door(Settings(_env_file=None)) is EmbeddedLakehouse
    assert door(Settings(deployment="spark", _env_file=None)) is SparkLakehouse
    assert door(Settings(deployment="databricks", _env_file=None, databricks=workspace)) is CatalogLakehouse
    # On the cluster itself nothing of the workspace is known, and nothing is launched from there.
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    on_the_cluster = Settings(deployment="databricks", _env_file=None)
    assert door(on_the_cluster) is CatalogLakehouse
    with dg.build_resources({"step_launcher": resources(on_the_cluster)["step_launcher"]}) as built:
        assert not isinstance(built.step_launcher, StepLauncher)


def test_databricks_without_a_workspace_is_one_clear_error() -> None:
    with pytest.raises(SettingsError, match=r"^EMAPS_DEPLOYMENT is 'databricks', which also needs EMAPS_DATABRICKS_"):
        build_definitions(Settings(deployment="databricks", _env_file=None))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param(
            {"EMAPS_DEPLOYMENT": "databricks", "DATABRICKS_RUNTIME_VERSION": "17.3"},
            marks=pytest.mark.long("the host of a workspace imports what the cluster does"),
        ),
        {
            "EMAPS_DEPLOYMENT": "databricks",
            **{f"EMAPS_DATABRICKS_{name.upper()}": value for name, value in WORKSPACE.items()},
        },
    ],
    ids=["embedded", "cluster", "host"],
)
def test_loading_the_graph_does_not_wait_for_the_libraries_of_databricks(
    settings: dict[str, str], tmp_path: Path
) -> None:
    command = "import sys, emaps_dagster.definitions; print([m for m in sys.modules if 'databricks.' in m + '.'])"
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    ours = {"emaps_dagster.defs.resources.databricks", "emaps_dagster.defs.resources.databricks.session"}
    assert set(eval(done.stdout)) <= ours


def _validate(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """`dagster definitions validate -w workspace.yaml` from another folder."""
    return subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(ROOT / "workspace.yaml")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **settings},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_dagster_validates_the_workspace(tmp_path: Path) -> None:
    done = _validate(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Validation successful for code location emaps_dagster" in done.stdout + done.stderr


def test_an_unknown_deployment_is_one_sentence_on_the_command_line_too(tmp_path: Path) -> None:
    done = _validate(tmp_path, EMAPS_DEPLOYMENT="laptop")
    assert done.returncode == 1
    told = done.stdout + done.stderr
    sentence = "SettingsError: EMAPS_DEPLOYMENT is 'laptop': embedded, spark or databricks is allowed.\n"
    assert told.count(sentence) == 1
    assert "Traceback" not in told, "nothing but the sentence is to be read"


def test_a_zone_whose_neighbours_are_not_listed_is_warned_of_and_has_no_flow_columns(
    spark: SparkSession, tmp_path: Path
) -> None:
    lakehouse = FolderLakehouse(spark, tmp_path / "warehouse")
    lakehouse.create(ENERGY_DATA)
    hour = utc(2024, 5, 4, 5)
    lakehouse.append(ENERGY_DATA, silver(spark, [{"datetime": hour, "import_by_zone": {"BE": 9.0}}], zone="FR"))
    settings = Settings(zones=("FR",), warehouse=tmp_path / "warehouse", _env_file=None)
    gold = gold_asset(settings.zones, hourly_partitions(settings.start))
    with quick_instance() as instance:
        result = dg.materialize(
            [gold, dg.AssetSpec(ENERGY_DATA.asset_key)],
            selection=[gold],
            partition_key="2024-05-04-05:00",
            resources=resources(settings),
            instance=instance,
        )
        warnings = [e.user_message for e in instance.all_logs(result.run_id) if e.level == 30]
    assert warnings == [
        "zones.py knows no neighbours, time zone and holidays of FR: its flows stay in silver's maps, its local time "
        "features are null. Add it to zones.py and launch the job `rebuild` over all hours."
    ]
    (row,) = lakehouse.scan(ml_features(("FR",))).collect()
    assert row["zone"] == "FR"
    flows = [name for name in row.asDict() if name.startswith(("import_", "export_"))]
    assert flows == ["import_total", "export_total"]


def test_the_map_of_the_package_names_files_that_exist() -> None:
    package = Path(emaps_dagster.__file__).parent
    named = re.findall(r"[\w/<>]+(?:\.py|/)(?=[\s,;])", (emaps_dagster.__doc__ or "").replace("<layer>", "silver"))
    assert len(named) > 10
    assert [name for name in named if not (package / name).exists()] == []
