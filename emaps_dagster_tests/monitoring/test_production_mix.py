"""The page of a zone's last hours: what it draws and says, and that a gap stays a gap."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from datetime import datetime
from typing import Any

import pytest

from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.monitoring.production_mix import COLOURS, COLUMNS, markdown
from emaps_dagster_tests.support.builders import utc

T = utc(2024, 5, 4, 6)
THREE_HOURS = Window(T, T + 3 * HOUR)


def row(hour: datetime, zone: str = "GR", **values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS), "zone": zone, "datetime": hour, **values}


def picture(page: str) -> ET.Element:
    (encoded,) = re.findall(r"\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", page)
    return ET.fromstring(base64.b64decode(encoded))


def paths(page: str) -> dict[str, str]:
    """What is drawn, by colour."""
    drawn = [path for path in picture(page).iter() if path.tag.endswith("path")]
    return {path.get("fill") if path.get("fill") != "none" else path.get("stroke"): path.get("d") for path in drawn}  # type: ignore[misc]


def test_the_page_says_energy_share_intensity_and_estimates() -> None:
    rows = [
        row(T, production_gas=3000.0, production_solar=1000.0, carbon_intensity=300.0),
        row(T + HOUR, production_gas=2000.0, production_solar=2000.0, carbon_intensity=500.0, is_estimated_carbon=True),
        row(T + 2 * HOUR, zone="BG", production_coal=9000.0),
    ]
    page = markdown(rows, "GR", THREE_HOURS)
    assert page.startswith("**Greece (GR)**, 2024-05-04 06:00 to 2024-05-04 09:00 UTC\n")
    assert "| all modes | 8.0 | |\n| gas | 5.0 | 62% |\n| solar | 3.0 | 38% |\n\n" in page
    assert page.endswith(
        "2 of 3 hours; carbon intensity 400 gCO2eq/kWh on average, 300 to 500; 1 estimated by the provider."
    )
    assert "coal" not in page


def test_modes_are_stacked_to_the_scale_of_the_largest_hour_and_a_missing_hour_is_empty() -> None:
    rows = [
        row(T, production_hydro=50.0, production_gas=100.0, consumption_total=75.0),
        row(T + 2 * HOUR, production_hydro=0.0, production_gas=None, consumption_total=150.0),
    ]
    drawn = paths(markdown(rows, "GR", THREE_HOURS))
    # 150 MW are 150 units high and an hour is 160 wide; hydro lies below gas.
    assert drawn[COLOURS["hydro"]] == "M0.0 150.0h160.0V100.0h-160.0z"
    assert drawn[COLOURS["gas"]] == "M0.0 100.0h160.0V0.0h-160.0z"
    # The pen is up over the missing hour.
    assert drawn["#000"] == "M0.0 75.0h160.0M320.0 0.0h160.0"


def test_no_word_lies_on_what_is_drawn() -> None:
    rows = [row(T, production_gas=100.0, consumption_total=100.0, carbon_intensity=300.0)]
    svg = picture(markdown(rows, "GR", Window(T, T + HOUR)))
    _, top, width, height = (float(number) for number in svg.get("viewBox", "").split())
    words = [text for text in svg.iter() if text.tag.endswith("text")]
    heights = [float(text.get("y", "")) for text in words if float(text.get("x", "")) < 480]
    # Letters are 10 high and stand on y: the stack is at 0 to 150, the line below at 176 to 222.
    assert [y for y in heights if y > 0 and y - 10 < 150] == [y for y in heights if y > 176 and y - 10 < 222] == []
    assert top + 10 <= min(heights)
    assert max(heights) < top + height
    assert width == 610


def test_storage_that_charges_is_reported_and_adds_no_height() -> None:
    page = markdown([row(T, production_hydro_discharge=-500.0, production_wind=1000.0)], "GR", Window(T, T + HOUR))
    assert "| wind | 1.0 | 100% |\n| pumped hydro | -0.5 | charging |" in page
    assert COLOURS["hydro_discharge"] not in paths(page)


@pytest.mark.parametrize("rows", [[], [row(T, zone="BG")], [row(T - HOUR)]])
def test_without_a_row_the_page_says_so(rows: list[dict[str, Any]]) -> None:
    assert markdown(rows, "GR", Window(T, T + HOUR)) == (
        "**Greece (GR)**, 2024-05-04 06:00 to 2024-05-04 07:00 UTC: gold holds none of these 1 hours."
    )


def test_a_row_without_any_value_is_drawn_as_nothing() -> None:
    page = markdown([row(T, zone="XX")], "XX", Window(T, T + HOUR))
    assert "| all modes | 0.0 | |\n\n1 of 1 hours; 0 estimated by the provider." in page


def test_a_day_of_every_mode_is_a_small_event() -> None:
    rows = [
        row(T + number * HOUR, **{f"production_{mode}": 1234.5 + 7 * number for mode in COLOURS})
        for number in range(24)
    ]
    assert len(markdown(rows, "GR", Window(T, T + 24 * HOUR))) < 20_000
