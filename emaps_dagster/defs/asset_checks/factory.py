"""Builds the asset checks: one multi-asset check, and so one step, for each table.

transforms/quality/ evaluates the conditions, evaluations.py converts the outcomes. Bodies that must not be loaded are
quarantined in bronze.rejected_responses; a wrong row of silver or gold is not: it is rebuilt from bronze.
"""

# No postponed annotations: Dagster reads the type of `context` when it decorates the step.

from collections.abc import Iterator

import dagster as dg

from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import ENERGY_DATA, bronze_tables, ml_features
from emaps_dagster.defs.asset_checks.evaluations import hourly_evaluations, table_evaluation
from emaps_dagster.defs.instance.materializations import latest_materializations
from emaps_dagster.defs.partitions import complete_window, hours_of
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.pipeline.check_catalog import checks_of
from emaps_dagster.pipeline.checks import CheckContext, evaluate_hours, evaluate_table


def check_definitions(
    zones: tuple[str, ...], partitions: dg.PartitionsDefinition[str], road: str
) -> list[dg.AssetChecksDefinition]:
    tables = (*bronze_tables(road), ENERGY_DATA, ml_features(zones))
    return [_checks(table, zones, partitions) for table in tables]


def _checks(table: Table, zones: tuple[str, ...], partitions: dg.PartitionsDefinition[str]) -> dg.AssetChecksDefinition:
    key = dg.AssetKey(table.asset_key)
    specs = {
        check: dg.AssetCheckSpec(
            check.name,
            asset=key,
            description=check.remedy,
            blocking=check.blocking,
            partitions_def=None if check.of_the_table else partitions,
        )
        for check in checks_of(table)
    }

    @dg.multi_asset_check(name=f"check_{table.layer}_{table.name}", specs=list(specs.values()), can_subset=True)
    @launchable
    def evaluate(
        context: dg.AssetCheckExecutionContext,
        lakehouse: LakehouseResource,
        electricity_maps: ElectricityMapsResource,
    ) -> Iterator[object]:
        now = electricity_maps.clock()
        checked = CheckContext(lakehouse.open(), zones, complete_window(context, partitions, now), now)
        selected = [check for check, spec in specs.items() if spec.key in context.selected_asset_check_keys]
        outcomes = evaluate_hours(checked, table, [check for check in selected if not check.of_the_table])
        beside = {partition_key(hour) for outcome in outcomes.values() for hour in outcome.beside}
        shown = list({*hours_of(checked.run).values(), *beside}) if outcomes else []
        targets = latest_materializations(context.instance, key, shown)
        for check in selected:
            spec = specs[check]
            if check.of_the_table:
                yield table_evaluation(spec, evaluate_table(checked, table, check))
            else:
                yield from hourly_evaluations(spec, checked.run, outcomes[check], targets)
                yield dg.Output(None, output_name=spec.get_python_identifier())

    return evaluate
