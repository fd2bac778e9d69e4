"""Nulls that look like data, hour by hour: delivered without a value, replaced later, or a mode that went silent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import MODES
from emaps_dagster.transforms.quality.outcome import Outcome
from emaps_dagster.transforms.quality.reported import is_silent, values_are_reported
from emaps_dagster_tests.support.builders import body, record
from emaps_dagster_tests.support.check_inputs import (
    CARBON_RECORD,
    H0,
    H1,
    H2,
    LATE,
    POWER_RECORD,
    SILVER_ROW,
    evidence_of,
    response,
)

PRODUCTION = [f"production_{mode}" for mode in MODES]
CONSUMPTION = [f"consumption_{mode}" for mode in MODES]
FLOWS = {"import_by_zone": [], "export_by_zone": [], "import_total": None, "export_total": None}
TOTALS = {"production_total": None, "consumption_total": None}
NO_POWER = dict.fromkeys([*PRODUCTION, *CONSUMPTION]) | FLOWS | TOTALS


def row(hour: datetime, *nulls: str, **values: Any) -> dict[str, Any]:
    return {**SILVER_ROW, "datetime": hour, **dict.fromkeys(nulls), **values}


def found(*rows: dict[str, Any]) -> list[tuple[datetime | None, str]]:
    outcome = values_are_reported(evidence_of(list(rows), [], []))
    assert outcome.checked == len(rows)
    return [(finding.hour, finding.what) for finding in outcome.findings]


def test_an_hour_with_values_passes_whatever_modes_it_does_not_report() -> None:
    assert values_are_reported(evidence_of([SILVER_ROW])) == Outcome(1, ())
    # A zone that gives only totals reports all the same.
    assert found(row(H0, *PRODUCTION, *CONSUMPTION), row(H1, *PRODUCTION, *CONSUMPTION)) == []
    assert found(row(H0, **FLOWS)) == []


def test_a_feed_that_delivered_nothing_but_nulls_is_named_hour_by_hour() -> None:
    # Maps of the provider may be empty, null, or full of nulls.
    nulls = {"import_by_zone": [("BG", None)], "export_by_zone": None}
    assert found(
        row(H0, **NO_POWER), row(H1, "carbon_intensity"), row(H2, "carbon_intensity", **{**NO_POWER, **nulls})
    ) == [
        (H0, "every power value is null"),
        (H1, "carbon_intensity is null"),
        (H2, "every power value is null; carbon_intensity is null"),
    ]


def test_an_emission_factor_type_that_is_no_longer_reported_is_named_and_one_that_never_was_is_not() -> None:
    lost = "emission_factor_type is null, though it was reported before"
    assert found(row(H0), row(H1, "emission_factor_type"), row(H2)) == [(H1, lost)]
    assert found(row(H0, "emission_factor_type"), row(H1, "emission_factor_type")) == []
    # Without a value there is nothing of which the type could be unknown.
    assert found(row(H0), row(H1, "emission_factor_type", "carbon_intensity")) == [(H1, "carbon_intensity is null")]
    # The type is of carbon intensity: a power feed of nulls beside it is named all the same.
    assert found(row(H0, **NO_POWER)) == [(H0, "every power value is null")]


def test_a_feed_that_delivered_nothing_is_another_checks_matter() -> None:
    assert found(row(H0, "ingested_at_power", **NO_POWER)) == []
    assert found(row(H0, "ingested_at_carbon", "carbon_intensity")) == []


def test_half_of_the_values_may_not_be_null_either() -> None:
    assert found(row(H0, *PRODUCTION, "production_total")) == [(H0, "production is null, by mode and in total")]
    assert found(row(H0, *CONSUMPTION, "consumption_total")) == [(H0, "consumption is null, by mode and in total")]
    assert found(row(H0, *PRODUCTION, *CONSUMPTION, **TOTALS)) == [
        (H0, "production and consumption are null, only flows are reported")
    ]
    assert found(SILVER_ROW, row(H1, "consumption_total"), row(H2, *PRODUCTION)) == [
        (H1, "consumption_total is null, though it was reported before"),
        (H2, "every mode of production is null, though some were reported before"),
    ]
    # Another zone's hours say nothing of this one.
    assert found({**SILVER_ROW, "zone": "FR"}, row(H1, *PRODUCTION)) == []


def test_a_total_that_is_null_for_weeks_is_named_in_each_hour() -> None:
    # No hour within reach of the check has a value of it.
    for total, parts in (
        ("production_total", "modes"), ("consumption_total", "modes"), ("import_total", "flows"),
        ("export_total", "flows"),
    ):  # fmt: skip
        what = f"{total} is null, though {parts} of it are reported"
        assert found(row(H0, total), row(H1, total)) == [(H0, what), (H1, what)]
    assert found(row(H0, **FLOWS)) == []


def test_a_percentage_is_silent_after_a_day_without_values_where_there_were_some() -> None:
    hours = [H0 + number * HOUR for number in range(26)]
    null = ("renewable_percentage", "fossil_free_percentage")
    assert found(*(row(hour, *(null if hour > H0 else ())) for hour in hours)) == [
        (H0 + 25 * HOUR, "null for more than 24 hours, though reported before: renewable_percentage, "
         "fossil_free_percentage")
    ]  # fmt: skip
    # A plan of v4 may lack both signals.
    assert found(*(row(hour, *null) for hour in hours)) == []
    assert found(row(H0, **NO_POWER, renewable_percentage=50.0)) == [(H0, "every power value is null")]


def test_a_mode_is_silent_after_a_day_without_values_and_not_after_a_night() -> None:
    hours = [H0 + number * HOUR for number in range(27)]
    rows = [row(hour, "production_wind", "consumption_gas") if hour > H0 else row(hour) for hour in hours]
    what = "null for more than 24 hours, though reported before: production_wind, consumption_gas"
    assert found(*rows) == [(H0 + 25 * HOUR, what), (H0 + 26 * HOUR, what)]
    night = [row(hour, "production_wind") if 2 < number < 20 else row(hour) for number, hour in enumerate(hours)]
    assert found(*night) == []


def test_a_neighbour_with_null_flows_is_silent_and_one_without_any_has_none() -> None:
    hours = [H0 + number * HOUR for number in range(26)]
    null = {"import_by_zone": [("BG", None)], "export_by_zone": [("IT-SO", 30.0)]}
    assert found(*(row(hour, **(null if hour > H0 else {})) for hour in hours)) == [
        (H0 + 25 * HOUR, "null for more than 24 hours, though reported before: flow BG")
    ]
    absent = {"import_by_zone": [("IT-SO", 0.0)], "export_by_zone": []}
    assert found(*(row(hour, **(absent if hour > H0 else {})) for hour in hours)) == []


T1, T2, T3 = (LATE + number * HOUR for number in range(3))


def power_at(ingested_at: datetime, **changes: Any) -> dict[str, Any]:
    return response(body(record(H0, **{**POWER_RECORD, **changes})), ingested_at)


def replaced(*power: dict[str, Any], carbon: list[dict[str, Any]] | None = None, **silver: Any) -> list[str]:
    outcome = values_are_reported(evidence_of([{**SILVER_ROW, **silver}], list(power), carbon or []))
    assert {(finding.zone, finding.hour) for finding in outcome.findings} <= {("GR", H0)}
    return [finding.what for finding in outcome.findings]


def test_values_that_a_later_ingestion_replaced_by_nulls_are_named_with_since_when() -> None:
    less = {"powerProductionBreakdown": {"gas": 900, "wind": None, "hydro discharge": -100}}
    assert replaced(power_at(T1), power_at(T2, **less), power_at(T3, **less), production_wind=None) == [
        "a value was replaced by null in the response of 2024-03-31T21:00:00Z: production_wind"
    ]
    # What came back is not lost, and other values do not hide what is.
    assert replaced(power_at(T1), power_at(T2, **less), power_at(T3)) == []
    other = {**less, "powerProductionTotal": 901}
    assert replaced(power_at(T1), power_at(T2, **less), power_at(T3, **other), production_wind=None) == [
        "a value was replaced by null in the response of 2024-03-31T21:00:00Z: production_wind"
    ]
    assert replaced(power_at(T1), power_at(T2, powerImportBreakdown={"BG": None, "IT-SO": 0})) == [
        "a value was replaced by null in the response of 2024-03-31T21:00:00Z: import_by_zone[BG]"
    ]


def test_an_hour_that_was_replaced_by_nulls_as_a_whole_says_both() -> None:
    nothing: dict[str, Any] = {name: None for name in POWER_RECORD if name.startswith(("power", "fossil", "renew"))}
    first, more = replaced(power_at(T1), power_at(T2, **nothing), **NO_POWER)[0].split("; ")
    assert first == "every power value is null"
    assert more == (
        "14 values were replaced by null in the response of 2024-03-31T21:00:00Z: consumption_gas, "
        "consumption_nuclear, consumption_total, consumption_wind and 10 more"
    )
    carbon = [
        response(body(record(H0, **{**CARBON_RECORD, "carbonIntensity": value})), at)
        for value, at in ((300, T1), (None, T2))
    ]
    assert replaced(power_at(T1), carbon=carbon, carbon_intensity=None) == [
        "carbon_intensity is null; a value was replaced by null in the response of 2024-03-31T21:00:00Z: "
        "carbon_intensity"
    ]


def test_a_flow_that_is_no_longer_named_is_none_and_not_a_null() -> None:
    # Newer bodies name a neighbour in one direction only; a revision turns the flow round.
    turned = {"powerImportBreakdown": {"IT-SO": 3}, "powerExportBreakdown": {"BG": 5}}
    assert replaced(power_at(T1), power_at(T2, **turned)) == []
    assert replaced(power_at(T1), power_at(T2, powerImportBreakdown=None)) == [
        "a value was replaced by null in the response of 2024-03-31T21:00:00Z: import_by_zone"
    ]


def test_a_silent_hour_is_the_same_for_checks_and_gaps() -> None:
    assert [is_silent(row(H0, **NO_POWER), feed) for feed in ("power", "carbon")] == [True, False]
    assert is_silent(row(H0, "carbon_intensity"), "carbon")
    assert not is_silent(row(H0, "ingested_at_power", **NO_POWER), "power")


def test_hours_before_the_run_decide_what_was_reported_and_rows_need_no_order() -> None:
    rows = [row(H1, "production_total"), row(H0)]
    outcome = values_are_reported(evidence_of(rows, [], [], Window(H0, H2)))
    assert [(finding.hour, finding.what) for finding in outcome.findings] == [
        (H1, "production_total is null, though it was reported before")
    ]
