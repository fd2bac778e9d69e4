"""The checks of every table in Dagster: one step a table, a status for each hour of the run.

What is judged lives in transforms/quality.py; here it is read, reported and made to block.
"""

# No postponed annotations: Dagster reads the type of `context` when it decorates.

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from emaps_dagster.fetch import LONGEST_BODY
from emaps_dagster.lakehouse import Lakehouse
from emaps_dagster.partitions import hours_of, run_window
from emaps_dagster.resources.spark import LakehouseResource
from emaps_dagster.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, Table, ml_features
from emaps_dagster.transforms import quality
from emaps_dagster.transforms.quality import Finding, Outcome
from emaps_dagster.windows import LOOK_BACK, Window, gold_window, silver_window

_SHOWN = 10
# SQLite takes a bounded number of values in one IN list.
_LOOKED_UP_AT_ONCE = 500


@dataclass(frozen=True)
class Check:
    """A truth about a table: its name asserts it, `judge` looks, `remedy` tells a person what to do."""

    name: str
    remedy: str
    judge: Callable[[Lakehouse, Window], Outcome]


def checks_of(table: Table, zones: tuple[str, ...]) -> list[Check]:
    """The checks of one table, all of them about our own bugs and therefore blocking."""
    schema = Check(
        "schema_matches_the_contract",
        "Columns and types are those of docs/tables.md. If not, somebody else wrote to the table: restore it.",
        lambda house, _window: quality.schema_matches_the_contract(house.schema_differences(table)),
    )
    unique = Check(
        "primary_key_is_unique",
        "Zone and datetime name one row. If not, remove the table's folder and backfill it from the layer below.",
        lambda house, window: quality.primary_key_is_unique(house.read_hours(table, window), table),
    )
    if table == ENERGY_DATA:
        return [
            schema,
            unique,
            Check(
                "latest_ingestion_wins",
                "Each hour carries the record ingested last. If not, materialize its partition again.",
                _latest_ingestion_wins,
            ),
        ]
    if table.layer == "gold":
        return [
            schema,
            unique,
            Check(
                "lag_1h_is_the_previous_hour",
                "Each lag is the value one hour earlier. If not, materialize the partition of gold again.",
                lambda house, window: quality.lag_1h_is_the_previous_hour(
                    house.read_hours(table, window), _context(house, window), zones
                ),
            ),
            Check(
                "rolling_avg_24h_is_the_mean_of_the_window",
                "Each mean is that of its 24 hours. If not, materialize the partition of gold again.",
                lambda house, window: quality.rolling_avg_24h_is_the_mean_of_the_window(
                    house.read_hours(table, window), _context(house, window), zones
                ),
            ),
        ]
    return [schema]


def _latest_ingestion_wins(house: Lakehouse, window: Window) -> Outcome:
    return quality.latest_ingestion_wins(
        house.read_hours(ENERGY_DATA, window),
        house.read_responses(POWER_DATA, window, longest=LONGEST_BODY),
        house.read_responses(CARBON_DATA, window, longest=LONGEST_BODY),
        window.start,
        window.end,
    )


def _context(house: Lakehouse, window: Window):  # type: ignore[no-untyped-def]
    return house.read_hours(ENERGY_DATA, Window(window.start - LOOK_BACK, window.end))


def check_definitions(
    zones: tuple[str, ...], partitions: dg.PartitionsDefinition[str]
) -> list[dg.AssetChecksDefinition]:
    touched: dict[str, Callable[[Window], Window]] = {
        "bronze": lambda run: run,
        "silver": silver_window,
        "gold": gold_window,
    }
    tables = (POWER_DATA, CARBON_DATA, ENERGY_DATA, ml_features(zones))
    return [_checks(table, checks_of(table, zones), partitions, touched[table.layer]) for table in tables]


def _checks(
    table: Table,
    checks: list[Check],
    partitions: dg.PartitionsDefinition[str],
    touched: Callable[[Window], Window],
) -> dg.AssetChecksDefinition:
    key = dg.AssetKey(table.asset_key)
    specs = [
        dg.AssetCheckSpec(check.name, asset=key, description=check.remedy, blocking=True, partitions_def=partitions)
        for check in checks
    ]

    @dg.multi_asset_check(name=f"check_{table.layer}_{table.name}", specs=specs, can_subset=True)
    def evaluate(context: dg.AssetCheckExecutionContext, lakehouse: LakehouseResource) -> Iterator[object]:
        house = lakehouse.open()
        run = run_window(context)
        targets = _targets(context, key, list(hours_of(run).values()))
        for spec, check in zip(specs, checks, strict=True):
            if spec.key not in context.selected_asset_check_keys:
                continue
            outcome = Outcome(0, ())
            # A month at a time, as the merge works, so that a long range fits in memory.
            for part in touched(run).by_month():
                outcome += check.judge(house, part)
            yield from _evaluations(key, check, run, outcome, targets)
            yield dg.Output(None, output_name=spec.get_python_identifier())

    return evaluate


def _evaluations(
    key: dg.AssetKey,
    check: Check,
    run: Window,
    outcome: Outcome,
    targets: dict[str, AssetCheckEvaluationTargetMaterializationData],
) -> Iterator[dg.AssetCheckEvaluation]:
    """One evaluation for each hour of the run, so that every partition shows its own status."""
    hours = hours_of(run)
    found: dict[str, list[Finding]] = defaultdict(list)
    for finding in outcome.findings:
        if finding.hour is None:
            for partition in hours.values():
                found[partition].append(finding)
        else:
            # A run also touches hours beside its own; they are charged to the nearest of its own.
            nearest = min(max(finding.hour, run.start), max(hours))
            found[hours[nearest]].append(finding)
    for partition in hours.values():
        findings = found[partition]
        yield dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=check.name,
            passed=not findings,
            severity=dg.AssetCheckSeverity.ERROR,
            blocking=True,
            partition=partition,
            description=None if not findings else f"{len(findings)} findings, the first: {findings[0].what}",
            metadata={"rows_judged_in_run": outcome.judged, **({"findings": _table(findings)} if findings else {})},
            target_materialization_data=targets.get(partition),
        )


def _table(findings: list[Finding]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"zone": f.zone, "datetime": f.hour.isoformat() if f.hour else "", "finding": f.what})
            for f in findings[:_SHOWN]
        ]
    )


def _targets(
    context: dg.AssetCheckExecutionContext, key: dg.AssetKey, partitions: list[str]
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """The latest materialization of each partition: without it a status does not count as current."""
    targets: dict[str, AssetCheckEvaluationTargetMaterializationData] = {}
    for first in range(0, len(partitions), _LOOKED_UP_AT_ONCE):
        some = partitions[first : first + _LOOKED_UP_AT_ONCE]
        filter_ = dg.AssetRecordsFilter(asset_key=key, asset_partitions=some)
        cursor = None
        while len(targets.keys() & set(some)) < len(some):
            page = context.instance.fetch_materializations(filter_, limit=len(some), cursor=cursor)
            for record in page.records:
                if record.partition_key is not None and record.partition_key not in targets:
                    targets[record.partition_key] = AssetCheckEvaluationTargetMaterializationData(
                        storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
                    )
            cursor = page.cursor
            if not page.has_more:
                break
    return targets
