"""The judging half of the checks: small literal tables in, findings out, and no table on which it crashes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest

from emaps_dagster.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, Table, key_columns, ml_features
from emaps_dagster.transforms.quality import bronze, contract, gold, plausible, silver
from emaps_dagster.transforms.quality.contract import conform
from emaps_dagster.transforms.quality.outcome import Outcome
from emaps_dagster.windows import HOUR, Window
from emaps_dagster.zones import limits_of
from emaps_dagster_tests.making import body, iso, record, utc

H0 = utc(2024, 3, 31, 10)
H1, H2, H3, H4 = (H0 + number * HOUR for number in range(1, 5))
LATE = utc(2024, 3, 31, 20)


def table_of(contract_: Table, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows with the columns that a test is about; all others are null."""
    empty = conform(pa.table({}), contract_)
    return pa.Table.from_pylist([{name: row.get(name) for name in empty.column_names} for row in rows], empty.schema)


def hours_found(outcome: Outcome) -> list[datetime | None]:
    return [finding.hour for finding in outcome.findings]


# ---------------------------------------------------------------- the contract


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
    assert outcome.judged == 6


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


# ---------------------------------------------------------------- bronze


def response(raw: str | None, ingested_at: datetime = LATE, **columns: Any) -> dict[str, Any]:
    return {
        "zone": "GR",
        "raw_json": raw,
        "ingested_at": ingested_at,
        "window_start": H0,
        "window_end": H1,
        "request": "/v3/x?zone=GR",
        "payload_sha256": hashlib.sha256((raw or "").encode()).hexdigest(),
        **columns,
    }


def judge_bronze(check: Any, *rows: dict[str, Any]) -> Outcome:
    outcome: Outcome = check(bronze.BronzeEvidence(table_of(POWER_DATA, list(rows))))
    return outcome


GOOD = body(record(H0, zone="GR", powerProductionTotal=1))


@pytest.mark.parametrize("raw", [GOOD, body(record(H0), key="data")])
def test_a_good_body_parses(raw: str) -> None:
    assert judge_bronze(bronze.raw_json_parses, response(raw)) == Outcome(1, ())


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (response(GOOD[:-2]), "not strict JSON"),
        (response("<html>"), "not strict JSON"),
        (response(""), "not strict JSON"),
        (response(None), "not strict JSON"),
        (response("[]"), "not strict JSON"),
        (response('{"zone": "GR"}'), "not strict JSON"),
        (response("[" * 100_000), "not strict JSON"),
        (response(GOOD.replace(": 1", ": NaN")), "not strict JSON"),
        (response(body(record(H0), zone="FR")), "is for FR, stored under GR"),
        (response(body(record(H0, zone="FR"))), "is for FR, GR, stored under GR"),
        (response(body(record(H0), {"zone": "GR"})), "1 of 2 records have no hour"),
        (response(body()), "0 of 0 records have no hour"),
        (response(body(record(H1))), "holds [2024-03-31T11:00Z, 2024-03-31T12:00Z), another window"),
        (response(GOOD, payload_sha256="0" * 64), "SHA-256 is not the stored one"),
        (response(GOOD, payload_sha256=None), "SHA-256 is not the stored one"),
    ],
)
def test_a_body_that_is_not_what_its_row_says_is_found(row: dict[str, Any], says: str) -> None:
    outcome = judge_bronze(bronze.raw_json_parses, response(GOOD), row)
    assert any(says in finding.what for finding in outcome.findings)
    assert {(f.zone, f.hour, f.until) for f in outcome.findings} == {("GR", H0, H1)}


@pytest.mark.parametrize(
    "raw",
    [
        body(record(H0, estimationMethod="SANDBOX_MODE_DATA")),
        GOOD.replace('{"zone"', '{"_disclaimer": "This is Sandbox data", "zone"', 1),
        "not even JSON: sandbox",
    ],
)
def test_the_sandbox_marker_is_found_wherever_it_stands(raw: str) -> None:
    outcome = judge_bronze(bronze.no_sandbox_data, response(GOOD), response(raw), response(None))
    assert [finding.hour for finding in outcome.findings] == [H0]
    assert outcome.judged == 3


