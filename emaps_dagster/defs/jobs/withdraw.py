"""The job `withdraw`: excludes responses of bronze from all reads and rebuilds silver and gold without them.

Bronze itself is append-only: a row of bronze.withdrawn_responses names each excluded response and the reason, and
every reader of responses leaves it out (Lakehouse.scan_responses, docs/adr/0014).
"""

# No postponed annotations: Dagster reads the argument types of an op when it decorates it.

from datetime import datetime
from typing import Any

import dagster as dg
from pydantic import Field

from emaps_dagster.contracts.tables import ENERGY_DATA, WITHDRAWN_RESPONSES, ml_features
from emaps_dagster.contracts.windows import rebuilt_gold, rebuilt_silver
from emaps_dagster.defs.jobs.rebuild import report_rebuild
from emaps_dagster.defs.names import WITHDRAW, pool_of
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.pipeline.withdraw import (
    Selected,
    Selection,
    gold_without,
    select,
    selection_of,
    sentence,
    silver_without,
    withdraw,
)

_SHOWN = 10


class WithdrawConfig(dg.Config):
    """Config of the job in the launchpad."""

    # The launchpad is prefilled with the defaults.
    payload_sha256: str = Field(
        default="", description="Responses with this body, as a check names it; several with commas between"
    )
    ingested_in_the_future: bool = Field(
        default=False, description="Responses that say they were received later than now: the clock was ahead"
    )
    ingested_from: str = Field(
        default="", description="Responses received at this time or later, UTC, such as 2024-05-01T06:07:00Z"
    )
    ingested_until: str = Field(default="", description="Responses received before this time, likewise")
    zone: str = Field(default="", description="Only responses of this zone; empty: of all zones")
    reason: str = Field(default="", description="Why, for those who find them later")
    dry_run: bool = Field(default=False, description="List them and count what would differ, write nothing")


def withdraw_job(zones: tuple[str, ...], first_partition: datetime) -> dg.JobDefinition:
    return withdraw_graph(zones, first_partition).to_job(
        name=WITHDRAW,
        description=(
            "Takes responses of bronze out of all that is read of it, and makes silver and gold of their hours again "
            "without them: for responses that a check found altered, of a sandbox, or stored with a wrong clock. "
            "Bronze keeps them. With dry_run it lists them and counts what would differ."
        ),
        config=same_for_all_steps,
    )


def withdraw_graph(zones: tuple[str, ...], first_partition: datetime) -> dg.GraphDefinition:
    """Responses, then silver, then gold; each step selects the same responses, also in a repeated launch."""

    @dg.op(
        pool=pool_of(WITHDRAWN_RESPONSES),
        out=dg.Out(dg.Nothing),
        description="Which responses of bronze no longer count.",
    )
    @launchable
    def withdraw_responses(
        context: dg.OpExecutionContext,
        config: WithdrawConfig,
        lakehouse: LakehouseResource,
        electricity_maps: ElectricityMapsResource,
    ) -> None:
        tables = lakehouse.open()
        selected = select(tables, _selection(config), electricity_maps.clock(), config.reason)
        if not config.dry_run:
            withdraw(tables, selected)
        context.log.warning(sentence(selected, dry_run=config.dry_run))
        context.add_output_metadata(
            {
                "responses": selected.fresh.num_rows,
                "withdrawn_before": selected.before,
                "hours": ", ".join(map(str, selected.hours)),
                "outcome": "dry run, nothing written" if config.dry_run else "written",
                **_shown(selected),
            }
        )

    @dg.op(
        pool=pool_of(ENERGY_DATA),
        ins={"withdrawn": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        description="silver.energy_data of their hours without them.",
    )
    @launchable
    def silver_without_them(
        context: dg.OpExecutionContext,
        config: WithdrawConfig,
        lakehouse: LakehouseResource,
        electricity_maps: ElectricityMapsResource,
    ) -> None:
        tables = lakehouse.open()
        selected = select(tables, _selection(config), electricity_maps.clock())
        report = silver_without(tables, selected, dry_run=config.dry_run)
        hours = ", ".join(str(rebuilt_silver(span)) for span in selected.hours)
        report_rebuild(context, ENERGY_DATA, hours, report, first_partition, config.dry_run, "withdraw")

    @dg.op(
        pool=pool_of(ml_features(zones)),
        ins={"silver": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        description="gold.ml_features from that silver.",
    )
    @launchable
    def gold_without_them(
        context: dg.OpExecutionContext,
        config: WithdrawConfig,
        lakehouse: LakehouseResource,
        electricity_maps: ElectricityMapsResource,
    ) -> None:
        tables = lakehouse.open()
        selected = select(tables, _selection(config), electricity_maps.clock())
        report = gold_without(tables, zones, selected, dry_run=config.dry_run)
        hours = ", ".join(str(rebuilt_gold(span)) for span in selected.hours)
        report_rebuild(context, ml_features(zones), hours, report, first_partition, config.dry_run, "withdraw")

    @dg.graph(name="withdraw")
    def withdrawal() -> None:
        gold_without_them(silver_without_them(withdraw_responses()))

    return withdrawal


@dg.config_mapping
def same_for_all_steps(config: WithdrawConfig) -> dg.RunConfig:
    """Map the config of the job to its three steps."""
    return dg.RunConfig(ops=dict.fromkeys(("withdraw_responses", "silver_without_them", "gold_without_them"), config))


def _selection(config: WithdrawConfig) -> Selection:
    return selection_of(
        payload_sha256=config.payload_sha256,
        ingested_in_the_future=config.ingested_in_the_future,
        ingested_from=config.ingested_from,
        ingested_until=config.ingested_until,
        zone=config.zone,
    )


def _shown(selected: Selected) -> dict[str, dg.MetadataValue[Any]]:
    rows = [
        dg.TableRecord(
            {
                "table": row["bronze_table"],
                "zone": row["zone"],
                "ingested_at": f"{row['ingested_at']:%Y-%m-%dT%H:%M:%S.%fZ}",
                "hours": f"[{row['window_start']:%Y-%m-%dT%H:%MZ}, {row['window_end']:%Y-%m-%dT%H:%MZ})",
                "request": row["request"],
                "payload_sha256": row["payload_sha256"],
            }
        )
        for row in selected.fresh.slice(0, _SHOWN).to_pylist()
    ]
    return {"first_responses": dg.MetadataValue.table(rows)} if rows else {}
