"""The job `maintenance`: compacts every table and removes files that no retained version needs.

No row changes; bronze keeps every row. The package `lakehouse` decides which files are compacted and removed.
"""

# No postponed annotations: Dagster reads the argument types of an op when it decorates it.

from datetime import timedelta

import dagster as dg
from pydantic import Field

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import REJECTED_RECORDS, REJECTED_RESPONSES, WITHDRAWN_RESPONSES
from emaps_dagster.defs.names import MAINTENANCE, pool_of
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.pipeline.maintenance import maintain_table, tables_of

# Delta's own safe minimum; every tick rewrites files of its month, so a longer retention costs disk.
_RETAIN_DAYS = 7


class MaintenanceConfig(dg.Config):
    """Config of the job in the launchpad."""

    retain_days: int = Field(
        default=_RETAIN_DAYS,
        description="How many days back versions of a table stay readable (VERSION AS OF), 1 at least. Reads as of a "
        "time need bronze's rows only and keep them all.",
    )


def maintenance_job(zones: tuple[str, ...]) -> dg.JobDefinition:
    return maintenance_graph(zones).to_job(
        name=MAINTENANCE,
        description=(
            "Puts the small files of every table together and removes those that no version of the retention needs. "
            "No row changes; it may run beside anything. By itself on Sundays."
        ),
        config=for_every_step(zones),
    )


def maintenance_graph(zones: tuple[str, ...]) -> dg.GraphDefinition:
    """One step for each table, in the pool of its writers; a failed step does not stop the others."""

    def step(table: Table) -> dg.OpDefinition:
        @dg.op(
            name=step_of(table),
            pool=pool_of(table),
            out=dg.Out(dg.Nothing),
            description=f"{table.qualified_name} in fewer files.",
        )
        @launchable
        def maintain(context: dg.OpExecutionContext, config: MaintenanceConfig, lakehouse: LakehouseResource) -> None:
            numbers = maintain_table(lakehouse.open(), table, timedelta(days=config.retain_days))
            context.log.info("%s: %s", table.qualified_name, _sentence(numbers))
            context.add_output_metadata({"table": table.qualified_name, **(numbers or {"outcome": "no table yet"})})
            # These tables are no assets. The numbers of an asset's table are also recorded on its page.
            if numbers and table not in (REJECTED_RESPONSES, REJECTED_RECORDS, WITHDRAWN_RESPONSES):
                context.log_event(dg.AssetObservation(dg.AssetKey(table.asset_key), metadata=numbers))

        return maintain

    steps = [step(table) for table in tables_of(zones)]

    @dg.graph(name="maintenance")
    def maintenance() -> None:
        for each in steps:
            each()

    return maintenance


def for_every_step(zones: tuple[str, ...]) -> dg.ConfigMapping:
    """Map the config of the job to every step: one retention for all tables."""

    @dg.config_mapping
    def for_all(config: MaintenanceConfig) -> dg.RunConfig:
        return dg.RunConfig(ops={step_of(table): config for table in tables_of(zones)})

    return for_all


def step_of(table: Table) -> str:
    """The name of a table's step."""
    return f"maintain_{table.layer}_{table.name}"


def _sentence(numbers: dict[str, int | float] | None) -> str:
    if numbers is None:
        return "there is no table yet"
    return (
        f"{numbers['files_before']} files of {numbers['bytes_before']:,} bytes became {numbers['files_after']} of "
        f"{numbers['bytes_after']:,}; {numbers['files_removed']} that no version of the last "
        f"{numbers['retain_days']} days needs were removed"
    )
