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

pytestmark = pytest.mark.both_engines

T = utc(2026, 8, 22, 6)
DAY = (T, T + 24 * HOUR)
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


def of(spark: SparkSession, told: list[Told], power: list[tuple[str, datetime]] | None = None) -> dict[datetime, Any]:
    """Rows of silver by hour, without carbon."""
    rows = as_rows(energy_data(bronze(spark, *power or ()), bronze(spark), *DAY, mix=mix_bronze(spark, *told)))
    return {row["datetime"]: row for row in rows}


def test_a_whole_hour_of_every_signal_becomes_one_row(spark: SparkSession) -> None:
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
    told: list[Told] = [
        ("mix", normal, T1),
        ("traced_mix", consumed, T1 + timedelta(seconds=1)),
        ("flows", {**flows(T, V1, DE=665, AL=2.5), "export": {"DE": 0}}, T1 + timedelta(seconds=2)),
        ("renewable", percentage(T, V1, 91), T1 + timedelta(seconds=3)),
        ("carbon_free", percentage(T, V1, 98), T1 + timedelta(seconds=4)),
    ]
    row = of(spark, told)[T]
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


def test_a_storage_is_discharge_minus_charge_and_null_where_it_is_not_reported(spark: SparkSession) -> None:
    told: list[Told] = []
    for number, (storage, _) in enumerate(STORAGES):
        hour = T + number * HOUR
        told += [
            ("mix", mix(hour, V1, gas=10, **{"hydro storage": storage}) | {"estimationMethod": "MEASURED"}, T1),
            ("traced_mix", traced(hour, V1, gas=10), T1),
            ("flows", flows(hour, V1), T1),
        ]
    # Nothing is reported, so no total is, and what the API may add has no column.
    silent = T + len(STORAGES) * HOUR
    nothing = {"hydro storage": {"charge": 0, "discharge": None}, "heat storage": {"charge": 0, "discharge": None}}
    told += [
        ("mix", mix(silent, V1, gas=None, tidal=0, **nothing), T1),
        ("traced_mix", traced(silent, V1, gas=None), T1),
        ("flows", flows(silent, V1), T1),
    ]
    rows = of(spark, told)
    row = rows.pop(silent)
    totals = [row[f"{what}_total"] for what in ("production", "consumption", "import", "export")]
    assert totals == [None, None, 30.0, 5.0]
    stored = [rows[T + number * HOUR]["production_hydro_discharge"] for number in range(len(STORAGES))]
    assert stored == [value for _, value in STORAGES]
    totals = [row["production_total"] for _, row in sorted(rows.items())]
    # Discharge is production, charging is not.
    assert totals == [10.0, 10.0, 10.0, 10.0, 10.0, 89.25, 10.0, 10.3, 15.0]
    assert {row["estimation_method_power"] for row in rows.values()} == {None}
    assert {row["is_estimated_power"] for row in rows.values()} == {False}


