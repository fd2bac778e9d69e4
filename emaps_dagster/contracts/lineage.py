"""Column lineage of silver and gold, derived from the contracts.

A test changes each source column and compares which columns change with this lineage.
"""

from __future__ import annotations

from itertools import chain

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import (
    CARBON_DATA,
    ENERGY_DATA,
    IS_SUPERSEDED,
    MIX_DATA,
    POWER_DATA,
    SOURCE_POWER,
    count_column,
    key_columns,
    lag_column,
    ml_features,
    rolling_column,
)
from emaps_dagster.contracts.zones import neighbours_of, zone_column

Source = tuple[Table, str]

# Columns of silver from the carbon feed; all other values come from the power feed.
_OF_CARBON = ("carbon_intensity", "emission_factor_type")


def silver_sources(power: Table = POWER_DATA) -> dict[str, tuple[Source, ...]]:
    """Each column of silver.energy_data with its source columns in bronze, of which `power` is the power feed's."""

    def sources(name: str) -> tuple[Source, ...]:
        if name == "zone":
            return (power, "zone"), (CARBON_DATA, "zone")
        if name in ("datetime", ENERGY_DATA.partition):
            return (power, "raw_json"), (CARBON_DATA, "raw_json")
        if name == SOURCE_POWER.name:
            return ((power, "source"),)
        if name == IS_SUPERSEDED.name:
            return ((MIX_DATA, "raw_json"),)
        feed = CARBON_DATA if name in _OF_CARBON or name.endswith("_carbon") else power
        return ((feed, "ingested_at" if name.startswith("ingested_at_") else "raw_json"),)

    return {name: sources(name) for name in ENERGY_DATA.column_names}


def gold_sources(zone_keys: tuple[str, ...]) -> dict[str, tuple[Source, ...]]:
    """Each column of gold.ml_features with its source columns in silver."""
    flows = {
        f"{direction}_{zone_column(neighbour)}": f"{direction}_by_zone"
        for direction in ("import", "export")
        for neighbour in neighbours_of(zone_keys)
    }
    named: dict[str, tuple[str, ...]] = {}
    for column in key_columns(zone_keys):
        of = (flows.get(column.name, column.name),)
        made = (column.name, *(derived(column.name) for derived in (lag_column, rolling_column, count_column)))
        named |= dict.fromkeys(made, of)
    named["hours_observed_24h"] = ("zone", "datetime")
    named["hours_estimated_24h"] = ("is_estimated_power", "is_estimated_carbon")
    own = ("zone", "datetime", "is_estimated_power", "is_estimated_carbon", "emission_factor_type")
    named |= {name: (name,) for name in own}
    named[ENERGY_DATA.partition] = ("datetime",)
    of_row = {column.name: column.inputs for column in ml_features(zone_keys).columns if column.inputs}
    named |= {name: tuple(dict.fromkeys(chain(*(named[one] for one in inputs)))) for name, inputs in of_row.items()}
    return {name: tuple((ENERGY_DATA, source) for source in sources) for name, sources in named.items()}


def sources_of(table: Table, zone_keys: tuple[str, ...], power: Table = POWER_DATA) -> dict[str, tuple[Source, ...]]:
    """The lineage of a table; empty for bronze, which stores the provider's bodies."""
    if table.layer == "silver":
        return silver_sources(power)
    return gold_sources(zone_keys) if table.layer == "gold" else {}
