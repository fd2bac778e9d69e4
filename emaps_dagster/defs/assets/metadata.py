"""Metadata of the assets in Dagster: columns, kinds, tags, numbers of an hour. It computes no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from emaps_dagster.contracts.lineage import Source, sources_of
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import FEED_TABLES, POWER_DATA
from emaps_dagster.defs.assets.descriptions import FRESHNESS, links_of, page_of
from emaps_dagster.defs.names import pool_of
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.lakehouse.reports import HourChange

OWNERS = ["team:data-platform"]


def table_asset(
    table: Table,
    partitions: dg.PartitionsDefinition[str],
    kind: str,
    deps: Sequence[Table] = (),
    zones: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` with the arguments that all tables share."""
    power = next((upstream for upstream in deps if upstream in FEED_TABLES["power"]), POWER_DATA)
    declare = dg.asset(
        key=dg.AssetKey(table.asset_key),
        deps=[dg.AssetKey(upstream.asset_key) for upstream in deps],
        description=page_of(table),
        group_name=table.layer,
        partitions_def=partitions,
        # One run for a range: a year is 37 calls a feed, not 8,760.
        backfill_policy=dg.BackfillPolicy.single_run(),
        owners=OWNERS,
        kinds={"pyspark", "deltalake", kind},
        tags={"layer": table.layer},
        metadata={
            "dagster/column_schema": column_schema(table, sources_of(table, zones, power)),
            "dagster/table_name": table.qualified_name,
            **column_lineage(sources_of(table, zones, power)),
            **links_of(table),
        },
        freshness_policy=FRESHNESS[table.layer],
        code_version="1",
        # Writers of one table run in turn if the instance limits its pool to 1.
        pool=pool_of(table),
    )
    return lambda compute: declare(launchable(compute))


def column_schema(table: Table, sources: Mapping[str, tuple[Source, ...]]) -> dg.TableSchema:
    """The contract as a Dagster schema: type, meaning, unit, nullability and origin of every column."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                description=column.comment,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
                tags={
                    **({"unit": _tag(column.unit)} if column.unit else {}),
                    **({"source": _origin(sources[column.name])} if column.name in sources else {}),
                },
            )
            for column in table.columns
        ]
    )


def column_lineage(sources: Mapping[str, tuple[Source, ...]]) -> dict[str, dg.TableColumnLineage]:
    """The source columns of each column for Dagster+ and its API; the open-source UI shows the tag `source` instead."""
    lineage = {
        name: [dg.TableColumnDep(asset_key=dg.AssetKey(table.asset_key), column_name=column) for table, column in of]
        for name, of in sources.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=lineage)} if lineage else {}


def change_metadata(change: HourChange) -> dict[str, int]:
    return {
        "rows": change.rows,
        "inserted": change.inserted,
        "updated": change.updated,
        "unchanged": change.unchanged,
    }


def _origin(sources: tuple[Source, ...]) -> str:
    # A tag value holds no comma and has a maximum length.
    tables = sorted({table.name for table, _ in sources})
    columns = sorted({column for _, column in sources})
    return f"{'_and_'.join(tables)}.{'_and_'.join(columns)}"


def _tag(unit: str) -> str:
    # Dagster's tag values allow letters, digits, - _ and dots.
    return {"%": "percent"}.get(unit, unit.replace("/", "_per_"))
