"""What the plan of a token serves, as the list of zones says it."""

from __future__ import annotations

from typing import Any

import pytest

from emaps_dagster.monitoring.api_plan import Plan, plan_from
from emaps_dagster_tests.support.upkeep_hours import CARRIED, FIRST, NOW

FREE = [f"{feed}/{kind}" for feed in ("carbon-intensity", "power-breakdown") for kind in ("latest", "history")]


@pytest.mark.parametrize(
    ("listed", "past_range", "updates"),
    [
        pytest.param({"GR": {"access": ["*"]}}, True, True, id="everything"),
        pytest.param({"GR": {"access": FREE}}, False, False, id="the free plan"),
        pytest.param({"GR": {"access": [*FREE, "carbon-intensity/past-range"]}}, False, False, id="one feed only"),
        pytest.param(
            {"GR": {"access": ["carbon-intensity/past-range", "power-breakdown/past"]}}, True, True, id="the past"
        ),
        pytest.param({"GR": {"zoneName": "Greece"}}, True, True, id="nothing is said of access"),
        pytest.param({}, True, False, id="the zone is not listed"),
    ],
)
def test_the_plan_is_what_the_list_of_zones_says(listed: dict[str, Any], past_range: bool, updates: bool) -> None:
    plan = plan_from(listed, ("GR",))
    assert ("GR" in plan.past_range) is past_range
    assert plan.oldest_served("GR", NOW, FIRST) == (FIRST if past_range else CARRIED)
    assert Plan.from_json(plan.as_json()) == plan
    if listed:
        assert ("GR" in plan.updated_since) is updates