# ---------------------------------------------------------------- silver

POWER_RECORD: dict[str, Any] = {
    "powerProductionBreakdown": {"gas": 900, "wind": 300, "hydro discharge": -100, "nuclear": None},
    "powerConsumptionBreakdown": {"gas": 850, "wind": 280, "nuclear": 20},
    "powerImportBreakdown": {"BG": 80, "IT-SO": 0},
    "powerExportBreakdown": {"BG": 0, "IT-SO": 30},
    "powerProductionTotal": 1200,
    "powerConsumptionTotal": 1150,
    "powerImportTotal": 80,
    "powerExportTotal": 30,
    "fossilFreePercentage": 26,
    "renewablePercentage": 24,
    "updatedAt": "2024-03-31T15:48:00.123Z",
    "createdAt": "2024-03-28T11:00:00.000Z",
    "isEstimated": False,
    "estimationMethod": None,
}
CARBON_RECORD: dict[str, Any] = {
    "carbonIntensity": 305.5,
    "emissionFactorType": "lifecycle",
    "updatedAt": "2024-03-31T15:49:00.000Z",
    "createdAt": "2024-03-28T11:00:00.000Z",
    "isEstimated": True,
    "estimationMethod": "TIME_SLICER_AVERAGE",
}
SILVER_ROW: dict[str, Any] = {
    "zone": "GR",
    "datetime": H0,
    "production_gas": 900.0,
    "production_wind": 300.0,
    "production_hydro_discharge": -100.0,
    "consumption_gas": 850.0,
    "consumption_wind": 280.0,
    "consumption_nuclear": 20.0,
    "production_total": 1200.0,
    "consumption_total": 1150.0,
    "import_total": 80.0,
    "export_total": 30.0,
    "import_by_zone": [("IT-SO", 0.0), ("BG", 80.0)],
    "export_by_zone": [("BG", 0.0), ("IT-SO", 30.0)],
    "fossil_free_percentage": 26.0,
    "renewable_percentage": 24.0,
    "carbon_intensity": 305.5,
    "emission_factor_type": "lifecycle",
    "is_estimated_power": False,
    "updated_at_power": datetime(2024, 3, 31, 15, 48, 0, 123_000, tzinfo=timezone.utc),
    "created_at_power": utc(2024, 3, 28, 11),
    "ingested_at_power": LATE,
    "is_estimated_carbon": True,
    "estimation_method_carbon": "TIME_SLICER_AVERAGE",
    "updated_at_carbon": utc(2024, 3, 31, 15, 49),
    "created_at_carbon": utc(2024, 3, 28, 11),
    "ingested_at_carbon": LATE,
    "year_month": "2024-03",
}


def evidence_of(
    rows: list[dict[str, Any]],
    power: list[dict[str, Any]] | None = None,
    carbon: list[dict[str, Any]] | None = None,
    window: Window | None = None,
    zones: tuple[str, ...] = ("GR",),
    now: datetime = LATE,
) -> silver.SilverEvidence:
    """Silver rows and bronze responses; by default one response of each feed with the hour H0."""
    power = [response(body(record(H0, **POWER_RECORD)))] if power is None else power
    carbon = [response(body(record(H0, **CARBON_RECORD)))] if carbon is None else carbon
    window = window or Window(H0, H4)
    tables = table_of(ENERGY_DATA, rows), table_of(POWER_DATA, power), table_of(CARBON_DATA, carbon)
    return silver.SilverEvidence(window, window, zones, now, *tables)


def test_a_row_that_says_what_bronze_says_passes() -> None:
    assert silver.latest_ingestion_wins(evidence_of([SILVER_ROW])) == Outcome(2, ())
    assert silver.silver_equals_bronze(evidence_of([SILVER_ROW])) == Outcome(1, ())