def test_an_hour_is_made_of_one_version_and_waits_for_the_rest_of_a_newer_one(spark: SparkSession) -> None:
    hours = [T + number * HOUR for number in range(8)]
    told = [one for hour in hours[:7] for one in whole(hour, V1, T1, 100)]
    told += [("renewable", percentage(hour, V1, 50), T1) for hour in hours[:7]]
    # 1: the mix alone is newer. 2: all are. 3: all but the percentage was later. 4: the first version comes again.
    told += [("mix", mix(hours[1], V2, gas=200), T2)]
    told += [*whole(hours[2], V2, T2, 200), ("renewable", percentage(hours[2], V2, 60), T3)]
    told += whole(hours[3], V2, T2, 200)
    told += whole(hours[4], V2, T2, 200) + whole(hours[4], V1, T3, 100)
    # 5: the parts of a version arrive hours apart. 6: flows change within their version. 7: never whole.
    told += [(signal, row, at) for (signal, row, _), at in zip(whole(hours[5], V2, T2, 200), (T2, T3, T4), strict=True)]
    told += [("flows", flows(hours[6], V1, BG=999), T2)]
    told += whole(hours[7], V1, T1, 100)[:2]
    rows = of(spark, told)
    seen = [
        (
            row["production_gas"],
            row["consumption_gas"],
            row["import_by_zone"]["BG"],
            row["renewable_percentage"],
            row["ingested_at_power"],
            row["is_superseded_power"],
        )
        for _, row in sorted(rows.items())
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
    carbon = body(record(hours[7], zone="GR", carbonIntensity=300, updatedAt=iso(V1)))
    of_carbon = energy_data(bronze(spark), bronze(spark, (carbon, T1)), *DAY, mix=mix_bronze(spark, *told))
    waiting = {row["datetime"]: row for row in as_rows(of_carbon)}[hours[7]]
    assert (waiting["carbon_intensity"], waiting["production_gas"], waiting["ingested_at_power"]) == (300.0, None, None)
    assert waiting["is_superseded_power"] is True


def test_the_road_that_tells_a_version_first_keeps_it(spark: SparkSession) -> None:
    hours = [T + number * HOUR for number in range(5)]

    def power(hour: datetime, version: datetime | None, gas: int) -> str:
        stamps = {} if version is None else {"updatedAt": iso(version)}
        breakdowns = {f"power{side}Breakdown": {"gas": gas} for side in ("Production", "Consumption")}
        return body(record(hour, **stamps, **breakdowns))

    by_power = [
        # 0: then the mix tells the same version. 1: then a newer one. 2: after the mix. 3: without a version.
        (power(hours[0], V1, 100), T1),
        (power(hours[1], V1, 100), T1),
        (power(hours[2], V1, 100), T2),
        (power(hours[3], None, 100), T1),
        # 4: a newer version after the mix's.
        (power(hours[4], V2, 150), T2),
    ]
    told = whole(hours[0], V1, T2, 100.25) + whole(hours[1], V2, T2, 200.25) + whole(hours[2], V1, T1, 100.25)
    told += whole(hours[3], V1, T2, 100.25) + whole(hours[4], V1, T1, 100.25)
    rows = of(spark, told, by_power)
    seen = [
        (row["production_gas"], row["source_power"].rpartition("/")[2], row["is_superseded_power"])
        for _, row in sorted(rows.items())
    ]
    assert seen == [
        (100.0, "test", False),
        (200.25, "electricity-mix", False),
        (100.25, "electricity-mix", False),
        (100.25, "electricity-mix", False),
        (150.0, "test", False),
    ]


def test_a_reading_as_of_a_moment_sees_the_version_that_was_whole_then(spark: SparkSession) -> None:
    told = whole(T, V1, T1, 100)
    told += [(signal, row, at) for (signal, row, _), at in zip(whole(T, V2, T2, 200), (T2, T3, T4), strict=True)]
    stored = mix_bronze(spark, *told)
    known = []
    for moment in (T1 - HOUR, T1, T3, T4):
        rows = as_rows(
            features_as_of(bronze(spark), bronze(spark), ("GR",), T, T + HOUR, moment, mix=stored),
            "datetime",
            "production_gas",
            "import_BG",
        )
        known.append([(row["production_gas"], row["import_BG"]) for row in rows])
    assert known == [[], [(100.0, 102.0)], [(100.0, 102.0)], [(200.0, 202.0)]]


def test_percentages_with_one_hash_are_both_known(spark: SparkSession) -> None:
    told = whole(T, V1, T1, 100) + [(name, percentage(T, V1, 50), T1) for name in ("renewable", "carbon_free")]
    texts = {json.dumps(row) for _, row, _ in told[3:]}
    assert len(texts) == 1
    row = of(spark, told)[T]
    assert (row["renewable_percentage"], row["fossil_free_percentage"]) == (50.0, 50.0)
