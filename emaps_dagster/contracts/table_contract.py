"""Types of the table contracts: a column, a table, and the units."""

from __future__ import annotations

from dataclasses import dataclass

MEGAWATT = "MW"
CARBON_INTENSITY_UNIT = "gCO2eq/kWh"
PERCENT = "%"
HOURS = "h"


@dataclass(frozen=True)
class Column:
    """One column: Spark DDL type, meaning, and optional unit.

    `inputs` names the columns of the same row that this one is computed from, which have no inputs themselves. It is
    empty for a column that is stored as it came or computed from several rows.
    """

    name: str
    type: str
    meaning: str
    unit: str | None = None
    nullable: bool = True
    inputs: tuple[str, ...] = ()

    @property
    def comment(self) -> str:
        """Meaning and unit in one line, as stored in Delta and shown in Dagster."""
        return f"{self.meaning} [{self.unit}]" if self.unit else self.meaning


@dataclass(frozen=True)
class Table:
    """One Delta table of a layer; the `key` columns identify a row, `partition` is the partition column."""

    layer: str
    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    append_only: bool
    partition: str = "year_month"

    @property
    def qualified_name(self) -> str:
        return f"{self.layer}.{self.name}"

    @property
    def asset_key(self) -> list[str]:
        return [self.layer, self.name]

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def value_columns(self) -> list[str]:
        """Every column that is neither key nor partition."""
        return [name for name in self.column_names if name not in (*self.key, self.partition)]

    @property
    def schema(self) -> str:
        """The columns as a Spark DDL schema string."""
        return ", ".join(
            f"`{column.name}` {column.type}{'' if column.nullable else ' NOT NULL'}" for column in self.columns
        )
