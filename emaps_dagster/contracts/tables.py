"""Contract of each table: name, key, partition column, and type, unit and meaning of every column.

Types are Spark DDL. Delta schemas, Dagster's column metadata, docs/tables.md and the schema checks derive from this
module, so no schema is written twice. The tables of bronze are defined in bronze_tables.py and imported from here.
"""

from __future__ import annotations

from functools import cache

from emaps_dagster.contracts.bronze_tables import (
    CARBON_DATA,
    FEED_TABLES,
    MIX_DATA,
    POWER_DATA,
    REJECTED_RECORDS,
    REJECTED_RESPONSES,
    RESPONSE_TABLES,
    TRUSTED,
    WITHDRAWN_RESPONSES,
    bronze_tables,
)
from emaps_dagster.contracts.table_contract import CARBON_INTENSITY_UNIT, HOURS, MEGAWATT, PERCENT, Column, Table
from emaps_dagster.contracts.zones import MODES, neighbours_of, zone_column

__all__ = [
    "CARBON_DATA",
    "ENERGY_DATA",
    "FEED_TABLES",
    "FEED_VALUES",
    "IS_SUPERSEDED",
    "MIX_DATA",
    "POWER_DATA",
    "REJECTED_RECORDS",
    "REJECTED_RESPONSES",
    "RESPONSE_TABLES",
    "SOURCE_POWER",
    "TRUSTED",
    "WITHDRAWN_RESPONSES",
    "all_tables",
    "bronze_tables",
    "count_column",
    "key_columns",
    "lag_column",
    "ml_features",
    "rolling_column",
]

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
