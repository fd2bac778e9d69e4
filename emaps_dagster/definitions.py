"""The definitions that Dagster loads: a function of the settings, and one call of it."""

from __future__ import annotations

import warnings

import dagster as dg

# Partitioned checks are a preview feature of the pinned Dagster; a status per hour needs them.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from emaps_dagster.contracts.settings import Settings, read_settings  # noqa: E402
from emaps_dagster.defs.asset_checks.factory import check_definitions  # noqa: E402
from emaps_dagster.defs.assets.bronze import bronze_assets  # noqa: E402
from emaps_dagster.defs.assets.gold import gold_asset  # noqa: E402
from emaps_dagster.defs.assets.health import health_asset  # noqa: E402
from emaps_dagster.defs.assets.silver import silver_asset  # noqa: E402
from emaps_dagster.defs.jobs.backfill_cost import backfill_cost_job  # noqa: E402
from emaps_dagster.defs.jobs.hourly import health_job, hourly_job  # noqa: E402
from emaps_dagster.defs.jobs.maintenance import maintenance_job  # noqa: E402
from emaps_dagster.defs.jobs.rebuild import rebuild_job  # noqa: E402
from emaps_dagster.defs.jobs.withdraw import withdraw_job  # noqa: E402
from emaps_dagster.defs.partitions import hourly_partitions  # noqa: E402
from emaps_dagster.defs.resources.deployments import resources  # noqa: E402
from emaps_dagster.defs.schedules import health_schedule, hourly_schedule, maintenance_schedule  # noqa: E402
from emaps_dagster.defs.sensors import all_sensors  # noqa: E402


def build_definitions(settings: Settings) -> dg.Definitions:
    """Assets, checks, jobs, schedules, sensors and resources of one deployment.

    Raises:
        SettingsError: the settings name a deployment that cannot run.
    """
    partitions = hourly_partitions(settings.start)
    job = hourly_job()
    maintenance = maintenance_job(settings.zones)
    report = health_job()
    return dg.Definitions(
        assets=[
            *bronze_assets(settings.zones, partitions, settings.power_signal),
            silver_asset(partitions, settings.power_signal),
            gold_asset(settings.zones, partitions),
            health_asset(settings.zones),
        ],
        asset_checks=check_definitions(settings.zones, partitions, settings.power_signal),
        jobs=[
            job,
            rebuild_job(settings.zones, settings.start),
            withdraw_job(settings.zones, settings.start),
            backfill_cost_job(settings.zones, settings.power_signal, here=settings.databricks.fetch == "host"),
            maintenance,
            report,
        ],
        schedules=[
            hourly_schedule(job, settings, partitions),
            maintenance_schedule(maintenance),
            health_schedule(report),
        ],
        sensors=all_sensors(job, settings, partitions),
        resources=resources(settings),
        # One process: a step costs 0.15 s instead of 2.4, and all steps share one Spark session.
        executor=dg.in_process_executor,
    )


defs = build_definitions(read_settings())
