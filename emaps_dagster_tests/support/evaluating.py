"""Schedules and sensors of the real definitions, evaluated as Dagster's daemon does it, without the daemon.

Also a warehouse for them to look at.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from pyspark.sql import SparkSession

from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA, REJECTED_RESPONSES, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, gold_window, silver_window
from emaps_dagster.contracts.zones import CARBON, POWER
from emaps_dagster.definitions import build_definitions
from emaps_dagster.defs.partitions import partition_hour
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.fetch import fetch
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.ingest import ingest
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster.simulator.server import Simulator


def fill(spark: SparkSession, folder: Path, windows: Iterable[Window], now: datetime) -> None:
    """Bronze, silver and gold of GR for these hours, as runs make them one after another."""
    lakehouse = FolderLakehouse(spark, folder)
    lakehouse.create(REJECTED_RESPONSES)
    with Simulator(zones=("GR",), now=now) as sim, ElectricityMapsClient(sim.url, clock=lambda: now) as client:
        for window in windows:
            for feed, table in ((POWER, POWER_DATA), (CARBON, CARBON_DATA)):
                lakehouse.create(table)
                ingest(lakehouse, table, fetch(client, feed, ("GR",), window, now))
            merge_silver(lakehouse, silver_window(window))
            merge_gold(lakehouse, ("GR",), gold_window(window))


def look(settings: Settings, name: str, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    """What a sensor says and asks for: `skip_message`, `run_requests`, `cursor`."""
    definitions = build_definitions(settings)
    api = {"electricity_maps": definitions.resources["electricity_maps"]} if definitions.resources else {}
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, sensor_name=name, definitions=definitions, resources=api
    ) as context:
        return definitions.resolve_sensor_def(name).evaluate_tick(context)


def tick(settings: Settings, name: str, instance: dg.DagsterInstance, at: datetime) -> Any:
    """What a schedule says and asks for: `skip_message`, `run_requests`."""
    definitions = build_definitions(settings)
    api = {"electricity_maps": definitions.resources["electricity_maps"]} if definitions.resources else {}
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
        resources=api,
    ) as context:
        return definitions.resolve_schedule_def(name).evaluate_tick(context)


def made(instance: dg.DagsterInstance, zones: tuple[str, ...], window: Window) -> None:
    """Gold's hours are there, as far as Dagster knows."""
    key = dg.AssetKey(ml_features(zones).asset_key)
    for hour in window.hours():
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition_key(hour)))


def ranges(found: Any) -> list[tuple[str, str]]:
    """First and last partition of each run that is asked for."""
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    return [(request.tags[names[0]], request.tags[names[1]]) for request in found.run_requests]


def hours_asked(found: Any) -> set[datetime]:
    """The hours of all runs that are asked for."""
    windows = [Window(partition_hour(first), partition_hour(last) + HOUR) for first, last in ranges(found)]
    return {hour for window in windows for hour in window.hours()}
