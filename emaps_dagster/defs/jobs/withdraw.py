"""Responses taken out of all that is read of bronze, silver and gold made again without them: the job `withdraw`.

Bronze itself stays: it is append-only, and a row of bronze.withdrawn_responses says which response does not count
and why. All that reads responses leaves them out (Lakehouse.read_responses, docs/adr/0014).
"""

# No postponed annotations: Dagster reads the types of an op's arguments when it decorates.

import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg
import pyarrow as pa
from pydantic import Field
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.errors import WithdrawalError
from emaps_dagster.contracts.feature_query import moment_of
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, WITHDRAWN_RESPONSES, ml_features
from emaps_dagster.contracts.windows import CLOCK_TOLERANCE, REACH, Window, floor_hour, rebuilt_gold, rebuilt_silver
from emaps_dagster.defs.assets.metadata import pool_of
from emaps_dagster.defs.jobs.rebuild import rebuild_gold, rebuild_silver, report_rebuild
from emaps_dagster.defs.names import WITHDRAW
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.lakehouse.base import Lakehouse, RebuildReport
from emaps_dagster.lakehouse.comparison import Differences
from emaps_dagster.transforms.quality.contract import arrow_schema
from emaps_dagster.transforms.timestamps import instant

_SHOWN = 10
_COLUMNS = [name for name in WITHDRAWN_RESPONSES.column_names if name not in ("reason", "withdrawn_at")]


class WithdrawConfig(dg.Config):
    """What the launchpad asks for."""

    # Defaults are what the launchpad shows before anything is typed.
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


@dataclass(frozen=True)
class Selection:
    """Which responses: all that is given must hold."""

    hashes: tuple[str, ...]
    in_the_future: bool
    since: datetime | None
    until: datetime | None
    zone: str

    def __str__(self) -> str:
        parts = [
            f"payload_sha256 {', '.join(self.hashes)}" if self.hashes else "",
            "ingested_in_the_future" if self.in_the_future else "",
            f"ingested_from {self.since.isoformat()}" if self.since else "",
            f"ingested_until {self.until.isoformat()}" if self.until else "",
            f"zone {self.zone}" if self.zone else "",
        ]
        return ", ".join(filter(None, parts))

    def condition(self, now: Column) -> Column:
        """Whether a row with the key of a response is selected at a moment."""
        ahead = F.col("ingested_at") > now + F.lit(CLOCK_TOLERANCE)
        return (
            (F.col("payload_sha256").isin(*self.hashes) if self.hashes else F.lit(True))
            & (ahead if self.in_the_future else F.lit(True))
            & (F.col("ingested_at") >= instant(self.since) if self.since else F.lit(True))
            & (F.col("ingested_at") < instant(self.until) if self.until else F.lit(True))
            & (F.col("zone") == self.zone if self.zone else F.lit(True))
        )


@dataclass(frozen=True)
class Selected:
    """Rows as of `WITHDRAWN_RESPONSES`: those that count until now, and all hours that they and those before hold."""

    fresh: pa.Table
    before: int
    hours: tuple[Window, ...]


def selection_of(config: WithdrawConfig) -> Selection:
    """What the launchpad asks for, checked.

    Raises:
        WithdrawalError: it would select every response, or nothing by a slip of the pen.
        FeaturesError: a time is none.
    """
    hashes = tuple(filter(None, re.split(r"[\s,]+", config.payload_sha256.lower())))
    for given in hashes:
        if not re.fullmatch(r"[0-9a-f]{64}", given):
            raise WithdrawalError(
                f"payload_sha256 is {given!r}; give all 64 hexadecimal digits, as the check and "
                "bronze.*.payload_sha256 have them. Nothing was withdrawn."
            )
    since = moment_of(config.ingested_from, "ingested_from") if config.ingested_from else None
    until = moment_of(config.ingested_until, "ingested_until") if config.ingested_until else None
    if not (hashes or config.ingested_in_the_future or since or until):
        raise WithdrawalError(
            "Nothing says which responses to withdraw: give payload_sha256, ingested_in_the_future: true, or "
            "ingested_from and ingested_until; zone narrows them. Nothing was withdrawn."
        )
    if not hashes and not config.ingested_in_the_future and not (since and until):
        raise WithdrawalError(
            "Without payload_sha256 or ingested_in_the_future both ingested_from and ingested_until are needed: "
            "not all that follows or precedes can be meant. Nothing was withdrawn."
        )
    if since and until and since >= until:
        raise WithdrawalError(
            f"ingested_from, {since.isoformat()}, is not before ingested_until, {until.isoformat()}. "
            "Nothing was withdrawn."
        )
    return Selection(hashes, config.ingested_in_the_future, since, until, config.zone.strip())


