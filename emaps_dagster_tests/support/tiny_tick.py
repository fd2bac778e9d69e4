"""A pipeline like ours with empty bodies, in a package of its own that is sent to an emulated cluster without Spark.

Two feeds, silver, gold, and a check step of each, in pools of their own. What goes wrong is asked for by the run's tag
`tiny`; a run that repeats another one does nothing wrong.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob

from emaps_dagster.defs.resources.databricks import launcher
from emaps_dagster.defs.resources.databricks.submission import package_archive
from harness.databricks_emulator.workspace import Workspace
from harness.loaded_jobs import loaded_job

_SOURCE = """
    import os
    import time

    import dagster as dg

    from emaps_dagster.contracts.settings import Settings
    from emaps_dagster.defs.instance.materializations import latest_materializations
    from emaps_dagster.defs.resources.deployments import resources
    from emaps_dagster.defs.resources.step_launcher import launchable

    if "TINY_PROJECT" in os.environ:
        # Also in a process of the multiprocess executor.
        from emaps_dagster_tests.support.tiny_tick import send_along

        send_along(os.environ["TINY_PROJECT"])

    HOURS = dg.HourlyPartitionsDefinition("2024-05-01-00:00")
    WINDOW = dg.TimeWindowPartitionMapping(start_offset=-2)


    def asked(context, what):
        first = context.run.parent_run_id is None and context.retry_number == 0
        return first and context.run.tags.get("tiny") == what


    def table(name, deps, mapping=None):
        @dg.asset(
            key=name.split("."),
            partitions_def=HOURS,
            backfill_policy=dg.BackfillPolicy.single_run(),
            deps=[dg.AssetDep(key.split("."), partition_mapping=mapping) for key in deps],
            pool=name,
            code_version="1",
            op_tags={"of": name},
            retry_policy=dg.RetryPolicy(max_retries=1) if name == "silver.energy" else None,
            metadata={"table": name},
        )
        @launchable
        def one(context: dg.AssetExecutionContext):
            context.log.info("computing %s", name)
            print("printed by", name)
            if asked(context, f"{name} raises"):
                raise dg.Failure(f"{name} has raised", allow_retries=False)
            if asked(context, f"{name} is retried"):
                raise ValueError(f"{name} has raised")
            while asked(context, f"{name} hangs"):
                time.sleep(0.1)
            for key in context.partition_keys:
                context.add_asset_metadata({"rows": len(key), "pid": os.getpid()}, partition_key=key)
            return dg.MaterializeResult()

        return one


    def checks(name):
        specs = [
            dg.AssetCheckSpec("of_each_hour", asset=name.split("."), partitions_def=HOURS, blocking=True),
            dg.AssetCheckSpec("of_the_table", asset=name.split(".")),
            dg.AssetCheckSpec("also_of_the_table", asset=name.split(".")),
        ]

        @dg.multi_asset_check(name="check_" + name.replace(".", "_"), specs=specs, can_subset=True)
        @launchable
        def one(context: dg.AssetCheckExecutionContext):
            for spec in specs:
                if spec.key not in context.selected_asset_check_keys:
                    continue
                if spec.partitions_def:
                    hours = list(context.partition_keys)
                    targets = latest_materializations(context.instance, spec.asset_key, hours)
                    for key in hours:
                        yield dg.AssetCheckEvaluation(
                            asset_key=spec.asset_key,
                            check_name=spec.name,
                            passed=not asked(context, f"{name} blocks"),
                            metadata={"pid": os.getpid(), "hour": key},
                            blocking=True,
                            partition=key,
                            target_materialization_data=targets.get(key),
                        )
                    if asked(context, f"{name} blocks"):
                        raise dg.Failure(f"{spec.name} of {name} has failed")
                    yield dg.Output(None, output_name=spec.get_python_identifier())
                else:
                    yield dg.AssetCheckResult(
                        asset_key=spec.asset_key,
                        check_name=spec.name,
                        passed=not asked(context, f"{name} warns"),
                        severity=dg.AssetCheckSeverity.WARN,
                    )

        return one


    TABLES = {
        "bronze.power": [],
        "bronze.carbon": [],
        "silver.energy": ["bronze.power", "bronze.carbon"],
        "gold.features": ["silver.energy"],
    }
    assets = [table(name, deps, WINDOW if name.startswith("gold") else None) for name, deps in TABLES.items()]
    in_process, multiprocess = (
        dg.Definitions(
            assets=assets,
            asset_checks=[checks(name) for name in TABLES],
            jobs=[dg.define_asset_job("tick", dg.AssetSelection.all())],
            resources={"step_launcher": resources(Settings())["step_launcher"]},
            executor=executor,
        )
        for executor in (dg.in_process_executor, dg.multiprocess_executor)
    )
"""


def write(folder: Path) -> Path:
    """The project, below a folder that clusters must not see."""
    package = folder / "tiny_tick"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(textwrap.dedent(_SOURCE))
    return folder


def send_along(project: str) -> None:
    """Have the launcher of this process send this project beside the package."""

    @cache
    def with_project() -> bytes:
        packed = io.BytesIO(lzma.decompress(package_archive()))
        with tarfile.open(fileobj=packed, mode="a") as archive:
            archive.add(Path(project) / "tiny_tick" / "__init__.py", "tiny_tick/__init__.py")
        return lzma.compress(packed.getvalue())

    launcher.package_archive = with_project


def tiny_settings(project: Path, workspace: Workspace) -> dict[str, str]:
    """Variables of a process that launches the tick on the workspace."""
    return {
        "EMAPS_DEPLOYMENT": "databricks",
        "EMAPS_DATABRICKS_HOST": workspace.host,
        "EMAPS_DATABRICKS_TOKEN": workspace.token,
        "EMAPS_DATABRICKS_CLUSTER_ID": workspace.cluster_id,
        "EMAPS_DATABRICKS_POLL_SECONDS": "0.1",
        "TINY_PROJECT": str(project),
    }


@contextmanager
def tiny_job(
    project: Path, workspace: Workspace | None, executor: str = "in_process", **changed: str
) -> Iterator[ReconstructableJob]:
    """The job `tick`: launched on the workspace, or here if there is none; with these settings EMAPS_* changed."""
    settings = tiny_settings(project, workspace) if workspace else {"EMAPS_DEPLOYMENT": "embedded"}
    settings |= {f"EMAPS_{name}": value for name, value in changed.items()}
    with pytest.MonkeyPatch.context() as patch:
        # Put back at the end, whatever `send_along` has made of it.
        patch.setattr(launcher, "package_archive", package_archive)
        patch.syspath_prepend(str(project))
        with loaded_job(settings, "tick", module="tiny_tick", attribute=executor, folder=project) as job:
            yield job


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(name.split("."))
