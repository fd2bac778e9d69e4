"""electricity-mix to silver: literal hours in, literal rows out, on both engines."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.tables import MIX_DATA
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.as_of import features_as_of
from emaps_dagster.transforms.silver import energy_data
from emaps_dagster_tests.support.builders import as_rows, body, bronze, frame, iso, record, utc
from emaps_dagster_tests.support.engines import is_jvm

pytestmark = pytest.mark.both_engines

T = utc(2026, 8, 22, 6)
# Which hours after T are of which test.
WHOLE, STORED, OF_VERSIONS, OF_ROADS, ALIKE = range(1), range(1, 10), range(10, 19), range(19, 24), range(24, 25)
SILENT = range(25, 26)
HELD = (T, T + 26 * HOUR)
T1, T2, T3, T4 = (utc(2026, 8, 23, number) for number in (8, 9, 10, 11))
V1, V2 = utc(2026, 8, 22, 20), utc(2026, 8, 23, 7)
SOURCES = {"mix": "electricity-mix", "traced_mix": "electricity-mix", "flows": "electricity-flows"}
Told = tuple[str, dict[str, Any], datetime]


def mix_bronze(spark: SparkSession, *told: Told) -> DataFrame:
    """Rows of bronze.mix_data from (signal, record, ingested at), one response for each."""
    rows = []
    for signal, row, ingested_at in told:
        text = body(row)
        start = datetime.fromisoformat(row["datetime"].replace("Z", "+00:00"))
        name = SOURCES.get(signal, f"{signal}-energy")
        sha = hashlib.sha256(text.encode()).hexdigest()
        source = f"electricitymaps/v4/{name}/history"
        rows.append(
            (source, "GR", text, ingested_at, start, start + HOUR, f"/v4/{name}", sha, None, signal, f"{start:%Y-%m}")
        )
    return frame(spark, MIX_DATA, rows)


def mix(hour: datetime, version: datetime, **modes: Any) -> dict[str, Any]:
    totals = {"flows": {"imports": 30, "exports": 5}}
    return record(hour, updatedAt=iso(version), breakdownType="normal", mix={**modes, **totals})


def traced(hour: datetime, version: datetime, **modes: Any) -> dict[str, Any]:
    return record(hour, updatedAt=iso(version), breakdownType="flow-traced", mix=modes)


def flows(hour: datetime, version: datetime, **imports: float) -> dict[str, Any]:
    return record(hour, updatedAt=iso(version), **{"import": imports, "export": {}})


def percentage(hour: datetime, version: datetime, value: float | None) -> dict[str, Any]:
    return record(hour, updatedAt=iso(version), createdAt=iso(hour - 72 * HOUR), value=value)


def whole(hour: datetime, version: datetime, at: datetime, gas: float) -> list[Told]:
    """The three signals that an hour needs, received at one moment."""
    return [
        ("mix", mix(hour, version, gas=gas), at),
        ("traced_mix", traced(hour, version, gas=gas + 1), at),
        ("flows", flows(hour, version, BG=gas + 2), at),
    ]


def in_parts(hour: datetime, *moments: datetime) -> list[Told]:
    """A newer version, each signal at a moment of its own."""
    return [(signal, row, at) for (signal, row, _), at in zip(whole(hour, V2, T2, 200), moments, strict=True)]


Rows = dict[datetime, dict[str, Any]]
# Of an engine; a plan takes it seconds, so that there is one for all hours.
_computed: dict[bool, Rows] = {}


@pytest.fixture
def silver(spark: SparkSession) -> Rows:
    """Rows of silver by hour, from the signals below."""
    if is_jvm(spark) not in _computed:
        power, carbon = bronze(spark, *told_by_power()), bronze(spark, told_of_carbon())
        told = [told_whole(), told_of_storages(), told_of_versions(), told_before_and_after_power(), told_alike()]
        mix = mix_bronze(spark, *(one for each in told for one in each))
        _computed[is_jvm(spark)] = {row["datetime"]: row for row in as_rows(energy_data(power, carbon, *HELD, mix=mix))}
    return _computed[is_jvm(spark)]


def hours(of: range) -> list[datetime]:
    return [T + number * HOUR for number in of]


def rows(silver: Rows, of: range) -> list[dict[str, Any]]:
    return [silver[hour] for hour in hours(of) if hour in silver]


def told_whole() -> list[Told]:
    normal = mix(
        T,
        V1,
        nuclear=None,
        biomass=117.62,
        wind=1039.75,
        solar=0,
        gas=4.74,
        oil=1.49,
        **{"hydro storage": {"charge": 12.5, "discharge": None}, "battery storage": {"charge": 0, "discharge": None}},
    )
    normal |= {"isEstimated": True, "estimationMethod": "ESTIMATED_FORECASTS_HIERARCHY"}
    consumed = traced(T, V1, nuclear=97.23, wind=1062.52, **{"hydro storage": {"discharge": 1.69}})
    return [
        ("mix", normal, T1),
        ("traced_mix", consumed, T1 + timedelta(seconds=1)),
        ("flows", {**flows(T, V1, DE=665, AL=2.5), "export": {"DE": 0}}, T1 + timedelta(seconds=2)),
        ("renewable", percentage(T, V1, 91), T1 + timedelta(seconds=3)),
        ("carbon_free", percentage(T, V1, 98), T1 + timedelta(seconds=4)),
    ]


def test_a_whole_hour_of_every_signal_becomes_one_row(silver: Rows) -> None:
    [row] = rows(silver, WHOLE)
    named = {name: value for name, value in row.items() if value is not None}
    assert named == {
        "zone": "GR",
        "datetime": T,
        "year_month": "2026-08",
        "production_biomass": 117.62,
        "production_wind": 1039.75,
        "production_solar": 0.0,
        "production_gas": 4.74,
        "production_oil": 1.49,
        "production_hydro_discharge": -12.5,
        # The sum of decimals, not of doubles, which is 1163.6000000000001.
        "production_total": 1163.6,
        "consumption_nuclear": 97.23,
        "consumption_wind": 1062.52,
        "consumption_hydro_discharge": 1.69,
        "consumption_total": 1161.44,
        "import_total": 30.0,
        "export_total": 5.0,
        "import_by_zone": {"AL": 2.5, "DE": 665.0},
        "export_by_zone": {"DE": 0.0},
        "renewable_percentage": 91.0,
        "fossil_free_percentage": 98.0,
        "is_estimated_power": True,
        "estimation_method_power": "FORECASTS_HIERARCHY",
        "updated_at_power": V1,
        "created_at_power": T - 72 * HOUR,
        "ingested_at_power": T1 + timedelta(seconds=4),
        "source_power": "electricitymaps/v4/electricity-mix",
        "is_superseded_power": False,
    }


STORAGES: list[tuple[dict[str, Any] | None, float | None]] = [
    ({"charge": 0, "discharge": None}, None),
    ({"charge": None, "discharge": None}, None),
    ({}, None),
    (None, None),
    ({"charge": None, "discharge": 0}, 0.0),
    ({"charge": None, "discharge": 79.25}, 79.25),
    ({"charge": 1512.5, "discharge": None}, -1512.5),
    ({"charge": 0.1, "discharge": 0.3}, 0.2),
    ({"charge": 0, "discharge": 5}, 5.0),
]


def told_of_storages() -> list[Told]:
    told: list[Told] = []
    for hour, (storage, _) in zip(hours(STORED), STORAGES, strict=True):
        told += [
            ("mix", mix(hour, V1, gas=10, **{"hydro storage": storage}) | {"estimationMethod": "MEASURED"}, T1),
            ("traced_mix", traced(hour, V1, gas=10), T1),
            ("flows", flows(hour, V1), T1),
        ]
    # Nothing is reported, so no total is, and what the API may add has no column.
    (silent,) = hours(SILENT)
    nothing = {"hydro storage": {"charge": 0, "discharge": None}, "heat storage": {"charge": 0, "discharge": None}}
    return [
        *told,
        ("mix", mix(silent, V1, gas=None, tidal=0, **nothing), T1),
        ("traced_mix", traced(silent, V1, gas=None), T1),
        ("flows", flows(silent, V1), T1),
    ]


def test_a_storage_is_discharge_minus_charge_and_null_where_it_is_not_reported(silver: Rows) -> None:
    found = rows(silver, STORED)
    assert [row["production_hydro_discharge"] for row in found] == [value for _, value in STORAGES]
    (silent,) = rows(silver, SILENT)
    assert [silent[f"{what}_total"] for what in ("production", "consumption", "import", "export")] == [
        None,
        None,
        30.0,
        5.0,
    ]
    totals = [row["production_total"] for row in found]
    # Discharge is production, charging is not.
    assert totals == [10.0, 10.0, 10.0, 10.0, 10.0, 89.25, 10.0, 10.3, 15.0]
    assert {row["estimation_method_power"] for row in found} == {None}
    assert {row["is_estimated_power"] for row in found} == {False}


def told_of_versions() -> list[Told]:
    at = hours(OF_VERSIONS)
    told = [one for hour in at[:7] for one in whole(hour, V1, T1, 100)]
    told += [("renewable", percentage(hour, V1, 50), T1) for hour in at[:7]]
    # 1: the mix alone is newer. 2: all are. 3: all but the percentage was later. 4: the first version comes again.
    told += [("mix", mix(at[1], V2, gas=200), T2)]
    told += [*whole(at[2], V2, T2, 200), ("renewable", percentage(at[2], V2, 60), T3)]
    told += whole(at[3], V2, T2, 200)
    told += whole(at[4], V2, T2, 200) + whole(at[4], V1, T3, 100)
    # 5: the parts of a version arrive hours apart. 6: flows change within their version. 7 and 8: never whole.
    told += in_parts(at[5], T2, T3, T4)
    told += [("flows", flows(at[6], V1, BG=999), T2)]
    return told + whole(at[7], V1, T1, 100)[:2] + whole(at[8], V1, T1, 100)[:2]


def told_of_carbon() -> tuple[str, datetime]:
    return body(record(hours(OF_VERSIONS)[7], zone="GR", carbonIntensity=300, updatedAt=iso(V1))), T1


def test_an_hour_is_made_of_one_version_and_waits_for_the_rest_of_a_newer_one(silver: Rows) -> None:
    *found, waiting = rows(silver, OF_VERSIONS)
    seen = [
        (
            row["production_gas"],
            row["consumption_gas"],
            row["import_by_zone"]["BG"],
            row["renewable_percentage"],
            row["ingested_at_power"],
            row["is_superseded_power"],
        )
        for row in found
    ]
    assert seen == [
        (100.0, 101.0, 102.0, 50.0, T1, False),
        (100.0, 101.0, 102.0, 50.0, T1, True),
        (200.0, 201.0, 202.0, 60.0, T3, False),
        (200.0, 201.0, 202.0, None, T2, False),
        (100.0, 101.0, 102.0, 50.0, T3, False),
        (200.0, 201.0, 202.0, None, T4, False),
        (100.0, 101.0, 999.0, 50.0, T2, False),
    ]
    # Of the two that were never whole, the one of which carbon intensity is known.
    assert waiting["datetime"] == hours(OF_VERSIONS)[7]
    assert (waiting["carbon_intensity"], waiting["production_gas"], waiting["ingested_at_power"]) == (300.0, None, None)
    assert waiting["is_superseded_power"] is True


def told_by_power() -> list[tuple[str, datetime]]:
    def power(hour: datetime, version: datetime | None, gas: int) -> str:
        stamps = {} if version is None else {"updatedAt": iso(version)}
        breakdowns = {f"power{side}Breakdown": {"gas": gas} for side in ("Production", "Consumption")}
        return body(record(hour, **stamps, **breakdowns))

    at = hours(OF_ROADS)
    return [
        # 0: then the mix tells the same version. 1: then a newer one. 2: after the mix. 3: without a version.
        (power(at[0], V1, 100), T1),
        (power(at[1], V1, 100), T1),
        (power(at[2], V1, 100), T2),
        (power(at[3], None, 100), T1),
        # 4: a newer version after the mix's.
        (power(at[4], V2, 150), T2),
    ]


def told_before_and_after_power() -> list[Told]:
    at = hours(OF_ROADS)
    told = whole(at[0], V1, T2, 100.25) + whole(at[1], V2, T2, 200.25) + whole(at[2], V1, T1, 100.25)
    return told + whole(at[3], V1, T2, 100.25) + whole(at[4], V1, T1, 100.25)


def test_the_road_that_reports_a_version_first_keeps_it(silver: Rows) -> None:
    seen = [
        (row["production_gas"], row["source_power"].rpartition("/")[2], row["is_superseded_power"])
        for row in rows(silver, OF_ROADS)
    ]
    assert seen == [
        (100.0, "test", False),
        (200.25, "electricity-mix", False),
        (100.25, "electricity-mix", False),
        (100.25, "electricity-mix", False),
        (150.0, "test", False),
    ]


def test_a_reading_as_of_a_moment_sees_the_version_that_was_whole_then(spark: SparkSession) -> None:
    at = hours(range(4))
    # Two that are whole at T1, of one of which a newer version comes in parts until T3; one whose comes until T4, which
    # is too late; and one of which nothing is known yet.
    told = [one for hour in at[:3] for one in whole(hour, V1, T1, 100)] + whole(at[3], V1, T4, 100)
    told += in_parts(at[1], T2, T2, T3) + in_parts(at[2], T2, T3, T4)
    known = as_rows(
        features_as_of(bronze(spark), bronze(spark), ("GR",), T, at[-1] + HOUR, T3, mix=mix_bronze(spark, *told)),
        "datetime",
        "production_gas",
        "import_BG",
    )
    assert sorted((row["datetime"], row["production_gas"], row["import_BG"]) for row in known) == [
        (at[0], 100.0, 102.0),
        (at[1], 200.0, 202.0),
        (at[2], 100.0, 102.0),
    ]


def told_alike() -> list[Told]:
    [hour] = hours(ALIKE)
    told = [(name, percentage(hour, V1, 50), T1) for name in ("renewable", "carbon_free")]
    assert len({json.dumps(row) for _, row, _ in told}) == 1
    return whole(hour, V1, T1, 100) + told


def test_percentages_with_one_hash_are_both_known(silver: Rows) -> None:
    [row] = rows(silver, ALIKE)
    assert (row["renewable_percentage"], row["fossil_free_percentage"]) == (50.0, 50.0)
