"""A neighbour that gold has no column for is named, with what it was called before."""

from __future__ import annotations

from typing import Any

from emaps_dagster.transforms.quality.neighbours import neighbours_have_columns
from emaps_dagster_tests.support.check_inputs import H0, H1, SILVER_ROW, evidence_of

LISTED = [("AL", 1.0), ("BG", 80.0), ("IT-SO", 0.0), ("MK", 3.0), ("TR", 2.0)]
RENAMED = [*LISTED[:3], ("MK-N", 50.0), LISTED[4]]


def found(*rows: dict[str, Any], zones: tuple[str, ...] = ("GR",)) -> list[tuple[Any, ...]]:
    outcome = neighbours_have_columns(evidence_of(list(rows), zones=zones))
    assert outcome.checked == len(rows)
    return [(finding.zone, finding.hour, finding.what) for finding in outcome.findings]


def row(imports: list[tuple[str, float | None]] | None, **columns: Any) -> dict[str, Any]:
    return {**SILVER_ROW, "import_by_zone": imports, **columns}


def test_listed_neighbours_pass_and_so_do_maps_without_values() -> None:
    assert found(row(LISTED)) == []
    assert found(row(None), row([]), row([("XX", None)])) == []
    # The columns of gold are those of all configured zones together.
    assert found(row([("RO", 5.0)]), zones=("GR", "BG")) == []


def test_a_renamed_neighbour_is_named_in_its_hours_beside_the_one_that_vanished() -> None:
    renamed = "; MK, which it lists, has no flow in these hours: perhaps renamed"
    why = f"zones.py does not list it as a neighbour of GR{renamed}"
    assert found(row(LISTED), row(RENAMED, datetime=H1, export_by_zone=[("MK-N", 0.0)])) == [
        ("GR", H1, f"import MK-N is 50 MW, export MK-N is 0 MW, and gold has no column for it: {why}")
    ]


def test_a_new_neighbour_beside_the_listed_ones_is_no_other_name() -> None:
    assert found(row([*LISTED, ("XK", 7.0)])) == [
        ("GR", H0, "import XK is 7 MW, and gold has no column for it: zones.py does not list it as a neighbour of GR")
    ]


def test_a_zone_that_zones_py_does_not_list_says_so_and_one_that_is_not_configured_is_not_judged() -> None:
    french = row([("BE", 140.0)], zone="FR", export_by_zone=None)
    assert found(french, zones=("FR",)) == [
        ("FR", H0, "import BE is 140 MW, and gold has no column for it: zones.py does not list the zone FR")
    ]
    assert found(french, zones=("GR",)) == []
