"""Schedules and sensors of the real definitions, evaluated as Dagster's daemon does it, without the daemon."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dagster as dg

from emaps_dagster.definitions import build_definitions
from emaps_dagster.partitions import partition_hour, partition_key
from emaps_dagster.settings import Settings
from emaps_dagster.tables import ml_features
from emaps_dagster.windows import HOUR, Window


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
