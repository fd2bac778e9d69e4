"""The job `rebuild`: recomputes silver and gold of a range from bronze alone and reports the differing rows.

It fetches no data and only reads bronze. The package `lakehouse` compares and writes the rows.
"""

# No postponed annotations: Dagster reads the argument types of an op when it decorates it.

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

import dagster as dg
from pydantic import Field

from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import rebuilt_gold, rebuilt_silver
from emaps_dagster.defs.names import REBUILD, pool_of
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.lakehouse.comparison import HourDifference
from emaps_dagster.lakehouse.reports import RebuildReport
from emaps_dagster.pipeline.rebuild import FIRST, LAST, hours_to_rebuild, rebuild_gold, rebuild_silver


class RebuildConfig(dg.Config):
    """Config of the job in the launchpad."""

    # The launchpad is prefilled with the defaults.
    start: str = Field(
        default=FIRST,
        description="First hour to rebuild, UTC: a day such as 2024-05-01, or 2024-05-01T06:00Z; or first, the first "
        "that a table holds",
    )
    end: str = Field(
        default=LAST,
        description="End of the last hour, likewise; the hours are [start, end); or last: all that a table holds",
    )
    dry_run: bool = Field(default=False, description="Count and show what differs, write nothing")


def rebuild_job(zones: tuple[str, ...], first_partition: datetime) -> dg.JobDefinition:
    return rebuild_graph(zones, first_partition).to_job(
        name=REBUILD,
        description=(
            "Makes silver and gold of a range again from bronze alone, fetches nothing, and says how many rows "
            "differed: 0 is the healthy answer. For a table whose contract changed (another EMAPS_ZONES, a new "
            "release: give all its hours), for rows that a check found wrong or too many, and, with dry_run, for "
            "asking whether all is well."
        ),
        config=same_for_both_steps,
    )


def rebuild_graph(zones: tuple[str, ...], first_partition: datetime) -> dg.GraphDefinition:
    """Silver, then gold; each step runs in the pool of its table's writers."""

    @dg.op(
        name="rebuild_silver",
        pool=pool_of(ENERGY_DATA),
        out=dg.Out(dg.Nothing),
        description="silver.energy_data from bronze.",
    )
    @launchable
    def silver_step(context: dg.OpExecutionContext, config: RebuildConfig, lakehouse: LakehouseResource) -> None:
        tables = lakehouse.open()
        hours = hours_to_rebuild(tables, zones, config.start, config.end)
        report = rebuild_silver(tables, hours, dry_run=config.dry_run)
        report_rebuild(context, ENERGY_DATA, str(rebuilt_silver(hours)), report, first_partition, config.dry_run)

    @dg.op(
        name="rebuild_gold",
        pool=pool_of(ml_features(zones)),
        ins={"silver": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        description="gold.ml_features from that silver.",
    )
    @launchable
    def gold_step(context: dg.OpExecutionContext, config: RebuildConfig, lakehouse: LakehouseResource) -> None:
        tables = lakehouse.open()
        hours = hours_to_rebuild(tables, zones, config.start, config.end)
        report = rebuild_gold(tables, zones, hours, dry_run=config.dry_run)
        report_rebuild(context, ml_features(zones), str(rebuilt_gold(hours)), report, first_partition, config.dry_run)

    @dg.graph(name="rebuild")
    def rebuild() -> None:
        gold_step(silver_step())

    return rebuild


def report_rebuild(
    context: dg.OpExecutionContext,
    table: Table,
    hours: str,
    report: RebuildReport,
    first_partition: datetime,
    dry_run: bool,
    by: str = "rebuild",
) -> None:
    """Record the numbers of each differing hour on its partition, and those of the range on the step."""
    for event in _events(table, report, dry_run, first_partition, by):
        context.log_event(event)
    total = report.differences.total
    log = context.log.warning if total.differing or report.contract else context.log.info
    log(
        "%s %s: %d row%s from the %d that bronze gives (%d missing, %d wrong, %d surplus, %d duplicate)%s; %s",
        table.qualified_name,
        hours,
        total.differing,
        " differs" if total.differing == 1 else "s differ",
        total.rows,
        total.missing,
        total.wrong,
        total.surplus,
        total.duplicate,
        f"; {'; '.join(report.contract)}" if report.contract else "",
        _done(report, dry_run),
    )
    context.add_output_metadata(
        {
            "table": table.qualified_name,
            "window": hours,
            "rows_differing": total.differing,
            **{f"rows_{name}": count for name, count in asdict(total).items() if name != "rows"},
            "rows_from_bronze": total.rows,
            "commit_conflicts": report.retries,
            "outcome": _done(report, dry_run),
            **({"contract": "; ".join(report.contract)} if report.contract else {}),
            **_shown(report),
        }
    )


@dg.config_mapping
def same_for_both_steps(config: RebuildConfig) -> dg.RunConfig:
    """Map the config of the job to both steps."""
    return dg.RunConfig(ops={"rebuild_silver": config, "rebuild_gold": config})


def _done(report: RebuildReport, dry_run: bool) -> str:
    if not report.differences.total.differing and not report.contract:
        return "healthy, nothing to write"
    return "dry run, nothing written" if dry_run else "written"


def _events(
    table: Table, report: RebuildReport, dry_run: bool, first_partition: datetime, by: str
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    for hour, found in report.differences.hours.items():
        # Events fill Dagster's log: a healthy year must not add one for each of 17,520 hours.
        if hour < first_partition or not found.differing:
            continue
        # Earlier check results do not cover rows written now: a materialization marks them as outdated.
        event = dg.AssetObservation if dry_run else dg.AssetMaterialization
        numbers: dict[str, int | str] = {**_numbers(found), "by": by}
        yield event(asset_key=dg.AssetKey(table.asset_key), partition=partition_key(hour), metadata=numbers)


def _numbers(found: HourDifference) -> dict[str, int]:
    return {"rows": found.rows, "differing": found.differing, **{k: v for k, v in asdict(found).items() if k != "rows"}}


def _shown(report: RebuildReport) -> dict[str, dg.MetadataValue[Any]]:
    """The first differing rows as a table; empty without any."""
    rows = [
        dg.TableRecord({"zone": f.zone, "datetime": f"{f.hour:%Y-%m-%dT%H:%MZ}", "difference": f.what})
        for f in report.differences.first
    ]
    return {"first_differing_rows": dg.MetadataValue.table(rows)} if rows else {}
