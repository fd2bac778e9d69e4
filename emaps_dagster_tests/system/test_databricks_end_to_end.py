"""docs/databricks.md followed to the letter on an emulated workspace: from nothing to a tick and 48 hours in one run.


What came of it is compared with the embedded deployment on the same provider: tables bit for bit, and all that Dagster
shows of hours and checks.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support import guide
from emaps_dagster_tests.support.graph import GOLDEN
from harness.databricks_emulator.workspace import LACKING, Workspace

pytestmark = [pytest.mark.skipif(LACKING is not None, reason=str(LACKING)), pytest.mark.timeout(900)]

TOKEN = "token-of-electricity-maps"
# A little after the hour that the page materializes first.
NOW = datetime(2026, 11, 24, 21, 7, tzinfo=timezone.utc)
FIRST, *_, LAST = HOURS = [f"2026-11-{day}-{hour:02}:00" for day in (22, 23) for hour in range(24)]
TICK = "2026-11-24-20:00"
TABLES = (POWER_DATA, CARBON_DATA, ENERGY_DATA, ml_features(("GR",)))
FIRST_RUN = "From nothing to the first green run"


@dataclass(frozen=True)
class Done:
    """Both deployments after the same commands."""

    workspace: Workspace
    launched: Path
    embedded: Path


def _follow(folder: Path, env: dict[str, str]) -> None:
    """The page's files in an empty folder, then its commands, one after another."""
    home = folder / "home"
    home.mkdir(parents=True)
    (instance,) = guide.blocks("yaml", FIRST_RUN)
    path = "/absolute/path/of/DAGSTER_HOME"
    assert path in instance
    (home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{instance.replace(path, str(home))}")
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in env.items()))
    told = {name: value for name, value in os.environ.items() if not name.startswith(("EMAPS_", "DATABRICKS_"))}
    told |= {"DAGSTER_HOME": str(home), "PYTHONPATH": str(guide.ROOT)}
    for _, *words in guide.commands("dagster", FIRST_RUN):
        done = subprocess.run(
            [sys.executable, "-m", "dagster", *words],
            cwd=folder,
            env=told,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    folder = tmp_path_factory.mktemp("databricks")
    ((scope, key),) = guide.secrets()
    (page,) = guide.blocks("ini", FIRST_RUN)
    with (
        Simulator(token=TOKEN, zones=("GR",), now=NOW) as sim,
        Workspace(folder / "workspace", secrets={(scope, key): TOKEN}) as workspace,
    ):
        there = {"EMAPS_API_URL": sim.url, "EMAPS_FIXED_NOW": NOW.isoformat()}
        of_this_workspace = {
            "EMAPS_DATABRICKS_HOST": workspace.host,
            "EMAPS_DATABRICKS_TOKEN": workspace.token,
            "EMAPS_DATABRICKS_CLUSTER_ID": workspace.cluster_id,
            # An emulated cluster has one catalog.
            "EMAPS_CATALOG": "spark_catalog",
        }
        written = guide.settings(page)
        assert of_this_workspace.keys() <= written.keys()
        quick = {"EMAPS_DATABRICKS_POLL_SECONDS": "0.5"}
        _follow(folder / "launched", {**written, **of_this_workspace, **there, **quick})
        _follow(
            folder / "embedded",
            {
                "EMAPS_ZONES": written["EMAPS_ZONES"],
                "EMAPS_START": written["EMAPS_START"],
                "EMAPS_API_TOKEN": TOKEN,
                **there,
            },
        )
        yield Done(workspace, folder / "launched", folder / "embedded")


def _rows(path: Path, table: Table) -> pa.Table:
    stored = DeltaTable(str(path)).to_pyarrow_table()
    order = [*table.key, "window_start"] if table.layer == "bronze" else table.key
    names = [name for name in dict.fromkeys(order) if name in stored.column_names]
    return conform(stored, table).sort_by([(name, "ascending") for name in names])


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.qualified_name)
def test_the_tables_are_those_of_the_embedded_deployment_bit_for_bit(done: Done, table: Table) -> None:
    launched = _rows(done.workspace.warehouse / f"{table.layer}.db" / table.name, table)
    embedded = _rows(done.embedded / "warehouse" / table.layer / table.name, table)
    assert launched.num_rows > 48 or table.layer == "bronze"
    assert launched.equals(embedded)


