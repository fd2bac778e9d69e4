"""`direct` and `lifecycle` in one window: a mean of two quantities is found in every hour that has it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.transforms.quality.factors import rolling_avg_24h_is_of_one_emission_factor_type
from emaps_dagster.transforms.quality.gold import GoldEvidence
from emaps_dagster_tests.support.check_inputs import H0, table_of


def found(types: dict[int, str | None], admitted: range, **columns: Any) -> list[tuple[int, str]]:
    """(hours after H0, finding) for gold's rows of some hours, from silver's emission factor types by hour."""
    silver = [
        {"zone": "GR", "datetime": H0 + n * HOUR, "carbon_intensity": 300.0, "emission_factor_type": type_, **columns}
        for n, type_ in types.items()
    ]
    hours: list[datetime] = [H0 + n * HOUR for n in admitted]
    gold = [{"zone": "GR", "datetime": hour} for hour in hours]
    outcome = rolling_avg_24h_is_of_one_emission_factor_type(
        GoldEvidence(
            Window(hours[0], hours[-1] + HOUR),
            ("GR",),
            table_of(ml_features(("GR",)), gold),
            table_of(ENERGY_DATA, silver),
        )
    )
    assert outcome.checked == len(hours)
    assert {finding.zone for finding in outcome.findings} <= {"GR"}
    return [((f.hour - H0) // HOUR, f.what) for f in outcome.findings if f.hour]


LIFECYCLE: dict[int, str | None] = dict.fromkeys(range(60), "lifecycle")


def test_one_type_and_unknown_types_are_no_mix() -> None:
    assert found(LIFECYCLE, range(60)) == []
    assert found({**LIFECYCLE, 5: None}, range(60)) == []
    assert found(dict.fromkeys(range(60)), range(60)) == []
    # A type without a value is in no mean.
    assert found({**LIFECYCLE, 5: "direct"}, range(60), carbon_intensity=None) == []


def test_each_hour_whose_mean_has_both_is_named_with_how_many() -> None:
    hours = found({**LIFECYCLE, 30: "direct", 31: "direct"}, range(60))
    assert [hour for hour, _ in hours] == list(range(30, 55))
    assert hours[0][1] == "rolling_avg_carbon_intensity_24h mixes direct (1 value) and lifecycle (23 values)"
    assert hours[1][1] == "rolling_avg_carbon_intensity_24h mixes direct (2 values) and lifecycle (22 values)"
    assert hours[-1][1] == "rolling_avg_carbon_intensity_24h mixes direct (1 value) and lifecycle (23 values)"


def test_a_change_for_good_mixes_23_hours_and_context_counts() -> None:
    changed: dict[int, str | None] = {n: "direct" if n < 10 else "lifecycle" for n in range(60)}
    assert [hour for hour, _ in found(changed, range(20, 60))] == list(range(20, 33))
