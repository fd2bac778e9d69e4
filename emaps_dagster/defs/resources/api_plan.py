"""The plan of the API token, requested once a day and cached in the storage of the Dagster instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from emaps_dagster.contracts.errors import ProviderError
from emaps_dagster.contracts.settings import read_settings
from emaps_dagster.contracts.signals import power_feeds
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.defs.instance.runs import logger
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.monitoring.api_plan import Plan, plan_from

# Key of the cursor storage.
_PLAN = "emaps/plan"
_PLAN_LASTS = timedelta(days=1)


def plan_of(
    instance: dg.DagsterInstance, electricity_maps: ElectricityMapsResource, zones: tuple[str, ...], now: datetime
) -> Plan | None:
    """The plan of the token, requested once a day and cached in the instance; None until a request succeeds."""
    storage = instance.daemon_cursor_storage
    cached = _cached_plan(storage.get_cursor_values({_PLAN}), zones, electricity_maps.api_url) if storage else None
    if cached and timedelta(0) <= now - cached[0] < _PLAN_LASTS:
        return cached[1]
    try:
        road = read_settings().power_signal
        with electricity_maps.sensor_client() as client:
            plan = plan_from(client.zones(), zones, (*power_feeds(road), CARBON))
    except ProviderError as error:
        logger.warning("the plan is not known: %s", error)
        return cached[1] if cached else None
    value = {"at": now.isoformat(), "zones": list(zones), "api": electricity_maps.api_url, **plan.as_json()}
    if storage:
        storage.set_cursor_values({_PLAN: json.dumps(value)})
    return plan


def _cached_plan(values: Mapping[str, str], zones: tuple[str, ...], api: str) -> tuple[datetime, Plan] | None:
    """Time of the request and plan; None if it is absent or of other zones or another API."""
    try:
        value: dict[str, Any] = json.loads(values[_PLAN])
        if value["zones"] != list(zones) or value["api"] != api:
            return None
        return datetime.fromisoformat(value["at"]), Plan.from_json(value)
    except (ValueError, KeyError, TypeError):
        return None
