"""Contract of each table: name, key, partition column, and type, unit and meaning of every column.

Types are Spark DDL. Delta schemas, Dagster's column metadata, docs/tables.md and the schema
checks derive from this module, so no schema is written twice.
"""

from __future__ import annotations

from functools import cache

from emaps_dagster.contracts.signals import MIX_SIGNALS
from emaps_dagster.contracts.table_contract import CARBON_INTENSITY_UNIT, HOURS, MEGAWATT, PERCENT, Column, Table
from emaps_dagster.contracts.zones import CARBON, MODES, POWER, neighbours_of, zone_column


def _responses(name: str, meaning: str, *, window_nullable: bool, more: tuple[Column, ...] = ()) -> Table:
    window = "null when the body could not be read" if window_nullable else "from the body itself"
    return Table(
        layer="bronze",
        name=name,
        meaning=meaning,
        columns=(
            Column("source", "string", "Which API, version and endpoint answered", nullable=False),
            Column("zone", "string", "Zone key that was asked for", nullable=False),
            Column("raw_json", "string", "The response body, byte for byte", nullable=False),
            Column("ingested_at", "timestamp", "When we received the response, UTC", nullable=False),
            Column("window_start", "timestamp", f"First hour the body holds, UTC; {window}", None, window_nullable),
            Column("window_end", "timestamp", f"End of the last hour it holds, UTC; {window}", None, window_nullable),
            Column("request", "string", "Path and query of the request, without the token", nullable=False),
            Column("payload_sha256", "string", "SHA-256 of the body, hexadecimal", nullable=False),
            *more,
            Column("year_month", "string", "yyyy-MM of the partition's hours, UTC", nullable=False),
        ),
        key=("zone", "request", "payload_sha256", "ingested_at"),
        append_only=True,
    )


TRUSTED = "trusted_json"
_TRUSTED = Column(
    TRUSTED,
    "string",
    "The body without its quarantined records, which is what silver reads; null where raw_json is read as it is",
)
POWER_DATA = _responses(
    "power_data",
    "Raw power-breakdown responses, one row per response, append-only",
    window_nullable=False,
    more=(_TRUSTED,),
)
CARBON_DATA = _responses(
    "carbon_data",
    "Raw carbon-intensity responses, one row per response, append-only",
    window_nullable=False,
    more=(_TRUSTED,),
)
MIX_DATA = _responses(
    "mix_data",
    "Raw responses of the signals of v4 that replace power-breakdown, one row per response, append-only",
    window_nullable=False,
    more=(
        _TRUSTED,
        Column("signal", "string", f"Which of them: {', '.join(feed.name for feed in MIX_SIGNALS)}", nullable=False),
    ),
)
# The tables of each feed of silver. mix_data exists once a run has requested electricity-mix.
FEED_TABLES = {POWER.name: (POWER_DATA, MIX_DATA), CARBON.name: (CARBON_DATA,)}
RESPONSE_TABLES = tuple(table for tables in FEED_TABLES.values() for table in tables)


def bronze_tables(road: str) -> tuple[Table, Table]:
    """The tables that the runs of a road fill: of the power feed, and of carbon-intensity."""
    return MIX_DATA if road == "electricity-mix" else POWER_DATA, CARBON_DATA


REJECTED_RESPONSES = _responses(
    "rejected_responses",
    "Bodies that must not be loaded, kept as evidence, append-only",
    window_nullable=True,
    more=(Column("reason", "string", "Why the body was rejected", nullable=False),),
)
WITHDRAWN_RESPONSES = Table(
    layer="bronze",
    name="withdrawn_responses",
    meaning="Responses of bronze that silver, gold and every look into the past leave out, append-only",
    columns=(
        Column(
            "bronze_table",
            "string",
            "Table that holds the response: power_data, mix_data or carbon_data",
            nullable=False,
        ),
        Column("zone", "string", "Zone key that was asked for", nullable=False),
        Column("request", "string", "Path and query of the request", nullable=False),
        Column("payload_sha256", "string", "SHA-256 of the body, hexadecimal", nullable=False),
        Column("ingested_at", "timestamp", "What bronze says of when the response was received, UTC", nullable=False),
        Column("window_start", "timestamp", "First hour the body holds, UTC", nullable=False),
        Column("window_end", "timestamp", "End of the last hour it holds, UTC", nullable=False),
        Column("reason", "string", "Why it was withdrawn", nullable=False),
        Column("withdrawn_at", "timestamp", "When it was withdrawn, UTC", nullable=False),
        Column("year_month", "string", "The response's partition in its table", nullable=False),
    ),
    key=("bronze_table", "zone", "request", "payload_sha256", "ingested_at"),
    append_only=True,
)

