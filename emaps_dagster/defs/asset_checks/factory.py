"""Which checks each table has, what they judge, and whether they block: one step a table.

What is true is judged in transforms/quality/, how it is told to Dagster in evaluations.py. Bodies that must not be
loaded are quarantined in bronze.rejected_responses; a wrong row of silver or gold is not: bronze makes it again.
"""

# No postponed annotations: Dagster reads the type of `context` when it decorates.

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.errors import PySparkException

from emaps_dagster.contracts.errors import DamagedTableError, LakehouseError
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, Table, ml_features
from emaps_dagster.contracts.windows import Window, floor_hour, gold_context, gold_window, silver_window
from emaps_dagster.defs.asset_checks.evaluations import status_of_each_hour, status_of_the_table
from emaps_dagster.defs.instance.materializations import latest_materializations
from emaps_dagster.defs.partitions import complete_window, hours_of
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.spark import LakehouseResource
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.electricity_maps.fetch import LONGEST_BODY
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.pipeline.quarantine import mending_responses, rejected_records
from emaps_dagster.transforms.quality.bronze import BronzeEvidence, no_sandbox_data, raw_json_parses
from emaps_dagster.transforms.quality.constant import STUCK_AFTER, STUCK_AFTER_IN_A_SMALL_ZONE, values_change
from emaps_dagster.transforms.quality.contract import (
    conform,
    primary_key_is_unique,
    schema_matches_the_contract,
    table_is_fresh,
)
from emaps_dagster.transforms.quality.factors import rolling_avg_24h_is_of_one_emission_factor_type
from emaps_dagster.transforms.quality.gold import (
    GoldEvidence,
    gold_equals_silver,
    gold_is_not_stale,
    lag_1h_is_the_previous_hour,
    rolling_avg_24h_is_the_mean_of_the_window,
)
from emaps_dagster.transforms.quality.neighbours import neighbours_have_columns
from emaps_dagster.transforms.quality.outcome import Finding, Outcome
from emaps_dagster.transforms.quality.plausibility import (
    energy_balances,
    every_hour_is_present,
    parts_sum_to_total,
    values_are_plausible,
)
from emaps_dagster.transforms.quality.quarantine import every_record_is_trusted
from emaps_dagster.transforms.quality.reported import values_are_reported
from emaps_dagster.transforms.quality.silver import (
    SilverEvidence,
    ingestion_times_are_right,
    latest_ingestion_wins,
    silver_equals_bronze,
)


@dataclass(frozen=True)
class Check:
    """A truth about a table: its name asserts it, `judge` looks at evidence, `remedy` tells a person what to do.

    What our own code can break blocks what is downstream; what the world can break only warns.
    """

    judge: Callable[..., Outcome]
    remedy: str
    blocking: bool = True
    of_the_table: bool = False

    @property
    def name(self) -> str:
        return self.judge.__name__


@dataclass(frozen=True)
class Scene:
    """What a run's checks look at: where the tables lie, the configured zones, the run's hours and clock."""

    house: Lakehouse
    zones: tuple[str, ...]
    run: Window
    now: datetime


