"""Responses whose `ingested_at` cannot be right: literal cases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.quality.clocks import wrong_clocks
from emaps_dagster_tests.support.builders import utc

NOW = utc(2024, 5, 4, 12, 7)
END = utc(2024, 5, 4, 13)


@dataclass(frozen=True)
class Received:
    signal: str
    ingested_at: datetime
    window_end: datetime
    zone: str = "GR"
    up_to_now: bool = True


def found(*responses: Received) -> list[tuple[int, str]]:
    return [(place, what.split(",")[0].split(" (")[0]) for place, what in wrong_clocks(responses, NOW)]


def test_a_signal_that_ends_hours_before_another_is_late_and_no_clock_was_wrong() -> None:
    ticks = [
        Received(signal, NOW - back * HOUR, END - (back + late) * HOUR)
        for back in (2, 1, 0)
        for signal, late in (("mix", 0), ("flows", 5))
    ]
    assert found(*ticks) == []


def test_a_response_that_ends_hours_before_the_last_of_its_signal_is_named() -> None:
    ahead = [
        Received("flows", NOW - HOUR, END - HOUR),
        Received("mix", NOW - timedelta(minutes=30), END - HOUR),
        Received("flows", NOW, END - 4 * HOUR),
        Received("flows", NOW, END - 4 * HOUR, zone="BG"),
    ]
    assert found(*ahead) == [(2, "it ends at 2024-05-04T09:00Z")]
