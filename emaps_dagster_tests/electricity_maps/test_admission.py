"""Which bodies are loaded, and that Sail reads every one of them as Python does."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from emaps_dagster.contracts.errors import RejectedBodyError
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER, Feed
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster_tests.support.bodies import (
    CARBON_ADMITTED,
    DEEP,
    FULL_POWER_ROW,
    POWER_ADMITTED,
    POWER_ROW,
    RECEIVED,
    ROW,
    UTC,
    at,
    body,
    carbon,
    number,
    response_of,
)
from emaps_dagster_tests.support.body_readings import moment, python_reading, silver

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "emaps_v3_fixtures"

# --- let in ---------------------------------------------------------------------------------------

ADMITTED = [(CARBON, name, text) for name, text in CARBON_ADMITTED.items()] + [
    (POWER, name, text) for name, text in POWER_ADMITTED.items()
]


@pytest.mark.parametrize(("feed", "text"), [pytest.param(f, text, id=name) for f, name, text in ADMITTED])
def test_a_usable_body_is_admitted_with_the_hours_it_holds(feed: Feed, text: str) -> None:
    admitted = admit(response_of(text, feed))
    rows = json.loads(text).get("history") or json.loads(text)["data"]
    hours = [moment(row["datetime"]) for row in rows]
    assert admitted.window == Window(min(hours), max(hours) + timedelta(hours=1))
    assert admitted.body == text


def test_every_admitted_body_gives_the_silver_rows_that_python_reads(spark: SparkSession) -> None:
    for feed in FEEDS:
        texts = {name: text for of, name, text in ADMITTED if of == feed}
        got = silver(spark, feed, list(texts.values()))
        for (name, text), rows in zip(texts.items(), got, strict=True):
            assert rows == python_reading(feed, text), name


def test_silver_of_one_full_row_written_by_hand(spark: SparkSession) -> None:
    [rows] = silver(spark, POWER, [body(FULL_POWER_ROW)])
    row = rows[datetime(2024, 1, 1, tzinfo=UTC)]
    assert {name: value for name, value in row.items() if value is not None} == {
        "consumption_nuclear": 12.0,
        "consumption_coal": 0.0,
        "consumption_gas": 2010.0,
        "consumption_hydro_discharge": 7.0,
        "production_coal": 0.0,
        "production_gas": 2000.0,
        "production_hydro_discharge": -310.5,
        "consumption_total": 2029.0,
        "production_total": 2000.0,
        "import_total": 100.0,
        "export_total": 90.0,
        "import_by_zone": {"BG": 100.0, "IT-SO": 0.0, "AL": None},
        "export_by_zone": {"BG": 0.0, "NEW-ZONE": 90.0},
        "fossil_free_percentage": 34.0,
        "renewable_percentage": 33.0,
        "is_estimated_power": True,
        "estimation_method_power": "TIME_SLICER_AVERAGE",
        "updated_at_power": datetime(2024, 1, 1, 2, 48, 54, 12000, tzinfo=UTC),
        "created_at_power": datetime(2023, 12, 29, 0, 47, 49, 346000, tzinfo=UTC),
        "ingested_at_power": RECEIVED,
    }


# --- refused --------------------------------------------------------------------------------------

API_ERRORS: list[tuple[Feed, str, str]] = [
    (CARBON, "", "not strict JSON"),
    (CARBON, "<html></html>", "not strict JSON"),
    (CARBON, "{'zone': 'GR'}", "not strict JSON"),
    (CARBON, body(ROW) + " x", "not strict JSON"),
    (CARBON, body(ROW) + "\0", "not strict JSON"),
    (CARBON, body(ROW)[:-1], "not strict JSON"),
    (CARBON, body(ROW).replace("300", "300,"), "not strict JSON"),
    (CARBON, carbon(emissionFactorType="a\nb").replace("\\n", "\n"), "control character"),
    *((CARBON, number(digits), "not strict JSON") for digits in ("01", "+1", ".5", "5.", "0x10", "1_000", "NULL")),
    *((CARBON, number(word), "not strict JSON") for word in ("nan", "Nan", "+Infinity", "inf", "-NaN", "undefined")),
    (CARBON, "NaN", "JSON float, not an object"),
    (CARBON, '{"zone":"GR","history":NaN}', "'history' is not a list"),
    (CARBON, '{"zone":NaN,"history":[]}', "for zone 'nan', not 'GR'"),
    (CARBON, "\ufeff" + body(ROW), "byte order"),
    (CARBON, " " * 16_000_001, "16,000,001 characters"),
    (CARBON, "[" * 100_000, "deep"),
    (CARBON, '{"zone":"GR","zone":"GR","history":[]}', "'zone' stands twice"),
    (CARBON, carbon(emissionFactorType="here").replace("here", "\ud800"), "half a character"),
    (CARBON, "[]", "JSON list, not an object"),
    (CARBON, "null", "not an object"),
    (CARBON, '"x"', "not an object"),
    (CARBON, json.dumps({"history": [ROW]}), "for zone 'None', not 'GR'"),
    (CARBON, json.dumps({"zone": "BG", "history": [ROW]}), "for zone 'BG', not 'GR'"),
    (CARBON, json.dumps({"zone": "gr", "history": [ROW]}), "for zone 'gr', not 'GR'"),
    (CARBON, carbon(zone="BG"), "row 2024-01-01T00:00:00.000Z is for zone 'BG'"),
    (CARBON, carbon(zone=None), "row 2024-01-01T00:00:00.000Z is for zone 'None'"),
    (CARBON, json.dumps({"zone": "GR"}), "neither"),
    (CARBON, json.dumps({"zone": "GR", "forecast": [ROW]}), "neither"),
    (CARBON, json.dumps({"zone": "GR", **ROW}), "neither"),
    (CARBON, body(ROW, data=[ROW]), "both"),
    (CARBON, body(ROW, data=None), "both"),
    (CARBON, json.dumps({"zone": "GR", "history": []}), "no rows"),
    (CARBON, json.dumps({"zone": "GR", "history": {}}), "'history' is not a list"),
    (CARBON, json.dumps({"zone": "GR", "data": None}), "'data' is not a list"),
    (CARBON, body(1), "row 0 is not an object"),
    (CARBON, body(POWER_ROW), "lacks the key 'carbonIntensity'"),
    (POWER, body(ROW), "no row of power-breakdown"),
    (CARBON, body(ROW, History=[]), "the keys 'history' and 'History'"),
    (CARBON, body({"Datetime": "2024-01-01T00:00:00Z", "carbonIntensity": 1}), "datetime of row 0 is 'None'"),
    *(
        (CARBON, at(time), f"datetime of row 0 is {time!r}, not a time with its time zone")
        for time in (
            "yesterday",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00Z",
            "2024-01-01T00Z",
            "20240101T00Z",
            "20240101T000000Z",
            "2024-W01-1T00:00:00Z",
            "2024-001T00:00:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01t00:00:00Z",
            "2024-01-01T00:00:00z",
            "2024-01-01T00:00:00,000Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00 Z",
            " 2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00Z\n",
            "2024-01-01T00:00:00+02",
            "2024-01-01T00:00:00+0200",
            "2024-01-01T00:00:30+00:00:30",
            "2024-01-01T00:00:00+23:00",
            "2024-01-01T00:00:00UTC",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:60Z",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "+2024-01-01T00:00:00Z",
            "٢٠٢٤-01-01T00:00:00Z",
        )
    ),
    *(
        (CARBON, at(time), "not a full UTC hour")
        for time in ("2024-01-01T00:30:00Z", "2024-01-01T00:00:01Z", "2024-01-01T00:00:00.000001Z",
                     "2024-01-01T00:00:00+05:30")
    ),
    *(
        (CARBON, at(time), "outside the years 1901 to 2199")
        for time in ("0001-01-01T00:00:00+14:00", "1900-12-31T23:00:00Z", "2200-01-01T00:00:00Z",
                     "9999-12-31T23:00:00Z")
    ),
    (CARBON, carbon(datetime=1704067200), "datetime of row 0 is '1704067200'"),
    (CARBON, carbon(datetime=["2024-01-01T00:00:00Z"]), "datetime of row 0"),
    (CARBON, body(ROW, temporalGranularity="daily"), "temporalGranularity of the body is 'daily'"),
    (CARBON, body(ROW, temporalGranularity=None), "temporalGranularity of the body is 'None'"),
    (CARBON, body(ROW, flowTraced=False), "flowTraced of the body is false"),
    (CARBON, carbon(temporalGranularity="5_minutes"), "temporalGranularity of row"),
    (CARBON, body(ROW, _disclaimer="SANDBOX MODE: random data"), "sandbox"),
    (CARBON, carbon(_disclaimer="Sandbox"), "sandbox"),
    (CARBON, carbon(estimationMethod="SANDBOX_MODE_DATA"), "sandbox"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("feed", "text", "says"), [pytest.param(*case, id=f"{i}-{case[2][:40]}") for i, case in enumerate(API_ERRORS)]
)
def test_a_body_of_which_no_record_can_be_trusted_is_refused_with_its_evidence(
    feed: Feed, text: str, says: str
) -> None:
    response = response_of(text, feed)
    with pytest.raises(RejectedBodyError) as caught:
        admit(response)
    assert says in caught.value.reason
    assert caught.value.response == response
    assert len(caught.value.reason) < 400
    assert "\n" not in caught.value.reason
    for part in (feed.endpoint, "zone GR", caught.value.reason):
        assert part in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.response, again.reason, str(again)) == (response, caught.value.reason, str(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        body({**ROW, "zone": "BG"}, {**ROW, "zone": "FR"}),
        body(POWER_ROW, POWER_ROW),
        body({**ROW, "temporalGranularity": "daily"}, {**ROW, "temporalGranularity": "daily"}),
        body(None, {"datetime": "x"}),
        body(ROW, {**ROW, "estimationMethod": "SANDBOX_MODE_DATA"}),
        body(ROW, None)[:-1],
        body(ROW, None).replace("null", "nil"),
        json.dumps({"error": "no"}),
    ],
)
def test_what_is_no_answer_to_the_question_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(RejectedBodyError):
        admit(response_of(text, CARBON))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(carbon(emissionFactorType="\ud800"), id="half a character"),
        pytest.param(DEEP, id="200 deep"),
    ],
)
def test_why_it_is_refused_sail_would_drop_the_whole_body_without_a_word(spark: SparkSession, text: str) -> None:
    assert silver(spark, CARBON, [text]) == [{}]


@pytest.mark.parametrize("time", ["2024-01-01T00:00Z", "20240101T00Z", "2024-W01-1T00:00:00Z", "2024-01-01T00:00:00z"])
def test_why_it_is_refused_this_time_would_stop_every_later_run_of_silver(spark: SparkSession, time: str) -> None:
    with pytest.raises(Exception, match="invalid time"):
        silver(spark, CARBON, [at(time)])


# --- recorded bodies ------------------------------------------------------------------------------

RECORDINGS = [
    ("aioem_power_breakdown_history", POWER, "DE", 24),
    ("aioem_carbon_intensity_history", CARBON, "DE", 24),
    ("ifem_carbon_intensity_past_range", CARBON, "DK-DK2", 2),
]


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded bodies are not on this machine")
@pytest.mark.parametrize(("name", "feed", "zone", "hours"), RECORDINGS)
def test_a_recorded_body_is_admitted_and_read_as_python_does(
    spark: SparkSession, name: str, feed: Feed, zone: str, hours: int
) -> None:
    text = (RECORDED / f"{name}.json").read_text("utf-8")
    admitted = admit(response_of(text, feed, zone))
    assert admitted.window.end - admitted.window.start == timedelta(hours=hours)
    late = datetime(2026, 1, 1, tzinfo=UTC)
    [rows] = silver(spark, feed, [text], late)
    assert len(rows) == hours
    assert rows == python_reading(feed, text, late)
