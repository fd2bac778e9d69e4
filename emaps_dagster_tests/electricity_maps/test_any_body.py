"""Any body at all: admission ends in whole hours or a rejection, and silver reads what it admits as Python does."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER, Feed
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster_tests.support.bodies import UTC, is_admitted, response_of
from emaps_dagster_tests.support.body_readings import python_reading, silver
from harness.long_runs import LONG


def anything(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    scalars = st.none() | st.booleans() | st.integers() | floats | st.text(max_size=8)
    return st.recursive(scalars, lambda p: st.lists(p) | st.dictionaries(st.text(max_size=8), p), max_leaves=8)


JSON = anything(st.floats())
STRICT_JSON = anything(st.floats(allow_nan=False, allow_infinity=False))
NUMBERS = st.integers(-(10**9), 10**9) | st.floats(-1e8, 1e8).map(lambda x: round(x, 6)) | st.floats(-1e9, 1e9)
SIGNALS = st.none() | NUMBERS
OFFSETS = st.sampled_from((0, 0, 0, 120, -300, 330))


@st.composite
def times(draw: st.DrawFn, unit: timedelta) -> str:
    minutes = draw(OFFSETS)
    utc = datetime(2024, 1, 1, tzinfo=UTC) + draw(st.integers(0, 70)) * unit
    local = utc.astimezone(timezone(timedelta(minutes=minutes)))
    fraction = draw(st.sampled_from(("", ".000", f".{utc.microsecond:06d}" if utc.microsecond else ".0")))
    zone = "Z" if minutes == 0 else f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    return f"{local:%Y-%m-%dT%H:%M:%S}{fraction}{zone}"


HOURS = times(timedelta(hours=1))
MOMENTS = st.none() | times(timedelta(hours=1, seconds=7, microseconds=123_400))
PROVENANCE = {
    "zone": st.just("GR"),
    "updatedAt": MOMENTS,
    "createdAt": MOMENTS,
    "isEstimated": st.none() | st.booleans(),
    "estimationMethod": st.none() | st.text(max_size=8),
    "temporalGranularity": st.just("hourly"),
    "flowTraced": STRICT_JSON.filter(lambda value: value is not False),
    "more": st.dictionaries(st.text(max_size=5), SIGNALS, max_size=3),
}
MODE_VALUES = st.none() | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("coal", "gas", "solar", "hydro discharge"), SIGNALS) | {"fusion": st.just(0)}
)
FLOWS = st.none() | st.dictionaries(st.sampled_from(("AL", "BG", "IT-SO", "ΝΕΟΣ", "TR")), SIGNALS)
TOTALS = ("powerConsumptionTotal", "powerProductionTotal", "powerImportTotal", "powerExportTotal")
PERCENTAGES = ("fossilFreePercentage", "renewablePercentage")
ROWS = {
    CARBON: st.fixed_dictionaries(
        {"datetime": HOURS, "carbonIntensity": SIGNALS},
        optional=PROVENANCE | {"emissionFactorType": st.none() | st.text(max_size=8)},
    ),
    POWER: st.fixed_dictionaries(
        {"datetime": HOURS, "powerProductionBreakdown": MODE_VALUES, "powerConsumptionBreakdown": MODE_VALUES},
        optional=PROVENANCE
        | {"powerImportBreakdown": FLOWS, "powerExportBreakdown": FLOWS}
        | dict.fromkeys((*TOTALS, *PERCENTAGES), SIGNALS),
    ),
}


@st.composite
def good_texts(draw: st.DrawFn, feed: Feed) -> str:
    rows = [
        dict(draw(st.permutations(list(row.items())))) for row in draw(st.lists(ROWS[feed], min_size=1, max_size=4))
    ]
    parsed = {"zone": "GR", draw(st.sampled_from(("history", "data"))): rows}
    return json.dumps(parsed, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from((None, 1))))


@st.composite
def odd_texts(draw: st.DrawFn, feed: Feed) -> str:
    """A good body in which something small was replaced, or a row or value is anything at all."""
    text = draw(good_texts(feed))
    if draw(st.booleans()):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 3))
        pieces = st.sampled_from(("", "0", "1", "-", ".", "e5", " ", '"', "\\", "Z", "T", ",", "null", "{}", "\\ud800"))
        return text[:start] + draw(pieces) + text[end:]
    parsed = json.loads(text)
    rows = parsed.get("history") or parsed["data"]
    rows[0][draw(st.sampled_from(sorted(rows[0])))] = draw(JSON)
    return json.dumps(parsed)


@settings(max_examples=25 if LONG else 10, deadline=None)
@given(st.data())
def test_whatever_is_admitted_silver_reads_as_python_does(spark: SparkSession, data: st.DataObject) -> None:
    feed = data.draw(st.sampled_from(FEEDS))
    good = data.draw(st.lists(good_texts(feed), min_size=1, max_size=6))
    odd = data.draw(st.lists(odd_texts(feed), min_size=1, max_size=12))
    # What is left of them without their quarantined records.
    admitted = [admit(response_of(text, feed)).trusted_body for text in odd if is_admitted(text, feed)]
    for text in good:
        admit(response_of(text, feed))
    texts = [*good, *admitted]
    for text, rows in zip(texts, silver(spark, feed, texts), strict=True):
        assert rows == python_reading(feed, text), text


@settings(max_examples=300 if LONG else 100, deadline=None)
@given(st.text() | JSON.map(json.dumps) | odd_texts(CARBON) | odd_texts(POWER), st.sampled_from(FEEDS))
def test_admission_ends_in_whole_hours_or_a_rejection(text: str, feed: Feed) -> None:
    if not is_admitted(text, feed):
        return
    admitted = admit(response_of(text, feed))
    assert (admitted.window.end - admitted.window.start) % timedelta(hours=1) == timedelta(0)
    assert admitted.window.end > admitted.window.start
