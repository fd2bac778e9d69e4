"""The world's faults: hours that are missing, sums that do not add up, values that cannot be."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import limits_of
from emaps_dagster.transforms.quality import plausibility as plausible
from emaps_dagster_tests.support.check_inputs import H0, H1, H2, H3, H4, SILVER_ROW, evidence_of


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


def test_an_hour_whose_signals_show_no_common_version_is_said_to_be_so() -> None:
    row = {**SILVER_ROW, "ingested_at_power": None, "is_superseded_power": True}
    [finding] = plausible.every_hour_is_present(evidence_of([row], window=Window(H0, H1))).findings
    assert finding.what == "the power feed did not deliver it; of electricity-mix no version came with all its signals"


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


@pytest.mark.parametrize(
    ("zone", "changed", "says"),
    [
        ("DE", {"production_nuclear": 9e8}, "production_nuclear is 9e+08 MW, beyond 0 (nuclear: Fraunhofer ISE"),
        (
            "DE",
            {"consumption_nuclear": 9e8},
            "consumption_nuclear is 9e+08 MW, beyond 2e+06 (the largest national load",
        ),
        ("DE", {"production_solar": 60_000.0, "production_wind": 60_000.0}, None),
        (
            "FR",
            {"carbon_intensity": 9999.0},
            "carbon_intensity is 9999 gCO2eq/kWh, beyond 0 to 1744 (lignite of 2019",
        ),
        ("FR", {"production_nuclear": 62_000.0}, None),
        ("FR", {"production_nuclear": 80_000.0}, "production_nuclear is 80000 MW, beyond 76712.5 (installed capacity"),
        # A zone that nothing is known of.
        ("XX-1", {"carbon_intensity": 1700.0, "production_solar": 1.9e6}, None),
        ("XX-1", {"carbon_intensity": 1745.0}, "carbon_intensity is 1745 gCO2eq/kWh, beyond 0 to 1744"),
        ("XX-1", {"production_hydro_discharge": -3e6}, "production_hydro_discharge is -3e+06 MW, beyond 2e+06"),
        ("XX-1", {"export_total": 5e6}, "export_total is 5e+06 MW, beyond 2e+06"),
        ("XX-1", {"import_by_zone": [("BG", 2e5)]}, "import BG is 200000 MW, beyond 100000 (the largest single link"),
        ("XX-1", {"production_solar": math.nan}, "production_solar is nan"),
    ],
)
def test_every_zone_has_limits_with_their_source(zone: str, changed: dict[str, Any], says: str | None) -> None:
    findings = found(plausible.values_are_plausible, zone=zone, **changed)
    assert len(findings) == (0 if says is None else 1)
    assert says is None or says in findings[0]


MODES_OF = {
    side: [name for name in SILVER_ROW if name.startswith(f"{side}_")] for side in ("production", "consumption")
}
STILL = dict.fromkeys([*MODES_OF["production"], *MODES_OF["consumption"]], 0.0)


@pytest.mark.parametrize("zone", ["GR", "DE", "FR"])
def test_a_zone_that_stands_still_is_not_plausible(zone: str) -> None:
    says = ["production and consumption are 0 MW: no zone stands still"]
    assert found(plausible.values_are_plausible, zone=zone, **STILL) == says
    # Whether the provider has only totals or only modes.
    no_modes = {name: None for names in MODES_OF.values() for name in names if not name.endswith("_total")}
    assert found(plausible.values_are_plausible, zone=zone, **{**STILL, **no_modes}) == says
    assert found(plausible.values_are_plausible, zone=zone, **STILL | {"consumption_total": 900.0}) == []
    one_plant = {
        name: None for name in STILL if name.startswith("production_") and not name.endswith(("_total", "wind"))
    }
    assert found(plausible.values_are_plausible, zone=zone, **{**STILL, **one_plant}) == []
    nulls = dict.fromkeys(STILL)
    assert found(plausible.values_are_plausible, zone=zone, **nulls) == []


@pytest.mark.parametrize(
    ("year", "most"), [(2019, 3375), (2021, 3201.25), (2023, 3312.5), (2024, 3312.5), (2030, 1875)]
)
def test_a_capacity_holds_from_its_year_on_and_the_next_one_from_the_year_before(year: int, most: float) -> None:
    limits = limits_of("GR")
    if year != 2019:
        assert limits.most_produced("coal", year) == most
