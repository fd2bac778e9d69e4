"""The checks of each table: name, evaluation, remedy, and whether a failure blocks downstream assets."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.transforms.quality.bronze import no_sandbox_data, raw_json_parses
from emaps_dagster.transforms.quality.constant import STUCK_AFTER, STUCK_AFTER_IN_A_SMALL_ZONE, values_change
from emaps_dagster.transforms.quality.contract import (
    primary_key_is_unique,
    schema_matches_the_contract,
    table_is_fresh,
)
from emaps_dagster.transforms.quality.factors import rolling_avg_24h_is_of_one_emission_factor_type
from emaps_dagster.transforms.quality.gold import (
    gold_equals_silver,
    gold_is_not_stale,
    lag_1h_is_the_previous_hour,
    rolling_avg_24h_is_the_mean_of_the_window,
)
from emaps_dagster.transforms.quality.neighbours import neighbours_have_columns
from emaps_dagster.transforms.quality.outcome import Outcome
from emaps_dagster.transforms.quality.plausibility import (
    energy_balances,
    every_hour_is_present,
    parts_sum_to_total,
    values_are_plausible,
)
from emaps_dagster.transforms.quality.quarantine import every_record_is_trusted
from emaps_dagster.transforms.quality.reported import values_are_reported
from emaps_dagster.transforms.quality.roads import (
    flows_are_not_carried_forward,
    rolling_avg_24h_is_of_one_power_signal,
)
from emaps_dagster.transforms.quality.silver import (
    ingestion_times_are_right,
    latest_ingestion_wins,
    silver_equals_bronze,
)


class Reads(Enum):
    """The input of a check: per run (the first two) or of the table as a whole."""

    EVIDENCE = "the rows of the hours with all that they are compared with"
    ROWS = "the rows of the hours"
    TYPES = "the stored type of each column"
    LATEST_HOURS = "the newest hour of each zone"


@dataclass(frozen=True)
class Check:
    """A data quality check: the name states the condition, `evaluate` tests the evidence, `remedy` is its description.

    A check blocks downstream assets if our own code can cause the failure; failures from outside only warn.
    """

    evaluate: Callable[..., Outcome]
    remedy: str
    blocking: bool = True
    reads: Reads = Reads.EVIDENCE

    @property
    def of_the_table(self) -> bool:
        """Whether it has one status for the table instead of one for each hour."""
        return self.reads in (Reads.TYPES, Reads.LATEST_HOURS)

    @property
    def name(self) -> str:
        return self.evaluate.__name__


_SCHEMA = Check(
    schema_matches_the_contract,
    "Columns and types are those of docs/tables.md. If not, another program wrote to the table, or a new release "
    "changed the contract: launch the job `rebuild` over all hours of silver or gold; restore bronze's version before "
    "that, or your copy of it (docs/operations.md, Copies).",
    reads=Reads.TYPES,
)

_FRESH = Check(
    table_is_fresh,
    "Every zone has an hour that ended within the last 6 hours. If not, see that the schedule runs and why its last "
    "runs failed, then backfill the missing hours: after a day a plan without past-range cannot get them any more.",
    blocking=False,
    reads=Reads.LATEST_HOURS,
)

_UNIQUE = Check(
    primary_key_is_unique,
    "Zone and datetime name one row. If not, launch the job `rebuild` over the hours that are named.",
    reads=Reads.ROWS,
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
        "reason, and a trusted record that came before stays in silver. Later runs request it again by themselves; "
        "report it to the provider if it stays so. A new mode has to be added to zones.py.",
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
        flows_are_not_carried_forward,
        "No hour of electricity-mix repeats flows of the hour before. If not, the provider has not received them yet: "
        "later runs read the hour again; materialize it again, all layers, if it stays so after a day.",
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
    Check(
        rolling_avg_24h_is_of_one_power_signal,
        "Each 24-hour mean of the power feed is over one signal (silver's source_power). If not, EMAPS_POWER_SIGNAL "
        "was changed within these hours: the values differ by less than a megawatt, so that nothing has to be "
        "repaired, and the warning ends 23 hours after the change. For a history of one signal launch the job "
        "`withdraw` with the payload_sha256 of the other signal's responses, then materialize these hours again, all "
        "layers.",
        blocking=False,
    ),
    _FRESH,
]


def checks_of(table: Table) -> list[Check]:
    """The checks of a table, in the order they are shown."""
    return {"bronze": _BRONZE, "silver": _SILVER, "gold": _GOLD}[table.layer]