def select(house: Lakehouse, selection: Selection, now: datetime, reason: str = "") -> Selected:
    """The responses that are selected, with those that an earlier launch of the same has withdrawn already.

    Raises:
        WithdrawalError: there are none.
    """
    fresh: list[DataFrame] = []
    before: list[dict[str, Any]] = []
    for table in (POWER_DATA, CARBON_DATA):
        if house.version(table) is not None:
            rows = house.without_withdrawn(table, house.read(table).where(selection.condition(instant(now))))
            fresh.append(rows.withColumn("bronze_table", F.lit(table.name)).select(*_COLUMNS).distinct())
    if house.version(WITHDRAWN_RESPONSES) is not None:
        # What was in the future when it was withdrawn is selected for ever, so that a launch can be repeated.
        withdrawn = house.read(WITHDRAWN_RESPONSES).where(selection.condition(F.col("withdrawn_at")))
        before = house.collect(withdrawn.select(*_COLUMNS).distinct()).to_pylist()
    found = [row for frame in fresh for row in house.collect(frame).to_pylist()]
    if not found and not before:
        raise WithdrawalError(
            f"No response of bronze matches {selection}, so nothing was withdrawn. The finding of the check, and "
            "bronze itself, name zone, ingested_at and payload_sha256 of each response."
        )
    why = reason or f"selected by {selection}"
    withdrawn_rows = [{**row, "reason": why, "withdrawn_at": now} for row in found]
    withdrawn_rows.sort(
        key=lambda row: [str(row[name]) for name in ("bronze_table", "zone", "ingested_at", "payload_sha256")]
    )
    return Selected(
        pa.Table.from_pylist(withdrawn_rows, arrow_schema(WITHDRAWN_RESPONSES)),
        len(before),
        _hours_of([*found, *before]),
    )


def _hours_of(rows: Iterable[dict[str, Any]]) -> tuple[Window, ...]:
    """The hours that responses hold; what lies near each other is made again at once."""
    spans: list[Window] = []
    for start, end in sorted((floor_hour(row["window_start"]), row["window_end"]) for row in rows):
        if spans and start - spans[-1].end <= REACH:
            spans[-1] = Window(spans[-1].start, max(spans[-1].end, end))
        else:
            spans.append(Window(start, end))
    return tuple(spans)


def withdraw(house: Lakehouse, selected: Selected) -> None:
    """From now on no reader sees them."""
    house.create(WITHDRAWN_RESPONSES)
    house.append(WITHDRAWN_RESPONSES, selected.fresh)


def silver_without(house: Lakehouse, selected: Selected, *, dry_run: bool) -> RebuildReport:
    """Silver of their hours made again; a dry run reads as if they were withdrawn, and writes nothing."""
    return _rebuilt(house, selected, rebuild_silver, dry_run=dry_run)


def gold_without(house: Lakehouse, zones: tuple[str, ...], selected: Selected, *, dry_run: bool) -> RebuildReport:
    """Gold likewise."""

    def rebuild(house: Lakehouse, hours: Window, *, dry_run: bool) -> RebuildReport:
        return rebuild_gold(house, zones, hours, dry_run=dry_run)

    return _rebuilt(house, selected, rebuild, dry_run=dry_run)


def _rebuilt(
    house: Lakehouse, selected: Selected, rebuild: Callable[..., RebuildReport], *, dry_run: bool
) -> RebuildReport:
    with house.leaving_out(selected.fresh) if dry_run else nullcontext():
        reports = [rebuild(house, hours, dry_run=dry_run) for hours in selected.hours]
    return sum(reports, RebuildReport(Differences({})))


@dg.config_mapping
def same_for_all_steps(config: WithdrawConfig) -> dg.RunConfig:
    return dg.RunConfig(ops=dict.fromkeys(("withdraw_responses", "silver_without_them", "gold_without_them"), config))


def withdraw_graph(zones: tuple[str, ...], first_partition: datetime) -> dg.GraphDefinition:
    """The responses, then silver, then gold; each step finds the same responses, also when it is launched again."""

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
        house = lakehouse.open()
        selected = select(house, selection_of(config), electricity_maps.clock(), config.reason)
        if not config.dry_run:
            withdraw(house, selected)
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
        house = lakehouse.open()
        selected = select(house, selection_of(config), electricity_maps.clock())
        report = silver_without(house, selected, dry_run=config.dry_run)
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
        house = lakehouse.open()
        selected = select(house, selection_of(config), electricity_maps.clock())
        report = gold_without(house, zones, selected, dry_run=config.dry_run)
        hours = ", ".join(str(rebuilt_gold(span)) for span in selected.hours)
        report_rebuild(context, ml_features(zones), hours, report, first_partition, config.dry_run, "withdraw")

    @dg.graph(name="withdraw")
    def withdrawal() -> None:
        gold_without_them(silver_without_them(withdraw_responses()))

    return withdrawal


def sentence(selected: Selected, *, dry_run: bool) -> str:
    """What was, or would be, withdrawn."""
    number = selected.fresh.num_rows
    count = f"{number} response{'' if number == 1 else 's'}"
    done = f"{count} would be withdrawn; nothing is written" if dry_run else f"{count} withdrawn"
    before = f", {selected.before} of the selection were before" if selected.before else ""
    return f"{done}{before}; they hold hours of {', '.join(map(str, selected.hours))}"


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
