"""Gold says what silver says: no feature, row or local time can be wrong unseen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from emaps_dagster.contracts.tables import ENERGY_DATA, key_columns, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.transforms.quality import gold
from emaps_dagster.transforms.quality.outcome import Outcome
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.check_inputs import H0, H1, H3, H4, hours_found, table_of

ZONES = ("GR",)
GOLD = ml_features(ZONES)
# 12:00 UTC of the last Sunday of March: Athens has had summer time since 01:00 UTC.
TIME = {"hour": 10, "day_of_week": 1, "month": 3, "local_hour": 13, "local_day_of_week": 1, "is_weekend": True}


NO_VALUES = {f"rolling_count_{column.name}_24h": 0 for column in key_columns(ZONES)}


def gold_row(
    hour: datetime, gas: float | None, lag: float | None, mean: float | None, values: int, seen: int
) -> dict[str, Any]:
    return {
        **NO_VALUES,
        "zone": "GR",
        "datetime": hour,
        **TIME,
        "hour": hour.hour,
        "local_hour": hour.hour + 3,
        "is_holiday": False,
        "production_gas": gas,
        "lag_production_gas_1h": lag,
        "rolling_avg_production_gas_24h": mean,
        "rolling_count_production_gas_24h": values,
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
    gold_row(H0, 10.0, None, 10.0, 1, 1),
    gold_row(H1, 20.0, 10.0, 15.0, 2, 2),
    gold_row(H3, None, None, 15.0, 2, 3),
    gold_row(H4, 45.0, None, 25.0, 3, 4),
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
        # The hours of the window instead of its values.
        (3, {"rolling_count_production_gas_24h": 4}, [MEAN]),
        (3, {"rolling_count_production_gas_24h": None}, [MEAN]),
        (0, {"rolling_count_import_IT_SO_24h": 1}, [MEAN]),
        (1, {"emission_factor_type": "direct"}, [EQUAL, STALE]),
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
    in_silver = set(names) & set(ENERGY_DATA.column_names)
    source = [{"zone": "GR", "datetime": hour, **dict.fromkeys(in_silver, 1.0)} for hour in hours]
    rows = [
        {"zone": "GR", "datetime": hour, **dict.fromkeys((f"lag_{name}_1h" for name in names), 9.0)} for hour in hours
    ]
    outcome = gold.lag_1h_is_the_previous_hour(gold_evidence(rows, source))
    assert len(outcome.findings) == 2000
    assert all("and 36 more columns" in finding.what for finding in outcome.findings[1:])
