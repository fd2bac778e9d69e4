"""Column lineage is true: change a source, and exactly the columns that name it change."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from emaps_dagster.contracts.lineage import gold_sources, silver_sources, sources_of
from emaps_dagster.contracts.tables import ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.contracts.zones import MODE_KEYS
from emaps_dagster.transforms.gold import features
from emaps_dagster.transforms.silver import energy_data
from emaps_dagster_tests.support.builders import as_rows, body, bronze, record, silver, utc

T = utc(2024, 5, 4, 6)
GR = ("GR",)
NEIGHBOURS = ("AL", "BG", "IT-SO", "MK", "TR")


@pytest.mark.parametrize("zones", [("GR",), ("GR", "BG"), ("FR",)])
def test_every_column_of_silver_and_gold_has_sources_that_the_contracts_know(zones: tuple[str, ...]) -> None:
    for table in (ENERGY_DATA, ml_features(zones)):
        sources = sources_of(table, zones)
        assert set(sources) == set(table.column_names)
        for of in sources.values():
            assert of
            assert [source for upstream, source in of if source not in upstream.column_names] == []
    assert sources_of(POWER_DATA, zones) == {}


def _value(kind: str, number: int) -> Any:
    return {
        "double": 100.0 + number,
        "boolean": bool(number % 2),
        "string": f"text {number}",
        "timestamp": T + number * HOUR,
        "map<string,double>": {neighbour: 10.0 * place + number for place, neighbour in enumerate(NEIGHBOURS)},
    }[kind]


def test_a_changed_column_of_silver_changes_exactly_the_columns_of_gold_that_name_it(spark: SparkSession) -> None:
    changed = [c for c in ENERGY_DATA.columns if c.name not in (*ENERGY_DATA.key, ENERGY_DATA.partition)]
    plain = {column.name: _value(column.type, 0) for column in changed}
    # One zone a trial: all trials are one frame, and one run of the transform.
    rows = [{"zone": "unchanged", **plain}]
    rows += [{"zone": column.name, **plain, column.name: _value(column.type, 1)} for column in changed]
    # A count changes with a null alone.
    rows += [{"zone": f"no {column.name}", **plain, column.name: None} for column in changed]
    frame = silver(spark, [{"datetime": T + hour * HOUR, **row} for row in rows for hour in (0, 1)])
    made = {row.pop("zone"): row for row in as_rows(features(frame, GR, T + HOUR, T + 2 * HOUR))}

    sources = gold_sources(GR)
    for column in changed:
        differs = {
            name
            for trial in (column.name, f"no {column.name}")
            for name, value in made[trial].items()
            if value != made["unchanged"][name]
        }
        assert differs == {name for name, of in sources.items() if (ENERGY_DATA, column.name) in of}, column.name


def test_another_hour_of_silver_changes_the_columns_of_gold_that_name_datetime(spark: SparkSession) -> None:
    # From a Saturday in May to a Monday in June, another hour; the zone is a real one, so that local time is known.
    hours = {"before": T, "after": utc(2024, 6, 24, 9)}
    made = {}
    for name, hour in hours.items():
        (made[name],) = as_rows(features(silver(spark, [{"datetime": hour}]), GR, hour, hour + HOUR))
    differs = {name for name, value in made["after"].items() if value != made["before"][name]}
    of_datetime = {name for name, of in gold_sources(GR).items() if (ENERGY_DATA, "datetime") in of}
    # Both are lone hours, the first no holiday: here these two come out alike.
    assert differs | {"hours_observed_24h", "is_holiday"} == of_datetime


def test_a_changed_body_of_a_feed_changes_exactly_the_columns_of_silver_that_name_it(spark: SparkSession) -> None:
    def power(number: int) -> str:
        parts = dict.fromkeys(MODE_KEYS, 100 + number)
        totals = {f"power{what}Total": number for what in ("Consumption", "Production", "Import", "Export")}
        shares = {"fossilFreePercentage": number, "renewablePercentage": number}
        sides = {f"power{what}Breakdown": parts for what in ("Consumption", "Production")}
        flows = {f"power{what}Breakdown": {"AL": number} for what in ("Import", "Export")}
        return body(record(T, **_stamps(number), **totals, **shares, **sides, **flows))

    def carbon(number: int) -> str:
        return body(record(T, **_stamps(number), carbonIntensity=number, emissionFactorType=f"type {number}"))

    def made(power_body: str, carbon_body: str, minutes: tuple[int, int] = (7, 7)) -> dict[str, Any]:
        at = [utc(2024, 5, 5, 6, minute) for minute in minutes]
        power_rows, carbon_rows = bronze(spark, (power_body, at[0])), bronze(spark, (carbon_body, at[1]))
        (row,) = as_rows(energy_data(power_rows, carbon_rows, T, T + HOUR))
        return row

    plain = made(power(0), carbon(0))
    trials = {
        ("power_data", "raw_json"): made(power(1), carbon(0)),
        ("carbon_data", "raw_json"): made(power(0), carbon(1)),
        ("power_data", "ingested_at"): made(power(0), carbon(0), (8, 7)),
        ("carbon_data", "ingested_at"): made(power(0), carbon(0), (7, 8)),
    }
    for source, row in trials.items():
        differs = {name for name, value in row.items() if value != plain[name]}
        named = {name for name, of in silver_sources().items() if source in [(table.name, c) for table, c in of]}
        # The hour itself stays the same: it is what the rows are compared at.
        assert differs == named - {"datetime", "year_month"}, source


def _stamps(number: int) -> dict[str, Any]:
    return {
        "isEstimated": bool(number),
        "estimationMethod": f"method {number}",
        "updatedAt": f"2024-05-04T08:0{number}:00.000Z",
        "createdAt": f"2024-05-04T07:0{number}:00.000Z",
    }
