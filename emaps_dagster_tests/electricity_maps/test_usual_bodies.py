"""The fast validation of usual bodies: it accepts the API's own, and nothing that the validation by record refuses."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import CARBON, POWER, Feed
from emaps_dagster.electricity_maps import admission
from emaps_dagster.electricity_maps.admission import UnusableBodyError, hours_of_body
from emaps_dagster.electricity_maps.usual_bodies import hours_of_usual_body
from emaps_dagster.simulator.provider import Provider, Version
from emaps_dagster_tests.support.builders import utc

NOW = utc(2024, 5, 4, 10, 20)
LAST_DAY = Window(utc(2024, 5, 3, 10), utc(2024, 5, 4, 10))
FEEDS = (POWER, CARBON)


@pytest.fixture
def by_record(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Feed], Window | None]:
    """The hours by the validation of each record alone; None for a body with a fault."""
    monkeypatch.setattr(admission, "hours_of_usual_body", lambda *_: None)

    def hours(body: str, feed: Feed) -> Window | None:
        try:
            return hours_of_body(body, feed, "GR")
        except UnusableBodyError:
            return None

    return hours


def served(feed: Feed, version: Version = "v3") -> str:
    return Provider(7).body(feed, "GR", "history", NOW, LAST_DAY, version=version).decode()


def few(feed: Feed, count: int = 2) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(served(feed))
    body["history"] = body["history"][:count]
    return body


def window(hours: list[datetime] | None) -> Window | None:
    return None if hours is None else Window(min(hours), max(hours) + HOUR)


@pytest.mark.parametrize("version", ["v3", "v4"])
@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_the_api_s_own_bodies_are_usual(feed: Feed, version: Version) -> None:
    assert hours_of_usual_body(served(feed, version), feed, "GR") == [LAST_DAY.start + n * HOUR for n in range(24)]


UNUSUAL: list[tuple[Feed, dict[str, Any]]] = [
    (CARBON, {"carbonIntensity": "300"}),
    (CARBON, {"carbonIntensity": True}),
    (CARBON, {"carbonIntensity": 1.1e9}),
    (CARBON, {"flowTraced": False}),
    (CARBON, {"isEstimated": 0}),
    (CARBON, {"estimationMethod": "SANDBOX_MODE_DATA"}),
    (CARBON, {"datetime": "2023-02-29T01:00:00.000Z"}),
    (CARBON, {"datetime": "2024-04-31T01:00:00.000Z"}),
    (CARBON, {"datetime": "2024-05-04T01:30:00.000Z"}),
    (CARBON, {"updatedAt": "2024-05-04T01:30:00"}),
    (CARBON, {"zone": "FR"}),
    (CARBON, {"temporalGranularity": "daily"}),
    (CARBON, {"CarbonIntensity": 5}),
    (CARBON, {"estimationMethod": 'a "quote"'}),
    (POWER, {"powerProductionBreakdown": {"fusion": 5}}),
    (POWER, {"powerProductionBreakdown": {"coal": False}}),
    (POWER, {"powerProductionBreakdown": []}),
    (POWER, {"powerImportBreakdown": {"bg": 5}}),
    (POWER, {"powerImportTotal": float("nan")}),
    (POWER, {"powerImportTotal": float("inf")}),
    (POWER, {"powerImportTotal": 1e-30}),
]


@pytest.mark.parametrize(("feed", "change"), UNUSUAL, ids=[f"{feed.name}-{change}" for feed, change in UNUSUAL])
def test_any_other_body_is_left_to_the_validation_of_each_record(feed: Feed, change: dict[str, Any]) -> None:
    body = few(feed)
    assert hours_of_usual_body(json.dumps(body), feed, "GR") is not None
    body["history"][1] |= change
    assert hours_of_usual_body(json.dumps(body), feed, "GR") is None


def test_a_key_that_stands_twice_is_not_usual() -> None:
    body = json.dumps(few(CARBON), separators=(",", ":"))
    assert hours_of_usual_body(body, CARBON, "GR") is not None
    for twice in ('"isEstimated":false,', '"isEstimated" :false,'):
        assert hours_of_usual_body(body.replace('"isEstimated":', f'{twice}"isEstimated":', 1), CARBON, "GR") is None
    assert hours_of_usual_body(body.replace('"zone":', '"zone":"FR","zone":', 1), CARBON, "GR") is None
    lists = json.dumps({**few(CARBON), "data": few(CARBON)["history"]})
    assert hours_of_usual_body(lists, CARBON, "GR") is None


# What is put in, beside a character of the body itself.
TOKENS = (
    *'"{}[],:-+.0123456789eE \n\t\x00\x7fZT',
    "null", "true", "NaN", "1e9", "1E5", "-0", "0.1", "00", '"zone":"GR",', '"data":[],', "é", "\\u0041", "\ud800",
    "sandbox", '"coal":1,', '"Coal":1,', '"bg":1,', "/**/", "'", "1" * 40,
)  # fmt: skip


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_no_edit_of_a_body_is_usual_that_a_record_s_validation_refuses_or_reads_otherwise(
    feed: Feed, by_record: Callable[[str, Feed], Window | None]
) -> None:
    rng = random.Random(20261128)
    original = json.dumps(few(feed, 1), separators=(",", ":"))
    usual = 0
    for _ in range(6000):
        text = original
        for _ in range(rng.choice((1, 1, 1, 2))):
            start = rng.randrange(len(text))
            end = start + rng.choice((0, 0, 1, 1, 4, 12))
            other = rng.randrange(len(text))
            piece = rng.choice((*TOKENS, text[other : other + rng.randrange(1, 40)]))
            text = text[:start] + piece + text[end:]
        found = window(hours_of_usual_body(text, feed, "GR"))
        if found is not None:
            usual += 1
            assert by_record(text, feed) == found, text
    assert usual > 100