def _hours(home: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What Dagster shows of each hour of each table."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        shown = {}
        for table in TABLES:
            key = dg.AssetKey(table.asset_key)
            for record in instance.fetch_materializations(key, limit=1000, ascending=True).records:
                assert record.asset_materialization is not None
                metadata = {name: value.value for name, value in record.asset_materialization.metadata.items()}
                metadata.pop("run_seconds", None)
                shown[table.qualified_name, record.partition_key or ""] = metadata
        return shown


def test_dagster_shows_each_hour_with_its_numbers(done: Done) -> None:
    launched = _hours(done.launched / "home")
    assert set(launched) == {(table.qualified_name, hour) for table in TABLES for hour in [*HOURS, TICK]}
    assert launched["gold.ml_features", FIRST]["rows"] == 1
    assert launched == _hours(done.embedded / "home")


def _checks(home: Path) -> tuple[dict[tuple[str, str, str | None], Any], list[Any]]:
    """What each check said of each hour, and whether Dagster counts that as said of what is there now."""
    keys = [dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check) for asset, check in _check_names()]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        said = {}
        for key in keys:
            for record in reversed(instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)):
                evaluation = record.evaluation
                if isinstance(evaluation, dg.AssetCheckEvaluation):
                    said[key.asset_key.to_user_string(), key.name, evaluation.partition] = (
                        evaluation.passed,
                        evaluation.severity,
                        evaluation.description,
                        evaluation.blocking,
                    )
        infos = instance.event_log_storage.get_asset_check_partition_info(keys)
        return said, [
            (i.check_key.name, i.partition_key, i.latest_execution_status.value) for i in infos if not i.is_current
        ]


def _check_names() -> list[tuple[str, str]]:
    found, asset = [], ""
    for line in GOLDEN.read_text().splitlines():
        if line.startswith("asset "):
            asset = line.removeprefix("asset ")
        elif line.startswith("  check "):
            found.append((asset, line.split()[1].rstrip(":")))
    return found


def test_each_check_has_its_status_of_each_hour_and_it_is_current(done: Done) -> None:
    launched, outdated = _checks(done.launched / "home")
    embedded, outdated_too = _checks(done.embedded / "home")
    assert {hour for _, _, hour in launched if hour} == {*HOURS, TICK}
    assert launched == embedded
    # Dagster plans checks of the whole table for each hour of a run, wherever it runs: our event log ends those plans
    # with the one evaluation.
    assert outdated == outdated_too == []


def test_nothing_is_left_in_the_staging_place_and_all_steps_were_one_run(done: Done) -> None:
    workspace = done.workspace
    assert workspace.staged() == []
    # Four tables and their checks: the hour, then the range.
    assert workspace.count("POST", "/api/2.2/jobs/runs/submit") == len(workspace.runs) == 2
    assert workspace.count("POST", "/api/2.0/dbfs/create") == 4 * 2
    assert workspace.count("POST", "/api/2.2/jobs/runs/cancel") == 0


def test_the_package_is_all_that_was_sent(done: Done) -> None:
    archives = [content for place, content in done.workspace.received() if content.startswith(b"\xfd7zXZ")]
    assert len(archives) == 2
    with tarfile.open(fileobj=io.BytesIO(archives[0])) as archive:
        names = archive.getnames()
    assert "emaps_dagster/definitions.py" in names
    assert [name for name in names if not (name.startswith("emaps_dagster/") and name.endswith(".py"))] == []