_SCHEMA = Check(
    schema_matches_the_contract,
    "Columns and types are those of docs/tables.md. If not, somebody else wrote to the table or a new release changed "
    "the contract: launch the job `rebuild` over all hours of silver or gold; restore bronze's version before that, or "
    "your copy of it (docs/operations.md, Copies).",
    of_the_table=True,
)
_FRESH = Check(
    table_is_fresh,
    "Every zone has an hour that ended within the last 6 hours. If not, see that the schedule runs and why its last "
    "runs failed, then backfill the missing hours: after a day a plan without past-range cannot get them any more.",
    blocking=False,
    of_the_table=True,
)
_UNIQUE = Check(
    primary_key_is_unique,
    "Zone and datetime name one row. If not, launch the job `rebuild` over the hours that are named.",
)
_BRONZE = [
    _SCHEMA,
    Check(
        raw_json_parses,
        "Every stored body is strict JSON and holds what its row says. If not, the files of bronze were altered: "
        "launch the job `withdraw` with the payload_sha256 that is named, then materialize these hours again, all "
        "layers.",
    ),
    Check(
        no_sandbox_data,
        "No body carries the provider's sandbox marker. If one does, use a production token (EMAPS_API_TOKEN), launch "
        "the job `withdraw` with the payload_sha256 that is named, then materialize these hours again, all layers.",
    ),
    Check(
        every_record_is_trusted,
        "No hour's newest record is quarantined. If not, only that hour waits: bronze.rejected_records has record and "
        "reason, and a trusted record that came before stays in silver. Later runs ask again by themselves; tell the "
        "provider if it stays so. A new mode has to be added to zones.py.",
        blocking=False,
    ),
]
_SILVER = [
    _SCHEMA,
    _UNIQUE,
    Check(
        latest_ingestion_wins,
        "Each hour carries the record ingested last. If not, materialize its partition of silver again; if it stays, "
        "transforms/silver.py is wrong.",
    ),
    Check(
        silver_equals_bronze,
        "Silver holds the hours and values of bronze. If not, launch the job `rebuild` over the hours that are named; "
        "it also removes rows that bronze does not give.",
    ),
    Check(
        ingestion_times_are_right,
        "Every response was received when bronze says. If not, the machine's clock was wrong and silver may show an "
        "older record: set the clock, launch the job `withdraw` with the payload_sha256 and, as ingested_from, the "
        "time that are named (with ingested_in_the_future: true for all that lie ahead), then materialize these hours "
        "again, all layers.",
        blocking=False,
    ),
    Check(
        every_hour_is_present,
        "Each hour of the run has its row, from both feeds. If not, the provider was late or silent: materialize the "
        "partition again later, all layers.",
        blocking=False,
    ),
    Check(
        parts_sum_to_total,
        "Modes and flows sum to their totals. If not, the provider's record is inconsistent: wait for its revision; "
        "use the parts or the total with care until then.",
        blocking=False,
    ),
    Check(
        energy_balances,
        "Consumption is production + import - export. If not, the provider's record is inconsistent: wait for its "
        "revision, and tell the provider if it stays so.",
        blocking=False,
    ),
    Check(
        values_are_plausible,
        "Signs, percentages and the limits in zones.py, of every zone and of this one, hold. If not, look at the body "
        "in bronze: a new unit or column is ours to fix, a wrong value the provider's, a new power plant a new limit "
        "in zones.py.",
        blocking=False,
    ),
    Check(
        values_are_reported,
        "Each hour has values, and none that was reported is null now. If not, materialize the partition again later, "
        "all layers; until the provider reports values, rolling_count_* in gold shows how many each mean has.",
        blocking=False,
    ),
    Check(
        neighbours_have_columns,
        "Each neighbour in the flow maps has columns in gold. If not, add it to the zone's neighbours in zones.py, "
        "restart Dagster, and launch the job `rebuild` over all hours of gold; until then its flows are in silver's "
        "maps only.",
        blocking=False,
    ),
    Check(
        values_change,
        f"No zone reports the same production modes for {STUCK_AFTER} hours ({STUCK_AFTER_IN_A_SMALL_ZONE} in a zone "
        "of a few MW). If not, the provider repeats an old hour: leave these hours out of training, tell the provider, "
        "and materialize them again, all layers, once it has corrected them.",
        blocking=False,
    ),
    _FRESH,
]
_GOLD = [
    _SCHEMA,
    _UNIQUE,
    Check(
        lag_1h_is_the_previous_hour,
        "Each lag is silver's value one hour earlier. If not, materialize the partition of gold again; if it stays, "
        "transforms/gold.py is wrong.",
    ),
    Check(
        rolling_avg_24h_is_the_mean_of_the_window,
        "Each mean is that of silver's 24 hours. If not, materialize the partition of gold again; if it stays, "
        "transforms/gold.py is wrong.",
    ),
    Check(
        gold_equals_silver,
        "Each gold row carries the values of its silver row, and its time columns and counts are right. If not, "
        "launch the job `rebuild` over the hours that are named; it also removes rows that silver does not give.",
    ),
    Check(
        gold_is_not_stale,
        "Every hour of silver is in gold with its present values. If not, gold was not run after silver changed: "
        "materialize the partitions of gold that are named.",
    ),
    Check(
        rolling_avg_24h_is_of_one_emission_factor_type,
        "Each mean of carbon_intensity is over one emission factor type. If not, materialize the hours of the other "
        "emission_factor_type again, all layers; while the provider mixes them, leave the hours named out of training "
        "or average by type from silver.",
        blocking=False,
    ),
    _FRESH,
]


def checks_of(table: Table) -> list[Check]:
    """The checks of a table, in the order they are shown."""
    return {"bronze": _BRONZE, "silver": _SILVER, "gold": _GOLD}[table.layer]


