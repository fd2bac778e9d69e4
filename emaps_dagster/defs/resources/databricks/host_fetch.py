"""EMAPS_DATABRICKS_FETCH=host: fetches for bronze on Dagster's machine, since the compute does not reach the API."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from emaps_dagster.contracts.errors import PartitionError
from emaps_dagster.contracts.partition_keys import refuse_hours_not_over
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.signals import power_feeds
from emaps_dagster.contracts.tables import bronze_tables
from emaps_dagster.contracts.windows import utc_now
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.defs.partitions import run_window
from emaps_dagster.defs.resources.electricity_maps import client_of
from emaps_dagster.electricity_maps.recorded import Recording, record


def fetched_here(
    settings: Settings, step_context: dg.StepExecutionContext, step_keys: Sequence[str]
) -> dict[str, Recording]:
    """The answers that the bronze steps among these need, by the table; failures are recorded, not raised.

    Args:
        settings: with the API's token.
        step_context: of a step of the Dagster run.
        step_keys: the steps of one Databricks run.
    """
    road = settings.power_signal
    recordings: dict[str, Recording] = {}
    for table, signals in zip(bronze_tables(road), (power_feeds(road), (CARBON,)), strict=True):
        if "__".join(table.asset_key) not in step_keys:
            continue
        now = settings.fixed_now or utc_now()
        try:
            window = run_window(step_context)
            refuse_hours_not_over(window, now)
        except PartitionError:
            # The step itself says what is wrong with the hours, and asks for nothing.
            continue
        step_context.log.info("%s: fetching the hours %s here.", table.qualified_name, window)
        with client_of(settings, settings.api_url, settings.fixed_now) as client:
            recordings[table.qualified_name] = record(client, settings.api_url, signals, settings.zones, window, now)
    return recordings