REJECTED_RECORDS = Table(
    layer="bronze",
    name="rejected_records",
    meaning="Single records of stored bodies that must not be loaded, with the reason, append-only",
    columns=(
        Column("source", "string", "Which API, version and endpoint answered", nullable=False),
        Column("zone", "string", "Zone key that was asked for", nullable=False),
        Column(
            "datetime",
            "timestamp",
            "Start of the hour the record is about, UTC: as it says, or as its neighbours leave it; null if unknown",
        ),
        Column("position", "int", "Place of the record in the body's list, from 0", nullable=False),
        Column("record_json", "string", "The record as it stands in the body", nullable=False),
        Column("reason", "string", "Why the record was quarantined", nullable=False),
        Column("ingested_at", "timestamp", "When we received the response, UTC", nullable=False),
        Column("request", "string", "Path and query of the request, without the token", nullable=False),
        Column("payload_sha256", "string", "SHA-256 of the whole body, hexadecimal", nullable=False),
        Column("year_month", "string", "yyyy-MM of datetime, or of ingested_at without one, UTC", nullable=False),
    ),
    key=("zone", "request", "payload_sha256", "ingested_at", "position"),
    append_only=True,
)

_KEY = (
    Column("zone", "string", "Zone key", nullable=False),
    Column("datetime", "timestamp", "Start of the hour, UTC", nullable=False),
)
_YEAR_MONTH = Column("year_month", "string", "yyyy-MM of datetime, UTC; the partition column", nullable=False)


def _mode_columns(side: str, null_means: str) -> tuple[Column, ...]:
    return tuple(
        Column(f"{side}_{mode}", "double", f"Mean {side} from {mode.replace('_', ' ')}; {null_means}", MEGAWATT)
        for mode in MODES
    )


_POWER_VALUES = (
    *_mode_columns("production", "null where not reported, negative while storage charges"),
    *_mode_columns("consumption", "flow-traced"),
    Column("production_total", "double", "Mean production of all modes", MEGAWATT),
    Column("consumption_total", "double", "Mean consumption", MEGAWATT),
    Column("import_total", "double", "Mean import from all neighbours", MEGAWATT),
    Column("export_total", "double", "Mean export to all neighbours", MEGAWATT),
)
_CARBON_VALUE = Column(
    "carbon_intensity", "double", "Carbon intensity of the electricity consumed", CARBON_INTENSITY_UNIT
)
_EMISSION_FACTOR_TYPE = Column("emission_factor_type", "string", "lifecycle or direct emission factors")
_IS_ESTIMATED = {
    feed: Column(
        f"is_estimated_{feed}", "boolean", f"Whether the {feed} record is the provider's estimate; null unknown"
    )
    for feed in ("power", "carbon")
}


def _provenance(feed: str) -> tuple[Column, ...]:
    return (
        _IS_ESTIMATED[feed],
        Column(f"estimation_method_{feed}", "string", f"How the {feed} record was estimated; null if measured"),
        Column(f"updated_at_{feed}", "timestamp", f"When the provider last touched the {feed} record, UTC"),
        Column(f"created_at_{feed}", "timestamp", f"When the provider created the {feed} record, UTC"),
        Column(f"ingested_at_{feed}", "timestamp", f"Since when we know this content of the {feed} record, UTC"),
    )


SOURCE_POWER = Column(
    "source_power",
    "string",
    "API, version and signal of the response that first had this content of the power record, such as "
    "electricitymaps/v3/power-breakdown",
)
IS_SUPERSEDED = Column(
    "is_superseded_power",
    "boolean",
    "Whether a newer version of the hour arrived in part and is requested again; null without electricity-mix",
)

ENERGY_DATA = Table(
    layer="silver",
    name="energy_data",
    meaning="One row per zone and hour: power breakdown and carbon intensity, latest ingestion wins",
    columns=(
        *_KEY,
        *_POWER_VALUES,
        Column("import_by_zone", "map<string,double>", "Mean import by neighbouring zone", MEGAWATT),
        Column("export_by_zone", "map<string,double>", "Mean export by neighbouring zone", MEGAWATT),
        Column("fossil_free_percentage", "double", "Renewables and nuclear in consumption", PERCENT),
        Column("renewable_percentage", "double", "Renewables in consumption", PERCENT),
        _CARBON_VALUE,
        _EMISSION_FACTOR_TYPE,
        *_provenance("power"),
        SOURCE_POWER,
        IS_SUPERSEDED,
        *_provenance("carbon"),
        _YEAR_MONTH,
    ),
    key=("zone", "datetime"),
    append_only=False,
)


