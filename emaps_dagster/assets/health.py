"""The asset `health`: a page that says how the pipeline is doing, and a check that warns when a person is needed.

It reads a few columns of the last days and changes nothing. What is well is decided in transforms/health.py.
"""

# No postponed annotations: Dagster reads the type of `context` when it decorates.

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
from pyspark.sql import functions as F

from emaps_dagster.assets.describe import OWNERS
from emaps_dagster.assets.launching import launchable
from emaps_dagster.fetch import LONGEST_BODY
from emaps_dagster.health_page import numbers, page, status
from emaps_dagster.lakehouse import Lakehouse
from emaps_dagster.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.resources.spark import LakehouseResource
from emaps_dagster.tables import (
    CARBON_DATA,
    ENERGY_DATA,
    POWER_DATA,
    REJECTED_RESPONSES,
    Table,
    all_tables,
    ml_features,
)
from emaps_dagster.transforms.health import LOOKED_AT, REVISIONS_OF, SILVER_COLUMNS, Answer, Facts, health, revisions
from emaps_dagster.transforms.literals import instant
from emaps_dagster.windows import Window, floor_hour
from emaps_dagster.zones import CARBON, POWER

KEY = dg.AssetKey("health")
CHECK = "nothing_needs_a_person"
_DESCRIPTION = (
    "How the pipeline is doing, made anew every hour after the tick: last complete hour of each zone, the provider's "
    "lag, how much is estimated, gaps, revisions and calls of the last days, sizes of the tables.\n\n"
    f"**Is it well?** `status` below says so in a sentence, `page` in tables; the check `{CHECK}` warns when there is "
    "something to do.\n\n"
    "**If not:** each sentence of `status` says what to do. Then materialize this page again, or wait for the next "
    "hour.\n\n"
    "It only reads. More: `docs/ui.md`, `docs/operations.md`."
)


def health_asset(zones: tuple[str, ...]) -> dg.AssetsDefinition:

    declare = dg.asset(
        key=KEY,
        # It reads every table; more edges would only blur the graph.
        deps=[dg.AssetKey(ml_features(zones).asset_key)],
        description=_DESCRIPTION,
        group_name="health",
        owners=OWNERS,
        kinds={"pyspark", "report"},
        tags={"layer": "health"},
        # Made hourly; a page of yesterday would say that all is well.
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3), warn_window=timedelta(hours=2)),
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=KEY,
                description="Every zone is up to date, without gaps, and nothing was rejected lately. If not, each "
                "sentence says what is wrong and what to do.",
            )
        ],
        code_version="1",
    )

    def report(lakehouse: LakehouseResource, electricity_maps: ElectricityMapsResource) -> Iterator[object]:
        house = lakehouse.open()
        found = health(read_facts(house, zones, electricity_maps.clock()))
        sizes = {table.qualified_name: house.size(table) for table in all_tables(zones)}
        told = status(found)
        yield dg.MaterializeResult(
            metadata={
                "status": dg.MetadataValue.md(told),
                "page": dg.MetadataValue.md(page(found, sizes)),
                **numbers(found, sizes),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=CHECK,
                    passed=not found.needs,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=found.needs[0] if found.needs else None,
                    metadata={"status": dg.MetadataValue.md(told)},
                )
            ],
        )

    return declare(launchable(report))


def read_facts(house: Lakehouse, zones: tuple[str, ...], now: datetime) -> Facts:
    """The few columns of the last days that the report is made from; a table that does not exist has no rows."""
    end = floor_hour(now)
    lately = Window(end - LOOKED_AT, end)
    gold = ml_features(zones)
    silver = _rows(house, ENERGY_DATA, lately, *SILVER_COLUMNS)
    answers = [
        Answer(feed.name, row["zone"], row["ingested_at"], row["window_end"], row["source"].endswith("/history"))
        for feed, table in ((POWER, POWER_DATA), (CARBON, CARBON_DATA))
        for row in _ingested_since(house, table, now - LOOKED_AT, "zone", "ingested_at", "window_end", "source")
    ]
    rejected = _ingested_since(house, REJECTED_RESPONSES, now - LOOKED_AT, "ingested_at")
    return Facts(
        now=now,
        zones=zones,
        silver=tuple(silver),
        gold_hours=frozenset((row["zone"], row["datetime"]) for row in _rows(house, gold, lately, "zone", "datetime")),
        answers=tuple(answers),
        rejected_at=tuple(row["ingested_at"] for row in rejected),
        revised_at=tuple(_revised(house, Window(end - REVISIONS_OF, end))),
    )


def _rows(house: Lakehouse, table: Table, window: Window, *columns: str) -> Iterator[dict[str, Any]]:
    yield from _utc(house.rows(table, window, columns=columns).to_pylist())


def _ingested_since(house: Lakehouse, table: Table, since: datetime, *columns: str) -> Iterator[dict[str, Any]]:
    # All months: a backfill of last year costs calls today.
    if house.version(table) is not None:
        rows = house.read(table).where(F.col("ingested_at") >= instant(since))
        if table in (POWER_DATA, CARBON_DATA):
            rows = house.without_withdrawn(table, rows)
        yield from _utc(house.collect(rows.select(*columns)).to_pylist())


def _revised(house: Lakehouse, window: Window) -> Iterator[datetime]:
    if house.version(POWER_DATA) is not None and house.version(CARBON_DATA) is not None:
        bodies = [house.read_responses(table, window, longest=LONGEST_BODY) for table in (POWER_DATA, CARBON_DATA)]
        rows = house.collect(revisions(bodies[0], bodies[1], window.start, window.end).select("ingested_at"))
        yield from (row["ingested_at"] for row in _utc(rows.to_pylist()))


def _utc(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {
            name: value.astimezone(timezone.utc) if isinstance(value, datetime) else value
            for name, value in row.items()
        }