def another(value: Any) -> Any:
    """A value of the same type that differs."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value + 1
    if isinstance(value, datetime):
        return value - HOUR
    if isinstance(value, list):
        return [*value, ("AL", 0.0)]
    return "other"


def filled(column: str) -> Any:
    """A value for a column that is null in SILVER_ROW."""
    return "other" if "method" in column else 0.0


@pytest.mark.parametrize("column", ENERGY_DATA.value_columns)
def test_no_column_of_silver_can_be_wrong_unseen(column: str) -> None:
    right = SILVER_ROW.get(column)
    wrong_values = [filled(column)] if right is None else [another(right), None]
    for wrong in [*wrong_values, *([math.nan] if isinstance(wrong_values[0], float) else [])]:
        evidence = evidence_of([{**SILVER_ROW, column: wrong}])
        (finding,) = silver.latest_ingestion_wins(evidence).findings
        assert (finding.zone, finding.hour) == ("GR", H0)
        assert column in finding.what
        # Since when a record is known is no statement about the hour, but about our reading of it.
        assert silver.silver_equals_bronze(evidence).passed is column.startswith("ingested_at")


def test_an_empty_map_is_not_a_null_one_and_zero_is_not_null() -> None:
    told = {**POWER_RECORD, "powerImportBreakdown": {}, "powerExportBreakdown": None}
    right = {**SILVER_ROW, "import_by_zone": [], "export_by_zone": None}
    power = [response(body(record(H0, **told)))]
    assert silver.latest_ingestion_wins(evidence_of([right], power)).passed
    for wrong in ({"import_by_zone": None}, {"export_by_zone": []}, {"production_nuclear": 0.0}):
        assert not silver.latest_ingestion_wins(evidence_of([{**right, **wrong}], power)).passed


def carbon_at(value: float, ingested_at: datetime) -> dict[str, Any]:
    return response(body(record(H0, **{**CARBON_RECORD, "carbonIntensity": value})), ingested_at)


T1, T2, T3 = (LATE + number * HOUR for number in range(3))


@pytest.mark.parametrize(
    ("told", "value", "known_since"),
    [
        ([(300, T1), (310, T2)], 310, T2),
        ([(310, T2), (300, T1)], 310, T2),
        ([(300, T1), (300, T2), (300, T3)], 300, T1),
        ([(300, T1), (310, T2), (300, T3)], 300, T3),
    ],
)
def test_the_last_ingestion_must_win_known_since_the_first_that_said_so(
    told: list[tuple[float, datetime]], value: float, known_since: datetime
) -> None:
    carbon = [carbon_at(*one) for one in told]
    right = {**SILVER_ROW, "carbon_intensity": float(value), "ingested_at_carbon": known_since}
    assert silver.latest_ingestion_wins(evidence_of([right], carbon=carbon)).passed
    for moment in {T1, T2, T3} - {known_since}:
        wrong = {**right, "ingested_at_carbon": moment}
        assert not silver.latest_ingestion_wins(evidence_of([wrong], carbon=carbon)).passed


def test_an_older_ingestion_that_won_is_named() -> None:
    row = {**SILVER_ROW, "carbon_intensity": 300.0, "ingested_at_carbon": T1}
    evidence = evidence_of([row], carbon=[carbon_at(300, T1), carbon_at(310, T2)])
    (finding,) = silver.latest_ingestion_wins(evidence).findings
    assert "ingested last (2024-03-31T21:00:00Z) did not win" in finding.what
    assert "silver carries the one of 2024-03-31T20:00:00Z" in finding.what
    assert "carbon_intensity is 300.0, must be 310.0" in finding.what


def test_rows_that_are_missing_or_that_no_response_holds_are_found() -> None:
    evidence = evidence_of([{**SILVER_ROW, "datetime": H1}])
    assert [(f.hour, f.what) for f in silver.silver_equals_bronze(evidence).findings] == [
        (H0, "bronze holds its power and carbon record, silver has no row"),
        (H1, "no response in bronze holds this hour complete"),
    ]


def test_an_hour_that_was_running_when_it_was_fetched_is_not_wanted_in_silver() -> None:
    running = H0 + timedelta(minutes=59)
    power = [response(body(record(H0, **POWER_RECORD)), running)]
    assert silver.silver_equals_bronze(evidence_of([], power, [])).passed
    assert hours_found(silver.silver_equals_bronze(evidence_of([SILVER_ROW], power, []))) == [H0]


def test_a_feed_that_did_not_deliver_the_hour_leaves_its_columns_null() -> None:
    (finding,) = silver.silver_equals_bronze(evidence_of([SILVER_ROW], carbon=[])).findings
    assert "carbon_intensity is 305.5, must be null" in finding.what
    names = [name for name in SILVER_ROW if name.endswith("_carbon") or name.startswith(("carbon", "emission"))]
    assert silver.silver_equals_bronze(evidence_of([{**SILVER_ROW, **dict.fromkeys(names)}], carbon=[])).passed


def test_a_row_in_the_wrong_month_partition_is_found() -> None:
    (finding,) = silver.silver_equals_bronze(evidence_of([{**SILVER_ROW, "year_month": "2024-04"}])).findings
    assert "year_month is 2024-04, must be 2024-03" in finding.what


def test_doubled_rows_and_rows_without_a_key_do_not_stop_the_judging() -> None:
    rows = [SILVER_ROW, {**SILVER_ROW, "carbon_intensity": 1.0}, {**SILVER_ROW, "zone": None}]
    assert hours_found(silver.latest_ingestion_wins(evidence_of(rows))) == [H0]
    assert hours_found(silver.silver_equals_bronze(evidence_of(rows))) == [H0]


@pytest.mark.parametrize("raw", [None, "", "<html>", "[]", "{}", body(), '{"history": [1, null, {"datetime": 5}]}'])
def test_a_body_that_cannot_be_read_says_nothing_and_stops_nothing(raw: str | None) -> None:
    good = response(body(record(H0, **CARBON_RECORD)))
    evidence = evidence_of([SILVER_ROW], carbon=[good, response(raw)])
    assert silver.latest_ingestion_wins(evidence).passed
    assert silver.silver_equals_bronze(evidence).passed


def test_values_of_a_wrong_type_in_a_body_are_expected_as_null() -> None:
    odd = record(H0, **{**POWER_RECORD, "powerProductionBreakdown": "none", "powerImportTotal": True})
    outcome = silver.silver_equals_bronze(evidence_of([SILVER_ROW], [response(body(odd))]))
    assert "production_wind is 300.0, must be null" in outcome.findings[0].what


SILVER_CHECKS = [
    silver.latest_ingestion_wins,
    silver.silver_equals_bronze,
    plausible.every_hour_is_present,
    plausible.parts_sum_to_total,
    plausible.energy_balances,
    plausible.values_are_plausible,
]


@pytest.mark.parametrize("check", SILVER_CHECKS)
def test_checks_of_silver_bear_empty_tables_and_rows_of_nulls(check: Any) -> None:
    empty = evidence_of([], [], [], zones=())
    assert check(empty) == Outcome(0, ())
    nothing = dict.fromkeys(SILVER_ROW) | {"zone": "GR", "datetime": H0}
    check(evidence_of([nothing, nothing]))


# ---------------------------------------------------------------- the world's faults


def found(check: Any, **changed: Any) -> list[str]:
    return [finding.what for finding in check(evidence_of([{**SILVER_ROW, **changed}])).findings]


def test_hours_and_feeds_that_are_missing_in_the_run_are_found_for_each_zone() -> None:
    rows = [SILVER_ROW, {**SILVER_ROW, "datetime": H1, "ingested_at_carbon": None}, {**SILVER_ROW, "datetime": H4}]
    outcome = plausible.every_hour_is_present(
        evidence_of(rows, window=Window(H0, H3), zones=("GR", "FR"), now=H2 + timedelta(minutes=59))
    )
    # H2 is still running, and H4 is not the run's.
    assert [(f.zone, f.hour, f.what) for f in outcome.findings] == [
        ("GR", H1, "the carbon feed did not deliver it"),
        ("FR", H0, "the hour is missing"),
        ("FR", H1, "the hour is missing"),
    ]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, None),
        # Charging storage is no part of the production total.
        ({"production_total": 1202.0}, None),
        ({"production_total": 1204.0}, "production: the parts sum to 1200 MW, production_total is 1204"),
        ({"consumption_total": 1153.0}, None),
        ({"consumption_total": 1154.0}, "consumption: the parts sum to 1150 MW, consumption_total is 1154"),
        ({"import_total": 77.0}, "import: the parts sum to 80 MW, import_total is 77"),
        ({"export_total": math.nan}, "export: the parts sum to 30 MW, export_total is nan"),
        # Ten neighbours may be off by ten.
        ({"import_by_zone": [(str(n), 8.0) for n in range(10)], "import_total": 90.0}, None),
        ({"import_by_zone": [(str(n), 8.0) for n in range(10)], "import_total": 91.0}, "import"),
        # Null parts are skipped; what is not told cannot be wrong.
        ({"import_by_zone": [("BG", 80.0), ("AL", None)]}, None),
        ({"import_by_zone": None}, None),
        ({"import_total": None}, None),
        ({"export_by_zone": [("AL", None)]}, None),
        # An empty map says that nothing flowed.
        ({"export_by_zone": [], "export_total": 0.0}, None),
        ({"export_by_zone": []}, "export: the parts sum to 0 MW, export_total is 30"),
    ],
)
def test_parts_sum_to_their_total(changed: dict[str, Any], says: str | None) -> None:
    findings = found(plausible.parts_sum_to_total, **changed)
    assert len(findings) == (0 if says is None else 1)
    assert says is None or says in findings[0]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, None),
        ({"consumption_total": 1153.0}, None),
        ({"consumption_total": 1154.0}, "production + import - export is 1150 MW, consumption_total is 1154"),
        ({"production_hydro_discharge": 100.0}, "is 1350 MW"),
        ({"consumption_total": None}, None),
        ({"import_total": None}, None),
        ({"production_gas": None, "production_wind": None, "production_hydro_discharge": None}, None),
    ],
)
def test_energy_balances_with_charging_storage_negative(changed: dict[str, Any], says: str | None) -> None:
    findings = found(plausible.energy_balances, **changed)
    assert len(findings) == (0 if says is None else 1)
    assert says is None or says in findings[0]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, None),
        ({"production_battery_discharge": -50.0}, None),
        ({"production_wind": -1.0}, "production_wind is -1, below 0"),
        ({"consumption_hydro_discharge": -1.0}, "consumption_hydro_discharge is -1, below 0"),
        ({"export_total": -30.0}, "export_total is -30, below 0"),
        ({"import_by_zone": [("BG", -80.0)]}, "import BG is -80, below 0"),
        ({"import_by_zone": [("BG", None)]}, None),
        ({"carbon_intensity": math.nan}, "carbon_intensity is nan"),
        ({"carbon_intensity": 5.0}, "carbon_intensity is 5 gCO2eq/kWh, beyond 10.7 to 918"),
        ({"carbon_intensity": 1200.0}, "carbon_intensity is 1200"),
        ({"fossil_free_percentage": 101.0}, "fossil_free_percentage is 101, not 0 to 100"),
        ({"renewable_percentage": 27.0}, None),
        ({"renewable_percentage": 28.0}, "renewable_percentage is 28, fossil_free_percentage, which includes it, 26"),
        # Solar of 2024: the larger of 6,700 and the next year's 9,000 MW, and a quarter.
        ({"production_solar": 11_250.0}, None),
        ({"production_solar": 11_251.0}, "production_solar is 11251 MW, beyond 11250 (installed capacity, entsoe.eu"),
        ({"production_hydro_discharge": -900.0}, "production_hydro_discharge is -900 MW, beyond 873.75"),
        ({"export_by_zone": [("IT-SO", 626.0)]}, "export IT-SO is 626 MW, beyond 625"),
    ],
)
def test_values_are_plausible(changed: dict[str, Any], says: str | None) -> None:
    findings = found(plausible.values_are_plausible, **changed)
    assert len(findings) == (0 if says is None else 1)
    assert says is None or says in findings[0]


def test_a_zone_without_limits_is_judged_by_what_holds_everywhere() -> None:
    assert limits_of("FR") is None
    assert found(plausible.values_are_plausible, zone="FR", carbon_intensity=1200.0, production_solar=99_999.0) == []
    assert found(plausible.values_are_plausible, zone="FR", production_solar=-1.0) == [
        "production_solar is -1, below 0"
    ]


@pytest.mark.parametrize(
    ("year", "most"), [(2019, 3375), (2021, 3201.25), (2023, 3312.5), (2024, 3312.5), (2030, 1875)]
)
def test_a_capacity_holds_from_its_year_on_and_the_next_one_from_the_year_before(year: int, most: float) -> None:
    limits = limits_of("GR")
    assert limits is not None
    if year != 2019:
        assert limits.most_produced("coal", year) == most


# ---------------------------------------------------------------- gold

ZONES = ("GR",)
GOLD = ml_features(ZONES)
# 12:00 UTC of the last Sunday of March: Athens has had summer time since 01:00 UTC.
TIME = {"hour": 10, "day_of_week": 1, "month": 3, "local_hour": 13, "local_day_of_week": 1, "is_weekend": True}


def gold_row(hour: datetime, gas: float | None, lag: float | None, mean: float | None, seen: int) -> dict[str, Any]:
    return {
        "zone": "GR",
        "datetime": hour,
        **TIME,
        "hour": hour.hour,
        "local_hour": hour.hour + 3,
        "is_holiday": False,
        "production_gas": gas,
        "lag_production_gas_1h": lag,
        "rolling_avg_production_gas_24h": mean,
        "hours_observed_24h": seen,
        "hours_estimated_24h": 1,
        "is_estimated_power": hour == H0,
        "year_month": "2024-03",
    }


def silver_rows(*gas: tuple[datetime, float | None]) -> list[dict[str, Any]]:
    return [
        {"zone": "GR", "datetime": hour, "production_gas": mw, "is_estimated_power": hour == H0} for hour, mw in gas
    ]


# H2 is missing, and H3 does not report.
SILVER_GAS = silver_rows((H0, 10.0), (H1, 20.0), (H3, None), (H4, 45.0))
GOLD_GAS = [
    gold_row(H0, 10.0, None, 10.0, 1),
    gold_row(H1, 20.0, 10.0, 15.0, 2),
    gold_row(H3, None, None, 15.0, 3),
    gold_row(H4, 45.0, None, 25.0, 4),
]
GOLD_CHECKS = [
    gold.lag_1h_is_the_previous_hour,
    gold.rolling_avg_24h_is_the_mean_of_the_window,
    gold.gold_equals_silver,
    gold.gold_is_not_stale,
]


def gold_evidence(
    rows: list[dict[str, Any]], silver_: list[dict[str, Any]] | None = None, zones: tuple[str, ...] = ZONES
) -> gold.GoldEvidence:
    silver_table = table_of(ENERGY_DATA, SILVER_GAS if silver_ is None else silver_)
    return gold.GoldEvidence(Window(H0, H4 + HOUR), zones, table_of(ml_features(zones), rows), silver_table)


def altered(place: int, **columns: Any) -> list[dict[str, Any]]:
    return [{**row, **(columns if number == place else {})} for number, row in enumerate(GOLD_GAS)]


def failed(rows: list[dict[str, Any]], silver_: list[dict[str, Any]] | None = None) -> dict[str, list[Any]]:
    """The checks of gold that find something, with the hours."""
    outcomes = {check.__name__: check(gold_evidence(rows, silver_)) for check in GOLD_CHECKS}
    return {name: hours_found(outcome) for name, outcome in outcomes.items() if not outcome.passed}


def test_gold_with_a_gap_and_a_null_passes() -> None:
    assert failed(GOLD_GAS) == {}


LAG, MEAN = "lag_1h_is_the_previous_hour", "rolling_avg_24h_is_the_mean_of_the_window"
EQUAL, STALE = "gold_equals_silver", "gold_is_not_stale"


@pytest.mark.parametrize(
    ("place", "columns", "fails"),
    [
        (1, {"lag_production_gas_1h": 10.0000001}, [LAG]),
        (1, {"lag_production_gas_1h": None}, [LAG]),
        (0, {"lag_production_gas_1h": 0.0}, [LAG]),
        # The previous row is not the previous hour.
        (2, {"lag_production_gas_1h": 20.0}, [LAG]),
        (2, {"lag_production_gas_1h": math.nan}, [LAG]),
        (0, {"lag_import_IT_SO_1h": 0.0}, [LAG]),
        (3, {"rolling_avg_production_gas_24h": 25.00001}, [MEAN]),
        (3, {"rolling_avg_production_gas_24h": 25.000001}, []),
        # The mean over four hours with the null as 0.
        (3, {"rolling_avg_production_gas_24h": 18.75}, [MEAN]),
        (2, {"rolling_avg_production_gas_24h": None}, [MEAN]),
        (1, {"rolling_avg_production_gas_24h": math.inf}, [MEAN]),
        (1, {"rolling_avg_carbon_intensity_24h": math.nan}, [MEAN]),
        (1, {"production_gas": 21.0}, [EQUAL, STALE]),
        (2, {"production_gas": 0.0}, [EQUAL, STALE]),
        (2, {"production_gas": math.nan}, [EQUAL, STALE]),
        (1, {"import_IT_SO": 0.0}, [EQUAL, STALE]),
        (0, {"is_estimated_power": False}, [EQUAL, STALE]),
        (1, {"is_estimated_carbon": False}, [EQUAL, STALE]),
        (1, {"hour": 10}, [EQUAL]),
        (1, {"day_of_week": 7}, [EQUAL]),
        (1, {"month": 4}, [EQUAL]),
        (1, {"hours_observed_24h": 24}, [EQUAL]),
        (1, {"local_hour": 13}, [EQUAL]),
        (1, {"local_day_of_week": 2}, [EQUAL]),
        (1, {"is_weekend": False}, [EQUAL]),
        (1, {"is_holiday": None}, [EQUAL]),
        (1, {"hours_estimated_24h": 0}, [EQUAL]),
        (1, {"year_month": "2024-04"}, [EQUAL]),
    ],
)
def test_no_column_of_gold_can_be_wrong_unseen(place: int, columns: Mapping[str, Any], fails: list[str]) -> None:
    hour = GOLD_GAS[place]["datetime"]
    assert failed(altered(place, **columns)) == {name: [hour] for name in fails}


def test_an_hour_that_gold_lacks_is_stale_and_one_that_silver_lacks_is_wrong() -> None:
    assert failed(GOLD_GAS[:1] + GOLD_GAS[2:]) == {STALE: [H1]}
    # Without silver's H1 the means and counts that used it are wrong as well.
    without = failed(GOLD_GAS, SILVER_GAS[:1] + SILVER_GAS[2:])
    assert without == {MEAN: [H1, H3, H4], EQUAL: [H1, H3, H4]}


def test_an_hour_that_silver_revised_after_gold_was_made_is_stale() -> None:
    revised = silver_rows((H0, 10.0), (H1, 26.0), (H3, None), (H4, 45.0))
    outcome = gold.gold_is_not_stale(gold_evidence(GOLD_GAS, revised))
    assert [(f.hour, f.what) for f in outcome.findings] == [
        (H1, "gold does not carry what silver says now: production_gas is 20.0, must be 26.0")
    ]


def test_staleness_is_judged_in_the_window_and_not_in_its_context() -> None:
    context = silver_rows((H0 - HOUR, 5.0))
    evidence = gold_evidence([], context)
    assert gold.gold_is_not_stale(evidence) == Outcome(0, ())


def test_doubled_rows_in_gold_or_silver_are_judged_each_and_stop_nothing() -> None:
    wrong = {**GOLD_GAS[1], "lag_production_gas_1h": 0.0, "hour": 0}
    assert failed([*GOLD_GAS, wrong]) == {LAG: [H1], EQUAL: [H1]}
    assert failed(GOLD_GAS, [*SILVER_GAS, SILVER_GAS[1]]) == {}


def test_a_row_of_another_zone_or_without_one_is_found() -> None:
    rows = [*GOLD_GAS, {**GOLD_GAS[0], "zone": "BG"}, {**GOLD_GAS[0], "zone": None}]
    assert failed(rows) == {EQUAL: [H0]}


@pytest.mark.parametrize("check", GOLD_CHECKS)
def test_checks_of_gold_bear_empty_tables(check: Any) -> None:
    assert check(gold_evidence([], [])) == Outcome(0, ())
    check(gold_evidence(GOLD_GAS, []))
    check(gold_evidence([], SILVER_GAS))


def test_a_zone_that_zones_py_does_not_know_has_no_local_time_and_no_flow_columns() -> None:
    row = {**GOLD_GAS[0], "zone": "FR", "local_hour": None, "local_day_of_week": None, "is_weekend": None}
    source = [{**SILVER_GAS[0], "zone": "FR", "import_by_zone": [("BE", 5.0)]}]
    right = gold_evidence([{**row, "is_holiday": None}], source, ("FR",))
    assert [check(right).passed for check in GOLD_CHECKS] == [True] * 4
    wrong = gold_evidence([{**row, "is_holiday": False}], source, ("FR",))
    assert not gold.gold_equals_silver(wrong).passed


@pytest.mark.parametrize(
    ("hour", "local"),
    [
        # Clocks go forward at 01:00 UTC of 31 March 2024 and back at 01:00 UTC of 27 October.
        (utc(2024, 3, 31, 0), (2, 1, True, False)),
        (utc(2024, 3, 31, 1), (4, 1, True, False)),
        (utc(2024, 10, 27, 0), (3, 1, True, False)),
        (utc(2024, 10, 27, 1), (3, 1, True, False)),
        # Local 25 March, Independence Day, begins at 22:00 UTC of the 24th.
        (utc(2024, 3, 24, 21), (23, 1, True, False)),
        (utc(2024, 3, 24, 22), (0, 2, False, True)),
        # The local new year.
        (utc(2024, 12, 31, 22), (0, 4, False, True)),
    ],
)
def test_local_time_and_holidays_of_greece(hour: datetime, local: tuple[int, int, bool, bool]) -> None:
    told = gold.time_features("GR", hour)
    assert (told["local_hour"], told["local_day_of_week"], told["is_weekend"], told["is_holiday"]) == local


def test_a_table_that_is_wrong_throughout_gives_one_finding_a_row() -> None:
    hours = [H0 + number * HOUR for number in range(2000)]
    names = [column.name for column in key_columns(ZONES)]
    source = [{"zone": "GR", "datetime": hour, **dict.fromkeys(set(names) & set(STORED), 1.0)} for hour in hours]
    rows = [
        {"zone": "GR", "datetime": hour, **dict.fromkeys((f"lag_{name}_1h" for name in names), 9.0)} for hour in hours
    ]
    outcome = gold.lag_1h_is_the_previous_hour(gold_evidence(rows, source))
    assert len(outcome.findings) == 2000
    assert all("and 36 more columns" in finding.what for finding in outcome.findings[1:])


def test_a_recorded_time_is_read_as_utc() -> None:
    assert bronze.moment(iso(H0)) == H0
    assert bronze.moment("2024-03-31T13:00:00+03:00") == H0
    assert [bronze.moment(text) for text in (None, 5, "", "2024-03-31T13:00:00", json.dumps({}))] == [None] * 5
