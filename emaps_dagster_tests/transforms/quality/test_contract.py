"""Whatever is stored is judged by the contract: its columns, its key, its age."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from emaps_dagster.contracts.tables import ENERGY_DATA
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.transforms.quality import contract
from emaps_dagster_tests.support.check_inputs import H0, H1, table_of


def test_rows_conform_to_the_contract_whatever_is_stored() -> None:
    stored = pa.table(
        {
            "zone": pa.array(["GR"], pa.large_string()),
            "datetime": pa.array([H0.replace(tzinfo=None)], pa.timestamp("ns")),
            "production_gas": pa.array(["a lot"]),
            "production_oil": pa.array([3], pa.int64()),
            "import_by_zone": pa.array([1.0]),
            "of_somebody_else": pa.array([1]),
        }
    )
    (row,) = conform(stored, ENERGY_DATA).to_pylist()
    assert list(row) == ENERGY_DATA.column_names
    assert (row["zone"], row["datetime"], row["production_oil"]) == ("GR", H0, 3.0)
    assert row["production_gas"] is row["import_by_zone"] is row["carbon_intensity"] is None


def test_a_time_in_another_zone_is_the_same_instant() -> None:
    stored = pa.table({"datetime": pa.array([H0], pa.timestamp("us", tz="Europe/Athens"))})
    assert conform(stored, ENERGY_DATA).column("datetime").to_pylist() == [H0]


STORED = {column.name: column.type for column in ENERGY_DATA.columns}


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (STORED, []),
        ({**STORED, "more": "int"}, ["column more is not in the contract"]),
        ({**STORED, "datetime": "string"}, ["column datetime is string, must be timestamp"]),
        ({k: v for k, v in STORED.items() if k != "zone"}, ["column zone is missing"]),
        (None, ["silver.energy_data does not exist"]),
    ],
)
def test_the_schema_is_compared_name_by_name_and_type_by_type(stored: Any, found: list[str]) -> None:
    outcome = contract.schema_matches_the_contract(stored, ENERGY_DATA)
    assert [finding.what for finding in outcome.findings] == found


def test_a_key_that_stands_twice_or_is_null_is_found_once_each() -> None:
    keys = [("GR", H0), ("GR", H1), ("FR", H0), ("GR", H0), ("GR", H0), (None, H1)]
    outcome = contract.primary_key_is_unique(table_of(ENERGY_DATA, [{"zone": z, "datetime": h} for z, h in keys]))
    assert [(f.zone, f.hour, f.what) for f in outcome.findings] == [
        ("", H1, "a row without its zone or hour"),
        ("GR", H0, "3 rows with this key"),
    ]
    assert outcome.checked == 6


@pytest.mark.parametrize(("hours_behind", "is_fresh"), [(0, True), (6, True), (7, False), (100, False)])
def test_a_table_is_fresh_until_its_latest_hour_ended_six_hours_ago(hours_behind: int, is_fresh: bool) -> None:
    latest = H0 - (hours_behind + 1) * HOUR
    assert contract.table_is_fresh({"GR": latest}, H0).passed is is_fresh
    assert contract.table_is_fresh({"GR": latest}, H0 + timedelta(minutes=7)).passed is (hours_behind < 6)


def test_freshness_is_judged_zone_by_zone() -> None:
    outcome = contract.table_is_fresh({"GR": H0, "FR": H0 - 24 * HOUR, "DE": None}, H1)
    assert [(f.zone, f.what) for f in outcome.findings] == [
        ("FR", "the latest hour is 2024-03-30T10:00Z: it ended 24 hours ago"),
        ("DE", "no hour of the last month is in the table"),
    ]
