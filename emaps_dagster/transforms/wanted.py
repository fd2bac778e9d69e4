"""The columns of gold that a reader wants, by what they are computed from: nothing else is parsed or summed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from emaps_dagster.contracts.tables import count_column, key_columns, lag_column, ml_features, rolling_column

# Columns of silver without a lag or a mean.
OWN_COLUMNS = ("is_estimated_power", "is_estimated_carbon", "emission_factor_type")
_OBSERVED, _ESTIMATED = "hours_observed_24h", "hours_estimated_24h"


@dataclass(frozen=True)
class Wanted:
    """Columns of gold.ml_features, in the contract's order, and what they and their inputs are computed from."""

    columns: tuple[str, ...]
    # Names of key columns: of which the value, the value an hour before, and the sum of 24 hours are needed.
    values: tuple[str, ...]
    lags: tuple[str, ...]
    sums: tuple[str, ...]
    # Of OWN_COLUMNS.
    own: tuple[str, ...]
    # Whether the numbers of hours in the window are needed.
    counts_observed: bool
    counts_estimated: bool

    @property
    def of_silver(self) -> tuple[str, ...]:
        """The key columns and `OWN_COLUMNS` that the wanted ones are computed from, each once."""
        flags = OWN_COLUMNS[:2] if self.counts_estimated else ()
        return tuple(dict.fromkeys((*self.values, *self.lags, *self.sums, *self.own, *flags)))


def wanted(zone_keys: tuple[str, ...], columns: Collection[str] | None = None) -> Wanted:
    """What is needed for some columns of gold, by default for all; the key columns are always among them."""
    gold = ml_features(zone_keys)
    names = [column.name for column in key_columns(zone_keys)]
    chosen = tuple(name for name in gold.column_names if columns is None or name in columns or name in gold.key)
    inputs = (name for column in gold.columns if column.name in chosen for name in column.inputs)
    asked = frozenset((*chosen, *inputs))
    return Wanted(
        columns=chosen,
        values=tuple(name for name in names if name in asked),
        lags=tuple(name for name in names if lag_column(name) in asked),
        sums=tuple(name for name in names if not asked.isdisjoint((rolling_column(name), count_column(name)))),
        own=tuple(name for name in OWN_COLUMNS if name in asked),
        counts_observed=_OBSERVED in asked,
        counts_estimated=_ESTIMATED in asked,
    )
