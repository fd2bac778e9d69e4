"""The hourly job's graph with nothing in it, and no import but Dagster's: what `dagster job execute` costs at least.

As many assets, partitions and checks as emaps_dagster.definitions has; the checks say of the hour that it passed.
"""

from collections.abc import Iterator

import dagster as dg

PARTITIONS = dg.HourlyPartitionsDefinition(start_date="2025-12-01-00:00", timezone="UTC", fmt="%Y-%m-%d-%H:%M")
# By table: what it is made from, checks of each hour, checks of the table.
GRAPH = {
    "power_data": ((), 3, 1),
    "carbon_data": ((), 3, 1),
    "energy_data": (("power_data", "carbon_data"), 12, 2),
    "ml_features": (("energy_data",), 7, 2),
}


def _asset(name: str, deps: tuple[str, ...]) -> dg.AssetsDefinition:
    @dg.asset(name=name, deps=list(deps), partitions_def=PARTITIONS)
    def empty() -> None: ...

    return empty


def _checks(name: str, of_hours: int, of_table: int) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec(f"check_{number}", asset=name, blocking=True, partitions_def=PARTITIONS if hourly else None)
        for number, hourly in enumerate([True] * of_hours + [False] * of_table)
    ]

    @dg.multi_asset_check(name=f"check_{name}", specs=specs)
    def passing() -> Iterator[dg.AssetCheckResult]:
        for spec in specs:
            yield dg.AssetCheckResult(asset_key=spec.asset_key, check_name=spec.name, passed=True)

    return passing


defs = dg.Definitions(
    assets=[_asset(name, deps) for name, (deps, _, _) in GRAPH.items()],
    asset_checks=[_checks(name, of_hours, of_table) for name, (_, of_hours, of_table) in GRAPH.items()],
    jobs=[dg.define_asset_job("hourly", selection=dg.AssetSelection.all())],
    executor=dg.in_process_executor,
)
