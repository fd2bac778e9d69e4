"""The contracts: every column has a meaning, every quantity a unit, and docs/tables.md says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from emaps_dagster.cli.tables_doc import markdown
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import all_tables
from emaps_dagster.contracts.zones import ZONES

DOCS = Path(__file__).resolve().parents[2] / "docs"
EVERY_COLUMN = [(table, column) for table in all_tables(tuple(ZONES)) for column in table.columns]


def test_docs_tables_is_what_the_contracts_say() -> None:
    written = (DOCS / "tables.md").read_text()
    assert written == markdown(("GR",)), "run: make docs"


@pytest.mark.parametrize("table", all_tables(("GR",)), ids=lambda table: table.qualified_name)
def test_a_table_has_a_meaning_a_key_and_a_partition_column_of_its_own_columns(table: Table) -> None:
    assert table.meaning
    assert len(table.column_names) == len(set(table.column_names))
    assert {*table.key, table.partition} <= set(table.column_names)
    assert all(not column.nullable for column in table.columns if column.name in (*table.key, table.partition))


def test_every_column_says_what_it_means() -> None:
    # What a lag or a mean is of is named first; docs/tables.md is a Markdown table.
    names = {column.name for _, column in EVERY_COLUMN} | {"yyyy-MM", "lifecycle"}
    unclear = [
        f"{table.qualified_name}.{column.name}"
        for table, column in EVERY_COLUMN
        if len(column.meaning) < 8
        or not (column.meaning[0].isupper() or column.meaning.split()[0] in names)
        or column.meaning.endswith(".")
        or set("|\n") & set(column.meaning)
    ]
    assert unclear == []


def test_every_quantity_has_its_unit_and_nothing_else_has_one() -> None:
    allowed = {"double": {"MW", "gCO2eq/kWh", "%"}, "map<string,double>": {"MW"}}
    counts = {"hours_observed_24h": {"h"}, "hours_estimated_24h": {"h"}}
    wrong = [
        f"{table.qualified_name}.{column.name} [{column.unit}]"
        for table, column in EVERY_COLUMN
        if column.unit not in counts.get(column.name, allowed.get(column.type, {None}))
    ]
    assert wrong == []


def test_the_unit_is_that_of_what_a_lag_or_mean_is_of() -> None:
    gold = all_tables(("GR",))[-1]
    unit = {column.name: column.unit for column in gold.columns}
    features = [name for name in unit if name.startswith(("lag_", "rolling_avg_"))]
    assert len(features) == 2 * 39
    for name in features:
        of = name.removeprefix("lag_").removeprefix("rolling_avg_").removesuffix("_1h").removesuffix("_24h")
        assert unit[name] == unit[of], name


def test_the_neighbours_of_all_zones_together_are_the_columns_of_gold() -> None:
    names = all_tables(("GR", "BG"))[-1].column_names
    flows = [name for name in names if name.startswith(("import_", "export_")) and not name.endswith("_total")]
    imports = ["AL", "BG", "GR", "IT_SO", "MK", "RO", "RS", "TR"]
    assert flows == [*(f"import_{n}" for n in imports), *(f"export_{n}" for n in imports)]


def test_a_column_of_its_row_alone_names_columns_that_are_not() -> None:
    gold = all_tables(("GR",))[-1]
    inputs = {column.name: column.inputs for column in gold.columns}
    assert inputs["hour"] == ("datetime",)
    assert inputs["is_holiday"] == ("zone", "datetime")
    assert [name for of in inputs.values() for name in of if inputs[name] != ()] == []
