"""How a table and its rows are shown in Dagster: columns, kinds, tags, numbers of an hour.

Nothing here computes data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dagster as dg

from emaps_dagster.contracts.lineage import Source, sources_of
from emaps_dagster.contracts.tables import Table
from emaps_dagster.defs.assets.descriptions import FRESHNESS, links_of, page_of
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.lakehouse.reports import HourChange

OWNERS = ["team:data-platform"]


def column_schema(table: Table, sources: Mapping[str, tuple[Source, ...]]) -> dg.TableSchema:
    """The contract as Dagster shows it: type, meaning, unit, nullability and origin of every column."""
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
    """Where each column comes from, as Dagster+ and its API read it; the open UI shows the tag `source` of a column."""
    lineage = {
        name: [dg.TableColumnDep(asset_key=dg.AssetKey(table.asset_key), column_name=column) for table, column in of]
        for name, of in sources.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=lineage)} if lineage else {}


def _origin(sources: tuple[Source, ...]) -> str:
    # A tag holds no comma; one that is too long is refused.
    tables = sorted({table.name for table, _ in sources})
    columns = sorted({column for _, column in sources})
    return f"{'_and_'.join(tables)}.{'_and_'.join(columns)}"


def _tag(unit: str) -> str:
    # Dagster's tag values allow letters, digits, - _ and dots.
    return {"%": "percent"}.get(unit, unit.replace("/", "_per_"))


def table_asset(
    table: Table,
    partitions: dg.PartitionsDefinition[str],
    kind: str,
    deps: Iterable[Table] = (),
    zones: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` with what every asset of the graph declares alike."""
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
            "dagster/column_schema": column_schema(table, sources_of(table, zones)),
            "dagster/table_name": table.qualified_name,
            **column_lineage(sources_of(table, zones)),
            **links_of(table),
        },
        freshness_policy=FRESHNESS[table.layer],
        code_version="1",
        # Writers of one table queue up where the instance gives its pool a limit of 1.
        pool=pool_of(table),
    )
    return lambda compute: declare(launchable(compute))


def pool_of(table: Table) -> str:
    """Writers of one table, assets and the rebuild alike, share its pool."""
    return f"{table.layer}_{table.name}"


def change_metadata(change: HourChange) -> dict[str, int]:
    return {
        "rows": change.rows,
        "inserted": change.inserted,
        "updated": change.updated,
        "unchanged": change.unchanged,
    }
