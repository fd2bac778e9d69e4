"""bronze.power_data and bronze.carbon_data: fetch a window, store every response, keep rejected bodies as evidence."""

# No postponed annotations: Dagster reads the type of `context` when it decorates the asset.

import time
from datetime import datetime, timedelta, timezone

import dagster as dg

from emaps_dagster.contracts.errors import FetchError
from emaps_dagster.contracts.signals import power_feeds
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import MIX_DATA, POWER_DATA, REJECTED_RECORDS, REJECTED_RESPONSES, bronze_tables
from emaps_dagster.contracts.windows import HOUR, parse_utc
from emaps_dagster.contracts.zones import CARBON, Feed
from emaps_dagster.defs.assets.metadata import table_asset
from emaps_dagster.defs.names import RESUME_TAG
from emaps_dagster.defs.partitions import complete_window, hours_of
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.electricity_maps.fetch import count_requests, fetch
from emaps_dagster.pipeline.ingest import (
    Progress,
    answered_since,
    explain,
    ingest,
    noting,
    quarantine_sentence,
    responses_by_hour,
    split_tolerated,
    tolerated_sentence,
)

# Responses of an older attempt may be outdated: then everything is requested again.
_RESUMED_WITHIN = timedelta(days=1)


def bronze_assets(
    zones: tuple[str, ...], partitions: dg.PartitionsDefinition[str], road: str
) -> list[dg.AssetsDefinition]:
    """The assets of the tables that the runs of a road fill: of the power feed, and of carbon-intensity."""
    power, carbon = bronze_tables(road)
    return [_bronze(power_feeds(road), power, zones, partitions), _bronze((CARBON,), carbon, zones, partitions)]


def _bronze(
    feeds: tuple[Feed, ...], table: Table, zones: tuple[str, ...], partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    @table_asset(table, partitions, "json")
    def bronze(
        context: dg.AssetExecutionContext,
        electricity_maps: ElectricityMapsResource,
        lakehouse: LakehouseResource,
    ) -> None:
        began = time.monotonic()
        now = electricity_maps.present_of(table.qualified_name)
        window = complete_window(context, partitions, now)
        tables = lakehouse.open()
        # Silver reads power_data on both roads.
        for needed in (POWER_DATA,) if table == MIX_DATA else ():
            tables.create(needed)
        tables.create(table)
        tables.create(REJECTED_RESPONSES)
        tables.create(REJECTED_RECORDS)
        since = resumes_since(context.run, context.instance, now)
        answered = answered_since(tables, table, window, since) if since else frozenset()
        progress = Progress(
            table, len(zones) * len(feeds) * count_requests(window, now), len(answered), context.log.info
        )
        with electricity_maps.client(table.qualified_name) as client:
            outcomes = fetch(client, feeds, zones, window, now, answered)
            quarantined: list[str] = []
            stored, failures, fetched = ingest(tables, table, noting(outcomes, quarantined), progress.after_batch)
        tolerated, failures = split_tolerated(failures)
        for failure in tolerated:
            context.log.warning(tolerated_sentence(failure))
        if quarantined:
            context.log.warning(quarantine_sentence(table, quarantined))
        of_the_run = {
            "window": str(window),
            "zones": ", ".join(zones),
            "responses_fetched": fetched,
            "responses_stored": len(stored),
            **({"records_quarantined": len(quarantined)} if quarantined else {}),
            **({"requests_resumed": len(answered)} if answered else {}),
            "run_seconds": round(time.monotonic() - began, 3),
        }
        responses = responses_by_hour(window, stored)
        for hour, key in hours_of(window).items():
            # Numbers of the whole run are attached once, to its last hour.
            more = of_the_run if hour + HOUR == window.end else {}
            context.add_asset_metadata({"responses": responses[hour], **more}, partition_key=key)
        if failures:
            raise FetchError(explain(table, window, fetched, failures))

    return bronze


def resumes_since(run: dg.DagsterRun, instance: dg.DagsterInstance, now: datetime) -> datetime | None:
    """The start of the first attempt of this run; None if this is the first, or the first was over a day ago."""
    tag = run.tags.get(RESUME_TAG)
    since = None
    if tag:
        since = parse_utc(tag)
    elif run.root_run_id:
        # On a cluster the instance is empty and has no record: everything is requested again.
        first = instance.get_run_record_by_id(run.root_run_id)
        since = first.create_timestamp.astimezone(timezone.utc) if first else None
    return since if since and now - since < _RESUMED_WITHIN else None
