"""A stuck provider: identical hours of all modes, by sizes of zones, and never in recorded data."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import MODES
from emaps_dagster.transforms.quality.constant import STUCK_AFTER, STUCK_AFTER_IN_A_SMALL_ZONE, stretches, values_change
from emaps_dagster_tests.support.check_inputs import H0, SILVER_ROW, evidence_of

RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data"
NONE = {f"production_{mode}": None for mode in MODES}


def rows(count: int, start: datetime = H0, **values: Any) -> list[dict[str, Any]]:
    return [{**SILVER_ROW, **values, "datetime": start + number * HOUR} for number in range(count)]


def found(rows_: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    hours = sorted({row["datetime"] for row in rows_})
    outcome = values_change(evidence_of(rows_, [], [], Window(hours[0], hours[-1] + HOUR)))
    assert outcome.checked == len(rows_)
    return [(f.zone, f.hour, f.until, f.what) for f in outcome.findings]


def test_twelve_identical_hours_are_a_stuck_provider_and_eleven_are_not() -> None:
    assert STUCK_AFTER == 12
    assert found(rows(11)) == []
    (one,) = found(rows(12))
    assert one == (
        "GR",
        H0,
        H0 + 12 * HOUR,
        "all 3 reported production modes have kept their values since 2024-03-31T10:00Z or earlier, for 12 hours",
    )
    ((_, _, until, what),) = found([*rows(106), *rows(4, H0 + 106 * HOUR, production_gas=901.0)])
    assert (until, what[-13:]) == (H0 + 106 * HOUR, "for 106 hours")


def test_estimates_and_other_columns_do_not_hide_it_and_one_mode_that_moves_does() -> None:
    still = [{**row, "consumption_total": 1000.0 + n, "is_estimated_power": True} for n, row in enumerate(rows(12))]
    assert len(found(still)) == 1
    moving = [{**row, "production_wind": 300.0 + n} for n, row in enumerate(rows(30))]
    assert found(moving) == []


def test_a_missing_hour_and_another_zone_end_a_stretch() -> None:
    assert found([*rows(8), *rows(8, H0 + 9 * HOUR)]) == []
    assert found([*rows(8), *rows(8, zone="FR")]) == []
    assert [one[0] for one in found([*rows(12), *rows(12, zone="FR")])] == ["FR", "GR"]


@pytest.mark.parametrize(
    ("modes", "demand", "after"),
    [
        # Whole megawatts of a small zone change rarely.
        ({"gas": 9.0, "oil": 4.0}, True, STUCK_AFTER_IN_A_SMALL_ZONE),
        # One plant may run flat; demand does not.
        ({"hydro": 900.0, "gas": 0.0}, True, STUCK_AFTER_IN_A_SMALL_ZONE),
        ({"hydro": 900.0, "gas": 0.0}, False, None),
        # Storage that charges is a mode as well.
        ({"wind": 5.0, "hydro_discharge": -40.0}, True, STUCK_AFTER),
        # Nothing can be said of single megawatts, zeros and nulls; other checks judge the latter.
        ({"gas": 1.0, "oil": 1.0}, True, None),
        ({"gas": 0.0, "oil": 0.0}, True, None),
        ({}, True, None),
    ],
)
def test_how_long_is_too_long_depends_on_the_zone(modes: dict[str, float], demand: bool, after: int | None) -> None:
    values: dict[str, Any] = {**NONE, **{f"production_{mode}": mw for mode, mw in modes.items()}}

    def of(count: int) -> list[dict[str, Any]]:
        return [
            {**row, "consumption_total": 700.0 + (0 if demand else n)} for n, row in enumerate(rows(count, **values))
        ]

    assert found(of(40)) == [] if after is None else len(found(of(after))) == 1
    assert found(of((after or 41) - 1)) == []


def hours_of(frame: pd.DataFrame, divisor: float) -> list[dict[str, Any]]:
    """Recorded hours as a zone so many times smaller reports them, in whole megawatts."""
    values = (frame / divisor).round().astype(float)
    modes = dict(zip(frame.columns, MODES, strict=False))
    start = datetime.fromisoformat("2020-01-01T00:00:00+00:00")
    return [
        {
            **dict.fromkeys(SILVER_ROW),
            **NONE,
            **{f"production_{modes[name]}": value for name, value in row.items()},
            "zone": "XX",
            "datetime": start + number * HOUR,
        }
        for number, row in enumerate(values.to_dict("records"))
    ]


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded data are not beside this checkout")
@pytest.mark.parametrize("divisor", [1, 50, 200, 1000])
def test_recorded_hours_never_stand_still_in_a_zone_of_any_size(divisor: float) -> None:
    greek = pd.read_csv(RECORDED / "greece_das_lagie" / "das_gr_hourly.csv")
    thermal = [
        name for name in greek.columns if name.split("_")[0] in ("renewables", "lignite", "gas", "hydro", "other")
    ]
    assert list(stretches(hours_of(greek[thermal], divisor))) == []
    for grid in ("CISO", "ERCO"):
        file = pd.read_csv(RECORDED / "dacf_2020_2021" / f"{grid}.csv.gz")
        names = ("coal", "nat_gas", "nuclear", "oil", "hydro", "solar", "wind", "other")
        frame = file[[name for name in file.columns if name in names]].iloc[:8760]
        assert list(stretches(hours_of(frame, divisor))) == [], grid


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded data are not beside this checkout")
def test_gaps_that_were_filled_with_the_hour_before_are_found_in_recorded_data() -> None:
    file = pd.read_csv(RECORDED / "dacf_2020_2021" / "PJM.csv.gz")
    names = ["coal", "nat_gas", "nuclear", "oil", "hydro", "solar", "wind", "other"]
    assert sorted(one.hours for one in stretches(hours_of(file[names], 1))) == [23, 25]
