"""bronze.power_data and bronze.carbon_data: fetch a window, store every response, keep bad bodies as evidence."""

# No postponed annotations: Dagster reads the type of `context` when it decorates.

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import dagster as dg
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.assets.describe import table_asset
from emaps_dagster.bodies import Response
from emaps_dagster.errors import FetchError, RejectedBodyError
from emaps_dagster.fetch import Failure, fetch
from emaps_dagster.lakehouse import Lakehouse
from emaps_dagster.partitions import hours_of, run_window
from emaps_dagster.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.resources.spark import LakehouseResource
from emaps_dagster.tables import CARBON_DATA, POWER_DATA, REJECTED_RESPONSES, Table
from emaps_dagster.windows import Window, floor_hour
from emaps_dagster.zones import CARBON, POWER, Feed

# A body of 10 days is about 200 kB: stored in batches, a backfill of any length fits in memory, and a
# killed one keeps what it stored.
_BATCH = 50


def bronze_assets(zones: tuple[str, ...], partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    return [_bronze(POWER, POWER_DATA, zones, partitions), _bronze(CARBON, CARBON_DATA, zones, partitions)]


def _bronze(
    feed: Feed, table: Table, zones: tuple[str, ...], partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    @table_asset(table, partitions, "json")
    def bronze(
        context: dg.AssetExecutionContext,
        electricity_maps: ElectricityMapsResource,
        lakehouse: LakehouseResource,
    ) -> dg.MaterializeResult[None]:
        window = run_window(context)
        house = lakehouse.open()
        house.create(table)
        house.create(REJECTED_RESPONSES)
        with electricity_maps.client() as client:
            stored, failures, fetched = ingest(
                house, table, fetch(client, feed, zones, window, electricity_maps.clock())
            )
        for hour, key in hours_of(window).items():
            context.add_asset_metadata({"responses": sum(hour in span for span in stored)}, partition_key=key)
        if failures:
            raise FetchError(_explain(table, window, fetched, failures))
        return dg.MaterializeResult(
            metadata={
                "window": str(window),
                "zones": ", ".join(zones),
                "responses_fetched": fetched,
                "responses_stored": len(stored),
            }
        )

    return bronze


def ingest(
    house: Lakehouse, table: Table, outcomes: Iterator[Response | Failure]
) -> tuple[list[Window], list[Failure], int]:
    """Store what comes, batch by batch; returns the hours stored, the failures, and how many bodies were usable."""
    stored: list[Window] = []
    failures: list[Failure] = []
    fetched = 0
    while batch := list(islice(outcomes, _BATCH)):
        responses = [outcome for outcome in batch if isinstance(outcome, Response)]
        failed = [outcome for outcome in batch if isinstance(outcome, Failure)]
        stored += store(house, table, responses)
        keep_evidence(house, [failure.error for failure in failed])
        failures += failed
        fetched += len(responses)
    return stored, failures, fetched


def store(house: Lakehouse, table: Table, responses: list[Response]) -> list[Window]:
    """Append the responses; returns the hours they hold."""
    if responses:
        house.append(table, _rows(house.spark, table, responses))
    return [_span(response) for response in responses]


def keep_evidence(house: Lakehouse, errors: Iterable[Exception]) -> None:
    """Append every rejected body with the reason, so that a person can look at it."""
    rejected = [error for error in errors if isinstance(error, RejectedBodyError)]
    if rejected:
        rows = [(*_row(error.response), error.reason, f"{error.response.received_at:%Y-%m}") for error in rejected]
        house.append(REJECTED_RESPONSES, house.spark.createDataFrame(rows, REJECTED_RESPONSES.schema))


def _rows(spark: SparkSession, table: Table, responses: list[Response]) -> DataFrame:
    rows = [(*_row(response), f"{_span(response).start:%Y-%m}") for response in responses]
    return spark.createDataFrame(rows, table.schema)


def _row(response: Response) -> tuple[object, ...]:
    return (
        response.source,
        response.zone,
        response.body,
        response.received_at,
        response.window_start,
        response.window_end,
        response.request,
        response.payload_sha256,
    )


def _span(response: Response) -> Window:
    assert response.window_start is not None
    assert response.window_end is not None
    return Window(floor_hour(response.window_start), response.window_end)


def _explain(table: Table, window: Window, fetched: int, failures: list[Failure]) -> str:
    kinds = Counter(type(failure.error).__name__ for failure in failures)
    return (
        f"{table.qualified_name} {window}: {len(failures)} of {len(failures) + fetched} requests failed "
        f"({', '.join(f'{count} {kind}' for kind, count in kinds.items())}). What was good is stored; "
        "rejected bodies are in bronze.rejected_responses. Run these partitions again after the remedy.\n"
        + "\n".join(f"- {failure.error}" for failure in failures)
    )
