"""Silver says what bronze says: no column, row or ingestion can be wrong unseen."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

import pytest

from emaps_dagster.contracts.tables import ENERGY_DATA
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.quality import plausibility as plausible
from emaps_dagster.transforms.quality import silver
from emaps_dagster.transforms.quality.outcome import Outcome
from emaps_dagster_tests.support.builders import body, record
from emaps_dagster_tests.support.check_inputs import (
    CARBON_RECORD,
    H0,
    H1,
    LATE,
    POWER_RECORD,
    SILVER_ROW,
    evidence_of,
    hours_found,
    response,
)


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
    if column == "is_superseded_power":
        return True
    return "other" if "method" in column or "source" in column else 0.0


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
