"""Means of two power signals, and flows that were carried forward: found in the hours that have them."""

from __future__ import annotations

from typing import Any

import pytest

from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.transforms.quality.gold import GoldEvidence
from emaps_dagster.transforms.quality.roads import (
    flows_are_not_carried_forward,
    rolling_avg_24h_is_of_one_power_signal,
)
from emaps_dagster_tests.support.check_inputs import H0, evidence_of, table_of

V3, V4, MIX = (f"electricitymaps/{name}" for name in ("v3/power-breakdown", "v4/power-breakdown", "v4/electricity-mix"))


def mixed(sources: dict[int, str | None], hours: range) -> list[tuple[int, str]]:
    """(hours after H0, finding) for gold's rows of some hours, from silver's sources by hour."""
    silver = [{"zone": "GR", "datetime": H0 + n * HOUR, "source_power": source} for n, source in sources.items()]
    gold = [{"zone": "GR", "datetime": H0 + n * HOUR} for n in hours]
    tables = table_of(ml_features(("GR",)), gold), table_of(ENERGY_DATA, silver)
    outcome = rolling_avg_24h_is_of_one_power_signal(
        GoldEvidence(Window(H0 + hours[0] * HOUR, H0 + (hours[-1] + 1) * HOUR), ("GR",), *tables)
    )
    assert outcome.checked == len(hours)
    return [((f.hour - H0) // HOUR, f.what) for f in outcome.findings if f.hour]


def test_a_change_of_signal_mixes_23_hours_and_one_of_the_version_none() -> None:
    assert mixed({n: V3 if n < 10 else V4 for n in range(60)}, range(60)) == []
    found = mixed({n: V4 if n < 30 else MIX for n in range(60)}, range(60))
    assert [hour for hour, _ in found] == list(range(30, 53))
    assert found[0][1] == (
        "the 24-hour means of production, consumption and flows mix electricity-mix (1 value) and power-breakdown "
        "(23 values)"
    )
    # An hour without a power record is of no signal.
    assert mixed({0: V3, 1: None, 2: V3}, range(3)) == []


# As recorded of FR on 2026-10-03 at 08:26: 07:00 repeats BE and GB, of which GB had exported more before.
FR: list[tuple[dict[str, float], dict[str, float]]] = [
    ({}, {"BE": 792.0, "CH": 2348.0, "GB": 700.0}),
    ({"ES": 1054.0}, {"BE": 935.0, "CH": 1946.0, "GB": 120.0}),
    ({"DE": 165.0, "ES": 291.0}, {"BE": 517.0, "CH": 1946.0, "GB": 625.0}),
    ({"DE": 947.0, "ES": 303.0}, {"BE": 517.0, "CH": 2189.0, "GB": 625.0}),
]


def carried(source: str, flows: list[tuple[dict[str, float], dict[str, float]]]) -> list[tuple[int, str]]:
    rows: list[dict[str, Any]] = [
        {
            "zone": "FR",
            "datetime": H0 + n * HOUR,
            "source_power": source,
            "import_by_zone": list(imports.items()),
            "export_by_zone": list(exports.items()),
        }
        for n, (imports, exports) in enumerate(flows)
    ]
    outcome = flows_are_not_carried_forward(evidence_of(rows, [], []))
    return [((f.hour - H0) // HOUR, f.what) for f in outcome.findings if f.hour]


def test_two_flows_of_the_hour_before_are_found_on_the_long_road() -> None:
    assert carried(MIX, FR) == [(3, "flows of the hour before: export BE 517 MW, export GB 625 MW")]
    assert carried(V4, FR) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # One flow alone may run flat; so do two lines at their limit, and small flows; an hour may be missing.
        ({"BE": 517.0, "CH": 5.0}, {"BE": 517.0, "CH": 6.0}),
        ({"BE": 3000.0, "CH": 4000.0}, {"BE": 3000.0, "CH": 4000.0}),
        ({"BE": 1.0, "CH": 9.0}, {"BE": 1.0, "CH": 9.0}),
        ({}, {}),
    ],
)
def test_what_may_repeat_is_not_found(before: dict[str, float], after: dict[str, float]) -> None:
    assert carried(MIX, [({}, {"BE": 3000.0, "CH": 4000.0}), ({}, {"BE": 10.0}), ({}, before), ({}, after)]) == []
