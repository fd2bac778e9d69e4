"""What admission lets in, no check of bronze, silver or gold stops: on both engines, by bodies changed at random.

Each body has a zone of its own, so that one pass of the engine and of the checks judges them all.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from emaps_dagster.contracts.errors import RejectedBodyError
from emaps_dagster.contracts.responses import AcceptedResponse, RawResponse
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import CARBON, POWER, Feed
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.pipeline.check_catalog import checks_of
from emaps_dagster.pipeline.ingest import rows_of
from emaps_dagster.transforms.gold import features
from emaps_dagster.transforms.quality.bronze import BronzeEvidence, no_sandbox_data, raw_json_parses
from emaps_dagster.transforms.quality.contract import primary_key_is_unique
from emaps_dagster.transforms.quality.gold import GoldEvidence
from emaps_dagster.transforms.quality.outcome import Outcome
from emaps_dagster.transforms.quality.silver_evidence import SilverEvidence
from emaps_dagster.transforms.silver import energy_data
from emaps_dagster_tests.support.bodies import CARBON_ADMITTED, FULL_POWER_ROW, POWER_ADMITTED, ROW
from emaps_dagster_tests.support.builders import utc

pytestmark = pytest.mark.both_engines

RECEIVED = utc(2024, 1, 3, 12, 30)
HELD = Window(utc(2023, 12, 31), utc(2024, 1, 4))
# Written in many ways, all of them full hours of those days: the door takes what is written as ISO 8601.
HOURS = (
    "2024-01-01T00:00:00.1239999Z", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.0Z", "2024-01-01T00:00:00.00Z",
    "2024-01-01T00:00:00.0000000Z", "2024-01-01T05:45:00.00+05:45", "2023-12-31T10:00:00.000000-14:00",
    "2024-01-01T14:59:00+14:59", "2024-01-01T01:00:00-00:00", "2024-01-01T02:00Z", "2024-01-01T02:00:00+02",
    "2024-01-01T02:00:00 +02:00", "2024-01-01 02:00:00Z", "20240101T020000Z", "2024-W01-1T02:00:00Z",
    "2024-01-01T24:00:00Z", "2024-01-01T02:00:60Z", "2024-01-03T12:00:00Z", "2024-01-03T11:00:00Z",
)  # fmt: skip
MOMENTS = (
    "2024-01-01T01:02:03.1Z", "2024-01-01T01:02:03.12Z", "2024-01-01T01:02:03.1234Z", "2024-01-01T01:02:03.123456789Z",
    "2024-01-01T01:02:03.9999999Z", "1950-06-07T08:09:10.123456Z", "1901-01-01T00:00:00.1Z", "1969-12-31T23:59:59.999Z",
    "2199-12-31T23:59:59.999999-14:59", "2024-01-01T15:01:02.5+14:59", "1900-12-31T23:00:00Z", "", *HOURS,
)  # fmt: skip
NUMBERS = (
    0, -0.0, 0.5, -1219, 1e9, -1e9, 1e-7, 5e-324, 1e-400, 0.1, 123456.789012345, 999999999.999999, 10**9, 3e2, 33.3,
    None, True, "300", 1e10, [], {}, float("nan"), float("-inf"),
)  # fmt: skip
TEXTS = (
    "sandbox", "https://sandbox.example.org/docs", "SandBox_Mode_Data", "", "a\u0000b", "\U0001f600", "lifecycle", "-",
    None, 5, ["sandbox"], {"estimationMethod": "SANDBOX_MODE_DATA"},
)  # fmt: skip
KEYS = (
    "_disclaimer", "disclaimer", "_Disclaimer", "estimationMethod", "EstimationMethod", "documentation", "zone", "data",
    "history", "History", "datetime", "Datetime", "updatedAt", "UpdatedAt", "isEstimated", "IsEstimated", "record",
    "carbonIntensity", "carbonintensity", "powerProductionTotal", "powerproductiontotal", "powerImportBreakdown",
    "powerimportbreakdown", "coal", "Coal", "hydro discharge", "Hydro Discharge", "BG", "bg", "unknown", "a.b", "a`b",
    "", " ", "position", "_corrupt_record", "Ωμέγα", "ωμέγα", "x" * 50,
)  # fmt: skip


def bodies_of(feed: Feed) -> Iterator[str]:
    """Bodies that are known to be let in, then the same changed in one to four places."""
    known = list((POWER_ADMITTED if feed == POWER else CARBON_ADMITTED).values())
    whole = json.dumps({"zone": "GR", "history": [FULL_POWER_ROW if feed == POWER else ROW]})
    yield from known
    dice = random.Random(16)
    for _ in range(1200):
        parsed = json.loads(dice.choice((whole, dice.choice(known))))
        for _ in range(dice.randrange(1, 4)):
            change(parsed, dice)
        yield json.dumps(parsed, ensure_ascii=dice.random() < 0.5)


def change(parsed: Any, dice: random.Random) -> None:
    """Another value, another spelling of a key, a key or record more, or one less."""
    place = parsed
    while dice.random() < 0.8:
        parts = place.values() if isinstance(place, dict) else place
        inner = [part for part in parts if isinstance(part, (dict, list))]
        if not inner:
            break
        place = dice.choice(inner)
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    kind = dice.randrange(5)
    if kind == 0 and isinstance(place, dict):
        place[dice.choice(KEYS)] = copy.deepcopy(dice.choice(dice.choice((NUMBERS, TEXTS, MOMENTS))))
    elif kind == 1 and isinstance(place, dict) and keys:
        key = dice.choice(keys)
        place[dice.choice((str.upper, str.lower, str.title))(key)] = place.pop(key)
    elif kind == 2 and isinstance(place, list) and keys:
        place.insert(dice.randrange(len(place) + 1), copy.deepcopy(dice.choice(place)))
    elif keys:
        key = dice.choice(keys)
        if kind == 3 and dice.random() < 0.3:
            del place[key]
        else:
            written = HOURS if key == "datetime" else MOMENTS if str(key).endswith("At") else NUMBERS
            place[key] = copy.deepcopy(dice.choice(written if dice.random() < 0.8 else TEXTS))


def admitted(feed: Feed) -> list[AcceptedResponse]:
    """What the door lets in, each in a zone of its own."""
    found = []
    for number, text in enumerate(bodies_of(feed)):
        zone = f"Z{number}"
        own = text.replace('"zone": "GR"', f'"zone": "{zone}"')
        path = f"/v3/{feed.endpoint}/history?zone={zone}"
        try:
            response = admit(RawResponse(feed, zone, "history", path, own, RECEIVED))
        except RejectedBodyError:
            continue
        # Of other days than the run's; fetch refuses those (`_near`).
        if response.window.start >= HELD.start and response.window.end <= HELD.end:
            found.append(response)
    return found


def of(outcome: Outcome, said: dict[str, str]) -> list[tuple[str, str]]:
    """Findings with the body that they are of."""
    return [(finding.what, said[finding.zone][:1500]) for finding in outcome.findings][:3]


@pytest.mark.jvm_long("the checks run there in test_deployment_spark.py")
def test_what_is_let_in_passes_every_check_that_blocks(spark: SparkSession) -> None:
    power, carbon = admitted(POWER), admitted(CARBON)
    assert min(len(power), len(carbon)) > 250, "most changes must be such that the door lets the body in"
    said = {response.zone: response.body for response in (*power, *carbon)}
    stored = {table: rows_of(table, found) for table, found in ((POWER_DATA, power), (CARBON_DATA, carbon))}
    for rows in stored.values():
        evidence = BronzeEvidence(rows)
        assert of(raw_json_parses(evidence), said) == []
        assert of(no_sandbox_data(evidence), said) == []
    zones = tuple(sorted(said))
    for table in stored:
        # One feed alone, beside a single body of the other: a zone is of one body only.
        power_rows, carbon_rows = (rows if of_feed == table else rows[:1] for of_feed, rows in stored.items())
        frames = spark.createDataFrame(power_rows), spark.createDataFrame(carbon_rows)
        silver = conform(energy_data(*frames, HELD.start, HELD.end).toArrow(), ENERGY_DATA)
        evidence = SilverEvidence(HELD, HELD, zones, RECEIVED, silver, power_rows, carbon_rows)
        assert failing(ENERGY_DATA, silver, evidence, said) == []
        after = Window(HELD.start, HELD.end + 23 * HOUR)
        computed = features(spark.createDataFrame(silver), ("GR",), after.start, after.end).toArrow()
        gold = conform(computed, ml_features(("GR",)))
        assert failing(ml_features(("GR",)), gold, GoldEvidence(after, zones, gold, silver), said) == []


def failing(table: Table, rows: pa.Table, evidence: object, said: dict[str, str]) -> list[object]:
    """The first findings of each check of the table that blocks and fails."""
    blocking = [check for check in checks_of(table) if check.blocking and not check.of_the_table]
    outcomes = {c.name: c.evaluate(rows if c.evaluate is primary_key_is_unique else evidence) for c in blocking}
    return [(name, of(outcome, said)) for name, outcome in outcomes.items() if not outcome.passed]