def check_definitions(
    zones: tuple[str, ...], partitions: dg.PartitionsDefinition[str]
) -> list[dg.AssetChecksDefinition]:
    return [_checks(table, zones, partitions) for table in (POWER_DATA, CARBON_DATA, ENERGY_DATA, ml_features(zones))]


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
        scene = Scene(lakehouse.open(), zones, complete_window(context, partitions, now), now)
        selected = [check for check, spec in specs.items() if spec.key in context.selected_asset_check_keys]
        outcomes = judge_hours(scene, table, [check for check in selected if not check.of_the_table])
        beside = {partition_key(hour) for outcome in outcomes.values() for hour in outcome.beside}
        shown = list({*hours_of(scene.run).values(), *beside}) if outcomes else []
        targets = latest_materializations(context.instance, key, shown)
        for check in selected:
            spec = specs[check]
            if check.of_the_table:
                yield status_of_the_table(spec, judge_table(scene, table, check))
            else:
                yield from status_of_each_hour(spec, scene.run, outcomes[check], targets)
                yield dg.Output(None, output_name=spec.get_python_identifier())

    return evaluate


def judge_hours(scene: Scene, table: Table, checks: list[Check]) -> dict[Check, Outcome]:
    """What the checks say of the hours that a run touches, from one pass over the tables."""
    outcomes = {check: Outcome(0) for check in checks}
    if not checks:
        return outcomes
    touched = {"bronze": lambda run: run, "silver": silver_window, "gold": gold_window}[table.layer](scene.run)
    # A month at a time, so that a long range fits in memory; a tick at the turn of a month is one pass.
    for part in touched.in_months(timedelta(days=31)):
        try:
            rows, evidence = _collect(scene, table, part)
        except (PySparkException, LakehouseError) as error:
            finding = _unreadable(table, error, part)
            for check in checks:
                outcomes[check] += Outcome(0, (finding,))
            continue
        for check in checks:
            outcomes[check] += check.judge(rows if check.judge is primary_key_is_unique else evidence)
    return outcomes


def judge_table(scene: Scene, table: Table, check: Check) -> Outcome:
    """What a check says of a table as a whole."""
    try:
        exists = scene.house.version(table) is not None
        if check.judge is schema_matches_the_contract:
            return check.judge(scene.house.types(table) if exists else None, table)
        return check.judge(_latest_hours(scene, table) if exists else dict.fromkeys(scene.zones), scene.now)
    except (PySparkException, LakehouseError) as error:
        return Outcome(0, (_unreadable(table, error),))


def _latest_hours(scene: Scene, table: Table) -> dict[str, datetime | None]:
    latest: dict[str, datetime | None] = dict.fromkeys(scene.zones)
    # Two months are read at most, however long the table.
    lately = Window(floor_hour(scene.now) - timedelta(days=31), floor_hour(scene.now) + timedelta(hours=1))
    rows = scene.house.rows(table, lately, columns=("zone", "datetime"))
    found = rows.group_by("zone").aggregate([("datetime", "max")])
    return latest | {row["zone"]: row["datetime_max"] for row in found.to_pylist() if row["zone"] in latest}


def _unreadable(table: Table, error: Exception, part: Window | None = None) -> Finding:
    """A table that cannot be read does not pass, and does not hide what else is wrong by a crash."""
    # Our own sentences say what to do at their end.
    said = str(error) if isinstance(error, DamagedTableError) else str(error).splitlines()[0][:300]
    told = f"{table.qualified_name}, or what it is made from, cannot be read: {said}"
    return Finding("", part.start if part else None, told, part.end if part else None)


def _collect(scene: Scene, table: Table, part: Window) -> tuple[pa.Table, Any]:
    """The table's rows of a month and all that its checks compare them with, each read once."""

    def responses(of: Table) -> pa.Table:
        if scene.house.version(of) is None:
            return conform(pa.table({}), of)
        return conform(scene.house.collect(scene.house.read_responses(of, part, longest=LONGEST_BODY)), of)

    if table.layer == "bronze":
        rows = responses(table)
        if part.start != scene.run.start:
            # A body over the turn of a month was judged with the month before.
            rows = rows.filter(pc.greater_equal(rows.column("window_start"), part.start))
        near = silver_window(scene.run)
        start = near.start if part.start == scene.run.start else part.start
        rejected = rejected_records(
            scene.house, table, Window(start, near.end if part.end == scene.run.end else part.end)
        )
        return rows, BronzeEvidence(rows, rejected, mending_responses(scene.house, table, rejected))
    rows = scene.house.rows(table, part)
    if table == ENERGY_DATA:
        power, carbon = responses(POWER_DATA), responses(CARBON_DATA)
        return rows, SilverEvidence(part, scene.run, scene.zones, scene.now, rows, power, carbon)
    return rows, GoldEvidence(part, scene.zones, rows, scene.house.rows(ENERGY_DATA, gold_context(part)))
