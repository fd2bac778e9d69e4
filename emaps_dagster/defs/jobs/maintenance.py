"""Every table put into fewer files, and files removed that no version of the retention needs: the job `maintenance`.

No row changes. What is compacted and what may go is decided in lakehouse.py; bronze keeps every row.
"""

# No postponed annotations: Dagster reads the types of an op's arguments when it decorates.

from datetime import timedelta

import dagster as dg
from pydantic import Field

from emaps_dagster.contracts.tables import REJECTED_RECORDS, REJECTED_RESPONSES, WITHDRAWN_RESPONSES, Table
from emaps_dagster.defs.assets.metadata import pool_of
from emaps_dagster.defs.names import MAINTENANCE
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.pipeline.maintenance import maintain_table, tables_of

# What Delta itself calls safe; a tick rewrites the files of its month, so every further week costs disk.
_RETAIN_DAYS = 7


class MaintenanceConfig(dg.Config):
    """What the launchpad asks for."""

    retain_days: int = Field(
        default=_RETAIN_DAYS,
        description="How many days back versions of a table stay readable (VERSION AS OF), 1 at least. Reads as of a "
        "time need bronze's rows only and keep them all.",
    )


def step_of(table: Table) -> str:
    return f"maintain_{table.layer}_{table.name}"


def maintenance_graph(zones: tuple[str, ...]) -> dg.GraphDefinition:
    """A step a table, each in its turn with the writers of its table; one that fails does not keep the others."""

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
            # These are no assets. Of an asset, its page is where a person looks for its table.
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
    """One retention for all tables."""

    @dg.config_mapping
    def for_all(config: MaintenanceConfig) -> dg.RunConfig:
        return dg.RunConfig(ops={step_of(table): config for table in tables_of(zones)})

    return for_all


def _sentence(numbers: dict[str, int | float] | None) -> str:
    if numbers is None:
        return "there is no table yet"
    return (
        f"{numbers['files_before']} files of {numbers['bytes_before']:,} bytes became {numbers['files_after']} of "
        f"{numbers['bytes_after']:,}; {numbers['files_removed']} that no version of the last "
        f"{numbers['retain_days']} days needs were removed"
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