# An hour without any of these values of a feed counts as empty: flows alone give no production or consumption.
FEED_VALUES: dict[str, tuple[str, ...]] = {
    "power": tuple(column.name for column in _POWER_VALUES if column.name not in ("import_total", "export_total")),
    "carbon": (_CARBON_VALUE.name,),
}


def _flow_columns(zone_keys: tuple[str, ...]) -> tuple[Column, ...]:
    return tuple(
        Column(
            f"{direction}_{zone_column(neighbour)}",
            "double",
            f"Mean {direction} {preposition} {neighbour}; null where the API names no such neighbour",
            MEGAWATT,
        )
        for direction, preposition in (("import", "from"), ("export", "to"))
        for neighbour in neighbours_of(zone_keys)
    )


_LOCAL = ("zone", "datetime")
_CALENDAR = (
    Column("hour", "int", "Hour of the UTC datetime, 0-23", None, False, ("datetime",)),
    Column("day_of_week", "int", "Day of the UTC datetime, 1 = Sunday ... 7 = Saturday", None, False, ("datetime",)),
    Column("month", "int", "Month of the UTC datetime, 1-12", None, False, ("datetime",)),
    Column("local_hour", "int", "Hour in the zone's local time, 0-23; null if its time zone is unknown", inputs=_LOCAL),
    Column("local_day_of_week", "int", "Local day, 1 = Sunday ... 7 = Saturday; null as local_hour", inputs=_LOCAL),
    Column("is_weekend", "boolean", "Whether the local day is Saturday or Sunday; null as local_hour", inputs=_LOCAL),
    Column(
        "is_holiday", "boolean", "Whether the local day is a national public holiday; null if unknown", inputs=_LOCAL
    ),
)


def key_columns(zone_keys: tuple[str, ...]) -> tuple[Column, ...]:
    """Columns of gold that have a lag and a rolling mean, for the configured zones."""
    return (*_POWER_VALUES, _CARBON_VALUE, *_flow_columns(zone_keys))


def lag_column(name: str) -> str:
    return f"lag_{name}_1h"


def rolling_column(name: str) -> str:
    return f"rolling_avg_{name}_24h"


def count_column(name: str) -> str:
    return f"rolling_count_{name}_24h"


@cache
def ml_features(zone_keys: tuple[str, ...]) -> Table:
    """Contract of gold.ml_features, with import and export columns for the zones' neighbours."""
    values = key_columns(zone_keys)
    leakage = "the current hour included: do not use it to predict that same hour"
    return Table(
        layer="gold",
        name="ml_features",
        meaning="One row per zone and hour: values, time, lag and rolling features, ready to train on",
        columns=(
            *_KEY,
            *_CALENDAR,
            *values,
            *(
                Column(
                    lag_column(value.name),
                    "double",
                    f"{value.name} at exactly datetime - 1 h; null when that hour is missing or null",
                    value.unit,
                )
                for value in values
            ),
            *(
                Column(
                    rolling_column(value.name),
                    "double",
                    f"Mean of {value.name} over (datetime - 24 h, datetime], nulls skipped; {leakage}",
                    value.unit,
                )
                for value in values
            ),
            *(
                Column(
                    count_column(value.name),
                    "int",
                    f"Number of values in {rolling_column(value.name)}, 0-24; nulls are not counted",
                    nullable=False,
                )
                for value in values
            ),
            Column("hours_observed_24h", "int", "Hours of (datetime - 24 h, datetime] that silver holds", HOURS, False),
            Column("hours_estimated_24h", "int", "Of those, hours whose power or carbon is estimated", HOURS, False),
            *_IS_ESTIMATED.values(),
            _EMISSION_FACTOR_TYPE,
            _YEAR_MONTH,
        ),
        key=("zone", "datetime"),
        append_only=False,
    )


def all_tables(zone_keys: tuple[str, ...]) -> tuple[Table, ...]:
    """Every table, in the order of the data flow."""
    return (
        POWER_DATA,
        MIX_DATA,
        CARBON_DATA,
        REJECTED_RESPONSES,
        REJECTED_RECORDS,
        WITHDRAWN_RESPONSES,
        ENERGY_DATA,
        ml_features(zone_keys),
    )
