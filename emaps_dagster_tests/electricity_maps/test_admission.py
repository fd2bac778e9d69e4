"""Which bodies are loaded, and that Sail reads every one of them as Python does."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.errors import RejectedBodyError
from emaps_dagster.contracts.responses import RawResponse
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER, Feed
from emaps_dagster.electricity_maps.admission import Reach
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster.transforms.silver import energy_data

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "emaps_v3_fixtures"
UTC = timezone.utc
RECEIVED = datetime(2024, 1, 3, 12, 30, tzinfo=UTC)

AT = {"datetime": "2024-01-01T00:00:00.000Z"}
ROW = {**AT, "carbonIntensity": 300}
POWER_ROW = {**AT, "powerProductionBreakdown": {"coal": 5}, "powerConsumptionBreakdown": {"coal": 4}}


def response_of(text: str, feed: Feed, zone: str = "GR") -> RawResponse:
    return RawResponse(feed, zone, "history", f"/v3/{feed.endpoint}/history?zone={zone}", text, RECEIVED)


def body(*rows: object, key: str = "history", **envelope: Any) -> str:
    return json.dumps({"zone": "GR", key: list(rows), **envelope})


def carbon(**changes: Any) -> str:
    return body({**ROW, **changes})


def power(**changes: Any) -> str:
    return body({**POWER_ROW, **changes})


def number(digits: str) -> str:
    return carbon(carbonIntensity="here").replace('"here"', digits)


def at(time: str) -> str:
    return carbon(datetime=time)


# --- let in ---------------------------------------------------------------------------------------

FULL_POWER_ROW = {
    "zone": "GR",
    **AT,
    "updatedAt": "2024-01-01T02:48:54.012Z",
    "createdAt": "2023-12-29T00:47:49.346Z",
    "powerConsumptionBreakdown": {"nuclear": 12, "coal": 0, "gas": 2010, "hydro discharge": 7},
    "powerProductionBreakdown": {"nuclear": None, "coal": 0, "gas": 2000, "hydro discharge": -310.5},
    "powerImportBreakdown": {"BG": 100, "IT-SO": 0, "AL": None},
    "powerExportBreakdown": {"BG": 0, "NEW-ZONE": 90},
    "fossilFreePercentage": 34,
    "renewablePercentage": 33,
    "powerConsumptionTotal": 2029,
    "powerProductionTotal": 2000,
    "powerImportTotal": 100,
    "powerExportTotal": 90,
    "isEstimated": True,
    "estimationMethod": "TIME_SLICER_AVERAGE",
}
CARBON_ADMITTED = {
    "history": body(ROW),
    "data": body(ROW, key="data"),
    "the zone in the row": carbon(zone="GR"),
    "hourly": body(ROW, temporalGranularity="hourly"),
    "the keys of v4": body({**ROW, "flowTraced": True, "unit": "g"}, temporalGranularity="hourly", flowTraced=True),
    "unknown keys, nested": body({**ROW, "new": {"deep": [1, {"a": 1, "A": 2}]}}, more=[]),
    "not reported": carbon(carbonIntensity=None),
    "all nulls": carbon(carbonIntensity=None, isEstimated=None, estimationMethod=None, updatedAt=None, createdAt=None),
    "an unknown estimation method": carbon(isEstimated=True, estimationMethod="SOMETHING_NEW"),
    "direct factors": carbon(emissionFactorType="direct"),
    "a disclaimer": body(ROW, _disclaimer="This data is the property of somebody"),
    "rows unsorted": body({**ROW, "datetime": "2024-01-01T05:00:00Z"}, {**ROW, "carbonIntensity": 1}),
    "one hour twice": body(ROW, {**ROW, "carbonIntensity": 1}),
    "one hour twice, the newer first": body(
        {**ROW, "carbonIntensity": 1, "updatedAt": "2024-01-01T05:00:00Z"},
        {**ROW, "carbonIntensity": 2, "updatedAt": "2024-01-01T04:00:00Z"},
    ),
    "one hour twice, one without updatedAt": body({**ROW, "updatedAt": "2024-01-01T05:00:00Z"}, ROW),
    "a running hour": body(ROW, {**ROW, "datetime": "2024-01-03T12:00:00Z"}),
    "blanks around": " \t\r\n" + body(ROW) + "\r\n ",
    "an escaped key": body(ROW).replace('"datetime"', '"\\u0064atetime"'),
    "escapes": carbon(emissionFactorType='a\u0000\u0001\n\t\\/"b'),
    "beyond ASCII": json.dumps(
        json.loads(carbon(emissionFactorType="Ωμέγα\u2028\U0001f600\uffff")), ensure_ascii=False
    ),
    "a surrogate pair": carbon(emissionFactorType="\U0001f600"),
    "a Spark word": carbon(_corrupt_record="x"),
    "nested 20 deep": carbon(x=json.loads("[" * 20 + "]" * 20)),
    "a long number elsewhere": carbon(x=10**90),
    **{
        f"number {digits}": number(digits)
        for digits in ["0", "-0", "-0.0", "-5", "0.1", "300.0", "3e2", "3E+2", "706.2849", "1e9", "-1e9"]
    },
    **{
        f"number of {len(digits)} characters": number(digits)
        for digits in ("123456.789012345", "0.30000000000000004", "123456789.123456789012345", "9007199254740993e-8")
    },
    "number below the smallest": number("1e-400"),
    **{
        f"time {time}": at(time)
        for time in (
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00.0Z",
            "2024-01-01T00:00:00.000000000Z",
            "2024-01-01T02:00:00+02:00",
            "2023-12-31T19:00:00-05:00",
            "2024-01-01T05:30:00.000+05:30",
            "2024-01-01T00:00:00-00:00",
            "2024-02-29T23:00:00Z",
            "1901-01-01T00:00:00Z",
            "2199-12-31T23:00:00Z",
        )
    },
    **{
        f"updated {time}": carbon(updatedAt=time, createdAt=time)
        for time in ("2024-01-01T01:02:03.1239999Z", "1970-01-01T00:00:00.000Z", "2024-01-01T03:02:03.5+02:00")
    },
}
POWER_ADMITTED = {
    "every field": body(FULL_POWER_ROW),
    "the least": power(),
    "null, 0 and absent modes": power(powerProductionBreakdown={"coal": None, "gas": 0}),
    "storage that charges": power(powerProductionBreakdown={"hydro discharge": -1219, "battery discharge": -0.5}),
    "empty maps": power(powerProductionBreakdown={}, powerImportBreakdown={}, powerExportBreakdown={}),
    "null maps": power(powerProductionBreakdown=None, powerConsumptionBreakdown=None, powerImportBreakdown=None),
    "null totals": power(powerConsumptionTotal=None, powerProductionTotal=None, fossilFreePercentage=None),
    "a new neighbour": power(powerImportBreakdown={"AUS-NSW": 1, "Αθήνα": 2}),
    "one neighbour on both sides": power(powerImportBreakdown={"BG": 7}, powerExportBreakdown={"BG": 9}),
    "a neighbour not reported": power(powerImportBreakdown={"BG": None, "AL": 0}),
    "an unknown mode that is not reported": power(powerProductionBreakdown={"coal": 1, "fusion": None, "tidal": 0}),
    "negative zero": power(powerProductionBreakdown={"coal": -0.0}, powerImportTotal=-0.0),
    "the carbon row as well": power(carbonIntensity=300),
}
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

DEEP = carbon(x=json.loads("[" * 200 + "]" * 200))
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


# --- quarantined ----------------------------------------------------------------------------------

# Bodies of one record that must not be loaded, though any other record of its body may.
FLAWED: list[tuple[Feed, str, str]] = [
    (CARBON, DEEP, "deep"),
    (POWER, power(powerImportBreakdown={"BG": 1, "xx": 2}).replace("xx", "\\u0042G"), "'BG' stands twice"),
    (CARBON, number("1e400"), "beyond what a double holds"),
    (CARBON, carbon(x=0).replace('"x": 0', '"x": -1e400'), "beyond what a double holds"),
    (CARBON, carbon(carbonIntensity=10**400), "401 digits"),
    (CARBON, carbon(x=10**400), "401 digits"),
    (CARBON, carbon(x=0).replace('"x": 0', '"x": 0.' + "1" * 2000), "2002 digits"),
    (CARBON, number("1E400"), "beyond what a double holds"),
    *((CARBON, number(word), f"{word} is no number") for word in ("NaN", "Infinity", "-Infinity")),
    (CARBON, carbon(x=float("nan")), "NaN is no number"),
    (POWER, power(powerImportBreakdown={"BG": float("nan"), "AL": 1}), "NaN is no number"),
    (CARBON, carbon(datetime=float("nan")), "NaN is no number"),
    # The longest with as few digits in a row as can be.
    (CARBON, carbon(x=0).replace('"x": 0', f'"x": -{"1" * 33}.{"1" * 32}e-{"0" * 32}'), "101 digits"),
    (CARBON, carbon(emissionFactorType="\ud800"), "half a character"),
    (CARBON, carbon(x="\ude00\ud83d"), "half a character"),
    (CARBON, carbon(x=["\udfff"]), "half a character"),
    (CARBON, carbon(**{"\ud800": 1}), "half a character"),
    (CARBON, carbon(**{"k" * 60_000: 1}), "1000 characters"),
    (CARBON, body(None), "row 1 is not an object"),
    (CARBON, body({}), "datetime of row 1 is 'None'"),
    (CARBON, body(AT), "lacks the key 'carbonIntensity', so it is no row of carbon-intensity"),
    (CARBON, body({**AT, "carbonintensity": 300}), "lacks the key 'carbonIntensity'"),
    (POWER, body({**AT, "powerProductionBreakdown": {}}), "lacks the key 'powerConsumptionBreakdown'"),
    (POWER, body({**AT, "powerConsumptionBreakdown": {}}), "lacks the key 'powerProductionBreakdown'"),
    (POWER, body({**AT, "mix": {"coal": 5}, "breakdownType": "normal"}), "no row of power-breakdown"),
    (CARBON, carbon(Datetime="2024-01-01T05:00:00Z"), "the keys 'datetime' and 'Datetime'"),
    (CARBON, carbon(carbonintensity=5), "the keys 'carbonIntensity' and 'carbonintensity'"),
    (POWER, power(powerProductionBreakdown={"coal": 5, "Coal": 0}), "the keys 'coal' and 'Coal'"),
    (POWER, power(powerImportBreakdown={"BG": 5, "bg": 0}), "the keys 'BG' and 'bg'"),
    (CARBON, carbon(updatedAt="now"), "updatedAt of row 2024-01-01T00:00:00.000Z is 'now'"),
    (CARBON, carbon(updatedAt="2024-01-01T00:00Z"), "updatedAt of row"),
    (CARBON, carbon(createdAt=5), "createdAt of row 2024-01-01T00:00:00.000Z is '5'"),
    (CARBON, carbon(createdAt="0001-01-01T00:00:00Z"), "createdAt of row"),
    (CARBON, carbon(carbonIntensity="300"), "carbonIntensity of row 2024-01-01T00:00:00.000Z is not a number"),
    (CARBON, carbon(carbonIntensity=True), "carbonIntensity of row"),
    (CARBON, carbon(carbonIntensity=[300]), "carbonIntensity of row"),
    (CARBON, carbon(carbonIntensity=1.1e9), "beyond 1e+09"),
    (CARBON, carbon(isEstimated="false"), "isEstimated of row 2024-01-01T00:00:00.000Z is not true or false"),
    (CARBON, carbon(isEstimated=0), "isEstimated"),
    (CARBON, carbon(estimationMethod=1), "estimationMethod of row 2024-01-01T00:00:00.000Z is not a string"),
    (CARBON, carbon(emissionFactorType=[]), "emissionFactorType"),
    (POWER, power(powerConsumptionTotal="5"), "powerConsumptionTotal"),
    (POWER, power(fossilFreePercentage={}), "fossilFreePercentage"),
    (POWER, power(powerProductionBreakdown=[1]), "powerProductionBreakdown of row"),
    (POWER, power(powerProductionBreakdown="x"), "powerProductionBreakdown of row"),
    (POWER, power(powerProductionBreakdown={"coal": "1"}), "powerProductionBreakdown.coal of row"),
    (POWER, power(powerProductionBreakdown={"fusion": False}), "powerProductionBreakdown.fusion"),
    (POWER, power(powerProductionBreakdown={"fusion": 5}), "the mode 'fusion', which zones.py does not know"),
    (POWER, power(powerProductionBreakdown={"hydro_discharge": 5}), "'hydro_discharge'"),
    (POWER, power(powerProductionBreakdown={"hydro storage": {"charge": 1}}), "'hydro storage'"),
    (POWER, power(powerImportBreakdown={"BG": False}), "powerImportBreakdown.BG"),
    (POWER, power(powerImportBreakdown={"BG": {"MW": 1}}), "powerImportBreakdown.BG"),
    (POWER, power(powerExportBreakdown={"BG": -2e9}), "powerExportBreakdown.BG"),
    (POWER, power(powerImportBreakdown={"": 1}), "where a zone key belongs"),
    (POWER, power(powerImportBreakdown={"B\0G": 1}), "where a zone key belongs"),
    (POWER, power(powerImportBreakdown={"B" * 51: 1}), "where a zone key belongs"),
    *((CARBON, at(time), f"datetime of row 1 is {time!r}") for time in ("yesterday", "2024-02-30T00:00:00Z")),
    (CARBON, at("2024-01-01T00:30:00Z"), "not a full UTC hour"),
    (CARBON, at("2200-01-01T00:00:00Z"), "outside the years 1901 to 2199"),
    (CARBON, carbon(zone="BG"), "row 2024-01-01T00:00:00.000Z is for zone 'BG', not 'GR'"),
    (CARBON, carbon(temporalGranularity="5_minutes"), "temporalGranularity of row"),
    (CARBON, carbon(flowTraced=False), "flowTraced of row"),
    (CARBON, body([ROW]), "row 1 is not an object"),
    (CARBON, body("x"), "row 1 is not an object"),
    (CARBON, carbon(x=0).replace('"x": 0', f'"x": {"1" * 5000}'), "a number of 5000 digits"),
    (CARBON, carbon(x=0).replace('"x": 0', '"carbonIntensity": 7'), "the key 'carbonIntensity' stands twice"),
    (CARBON, body(POWER_ROW), "lacks the key 'carbonIntensity'"),
    (POWER, body(ROW), "no row of power-breakdown"),
]  # fmt: skip


def among_good_ones(feed: Feed, text: str) -> tuple[str, str]:
    """The one record of a body as it stands there, and a body with it between two good ones."""
    record = text[text.index("[") + 1 : text.rindex("]")]
    good = [json.dumps({**(ROW if feed == CARBON else POWER_ROW), **hour}) for hour in (BEFORE, AFTER)]
    return record, f'{{"zone": "GR", "history": [{good[0]}, {record} , {good[1]}], "temporalGranularity": "hourly"}}'


BEFORE, AFTER = {"datetime": "2023-12-31T23:00:00.000Z"}, {"datetime": "2024-01-01T01:00:00.000Z"}
HOURS_BESIDE = {datetime(2023, 12, 31, 23, tzinfo=UTC), datetime(2024, 1, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("feed", "text", "says"), [pytest.param(*case, id=f"{i}-{case[2][:40]}") for i, case in enumerate(FLAWED)]
)
def test_a_flawed_record_is_quarantined_and_the_body_is_stored(feed: Feed, text: str, says: str) -> None:
    record, whole = among_good_ones(feed, text)
    admitted = admit(response_of(whole, feed))
    assert admitted.body == whole
    (rejected,) = admitted.rejected
    assert says in rejected.reason
    assert len(rejected.reason) < 400
    assert (rejected.position, rejected.record_json) == (1, record)
    # As it says, or as its neighbours leave it.
    assert rejected.hour == datetime(2024, 1, 1, tzinfo=UTC)
    assert admitted.window == Window(min(HOURS_BESIDE), max(HOURS_BESIDE) + timedelta(hours=1))
    parsed = json.loads(admitted.trusted_body)
    assert [row["datetime"] for row in parsed["history"]] == [BEFORE["datetime"], AFTER["datetime"]]
    again = admit(response_of(admitted.trusted_body, feed))
    assert (again.rejected, again.trusted_json) == ((), None)


def test_what_is_left_of_a_body_silver_reads_as_python_does(spark: SparkSession) -> None:
    for feed in FEEDS:
        texts = [among_good_ones(feed, text)[1] for of, text, _ in FLAWED if of == feed]
        trusted = [admit(response_of(text, feed)).trusted_body for text in texts]
        for text, rows in zip(trusted, silver(spark, feed, trusted), strict=True):
            assert rows == python_reading(feed, text), text
            assert rows.keys() == HOURS_BESIDE


def test_numbers_of_trusted_records_keep_their_digits() -> None:
    row = '{"datetime": "2024-01-01T00:00:00Z", "carbonIntensity": 1.10000000000000008882e2}'
    admitted = admit(response_of(f'{{"zone": "GR", "data": [ {row} ,null]}}', CARBON))
    assert admitted.trusted_json == f'{{"zone":"GR","data":[{row}]}}'


@pytest.mark.parametrize(
    "envelope",
    [
        '"x": NaN',
        '"x": [-Infinity]',
        '"x": 1e400',
        '"x": {"a": 1, "a": 2}',
        '"x": 1, "x": 2',
        '"x": 1, "X": 2',
        '"x": "\\ud800"',
        f'"x": {"1" * 5000}',
    ],
)
def test_what_else_an_envelope_holds_costs_no_record(envelope: str) -> None:
    admitted = admit(response_of(body(ROW).replace("{", f"{{{envelope}, ", 1), CARBON))
    assert admitted.rejected == ()
    assert json.loads(admitted.trusted_body) == {"zone": "GR", "history": [ROW]}


def test_a_body_whose_only_record_is_flawed_is_stored_with_its_hour() -> None:
    admitted = admit(response_of(carbon(carbonIntensity=1e10), CARBON))
    assert admitted.trusted_json == '{"zone":"GR","history":[]}'
    start = datetime(2024, 1, 1, tzinfo=UTC)
    assert admitted.window == Window(start, start + timedelta(hours=1))
    assert [record.hour for record in admitted.rejected] == [start]


@pytest.mark.parametrize(
    "rows", [[None], [{"datetime": "x"}], [{**ROW, "datetime": "2150-01-01T00:00:00Z"}], [None, 1]]
)
def test_an_answer_to_a_question_of_a_few_hours_is_stored_though_it_tells_none(rows: list[Any]) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    end = start + len(rows) * timedelta(hours=1)
    reach = Reach(start - timedelta(days=1), end + timedelta(days=1), "outside the range asked for", (start, end))
    admitted = admit(response_of(body(*rows, key="data"), CARBON), reach)
    assert admitted.window == Window(start, end)
    assert [record.hour for record in admitted.rejected] == [start + n * timedelta(hours=1) for n in range(len(rows))]
    with pytest.raises(RejectedBodyError):
        admit(
            response_of(body(*rows, key="data"), CARBON),
            Reach(start, end, "outside", (start, start + timedelta(days=2))),
        )


def test_a_record_beyond_reach_is_quarantined_with_the_hour_that_its_neighbours_leave() -> None:
    rows = [{**ROW, "datetime": f"2024-01-01T0{hour}:00:00Z"} for hour in range(4)]
    rows[2]["datetime"] = "2031-01-01T02:00:00Z"
    start = datetime(2024, 1, 1, tzinfo=UTC)
    reach = Reach(start, start + timedelta(hours=4), "outside the range asked for, that day")
    (rejected,) = admit(response_of(body(*rows), CARBON), reach).rejected
    assert rejected.hour == start + timedelta(hours=2)
    assert rejected.reason == "datetime of row 2 is 2031-01-01T02:00Z, outside the range asked for, that day"


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        ("0?23", "1"),
        ("?123", "0"),
        ("012?", "3"),
        ("3?10", "2"),
        ("0??3", "1 2"),
        ("0?3", "-"),
        ("0?1", "-"),
        ("02?1", "-"),
        ("0?0", "-"),
        ("?", "whole"),
    ],
)
def test_the_hour_of_a_record_that_says_none(hours: str, expected: str) -> None:
    rows = [None if hour == "?" else {**ROW, "datetime": f"2024-01-01T0{hour}:00:00Z"} for hour in hours]
    if expected == "whole":
        with pytest.raises(RejectedBodyError, match="row 0 is not an object"):
            admit(response_of(body(*rows), CARBON))
        return
    rejected = admit(response_of(body(*rows), CARBON)).rejected
    assert " ".join("-" if r.hour is None else str(r.hour.hour) for r in rejected) == expected


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


# --- any body -------------------------------------------------------------------------------------


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


@settings(max_examples=25, deadline=None)
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


@settings(max_examples=300, deadline=None)
@given(st.text() | JSON.map(json.dumps) | odd_texts(CARBON) | odd_texts(POWER), st.sampled_from(FEEDS))
def test_admission_ends_in_whole_hours_or_a_rejection(text: str, feed: Feed) -> None:
    if not is_admitted(text, feed):
        return
    admitted = admit(response_of(text, feed))
    assert (admitted.window.end - admitted.window.start) % timedelta(hours=1) == timedelta(0)
    assert admitted.window.end > admitted.window.start


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


# --- two readings ---------------------------------------------------------------------------------


def is_admitted(text: str, feed: Feed) -> bool:
    try:
        admit(response_of(text, feed))
    except RejectedBodyError:
        return False
    return True


# Columns that say which road an hour came by; test_roads holds them.
_OF_ROADS = ("source_power", "is_superseded_power")


def silver(
    spark: SparkSession, feed: Feed, texts: list[str], ingested_at: datetime = RECEIVED
) -> list[dict[datetime, dict[str, Any]]]:
    """The silver rows of each body by hour, all bodies in one query; each has a zone of its own."""
    bronze = _bronze(spark, [(f"{i}", ingested_at, "hash", text) for i, text in enumerate(texts)])
    nothing = _bronze(spark, [])
    pair = (bronze, nothing) if feed == POWER else (nothing, bronze)
    rows = energy_data(*pair, datetime(1900, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)).toArrow().to_pylist()
    found: list[dict[datetime, dict[str, Any]]] = [{} for _ in texts]
    for row in rows:
        hours = found[int(row["zone"])]
        hour = row["datetime"].astimezone(UTC)
        assert hour not in hours
        hours[hour] = {
            name: dict(value) if name.endswith("_by_zone") and value is not None else value
            for name, value in row.items()
            if name not in ("zone", "datetime", "year_month", *_OF_ROADS)
        }
    return found


def _bronze(spark: SparkSession, rows: list[tuple[str, datetime, str, str]]) -> DataFrame:
    columns = (
        "zone string, ingested_at timestamp, payload_sha256 string, raw_json string, trusted_json string, source string"
    )
    return spark.createDataFrame([(*row, None, "electricitymaps/v3/x/history") for row in rows], columns)


def moment(text: str) -> datetime:
    clock, rest = text[:19], text[19:]
    digits = ""
    if rest.startswith("."):
        digits = rest[1:].split("Z")[0].split("+")[0].split("-")[0]
        rest = rest[1 + len(digits) :]
    offset = timedelta(0)
    if rest != "Z":
        offset = timedelta(hours=int(rest[1:3]), minutes=int(rest[4:6])) * (-1 if rest[0] == "-" else 1)
    local = datetime.strptime(clock, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return local - offset + timedelta(microseconds=int(digits[:6].ljust(6, "0")))


def python_reading(feed: Feed, text: str, ingested_at: datetime = RECEIVED) -> dict[datetime, dict[str, Any]]:
    """Silver's columns of every complete hour of one body, by the standard library alone."""
    parsed = json.loads(text)
    best: dict[datetime, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    for place, row in enumerate(parsed["history"] if "history" in parsed else parsed["data"]):
        hour = moment(row["datetime"])
        updated = moment(row["updatedAt"]) if row.get("updatedAt") else datetime.min.replace(tzinfo=UTC)
        rank = (updated, place)
        if hour + timedelta(hours=1) <= ingested_at and (hour not in best or rank > best[hour][0]):
            best[hour] = (rank, row)
    return {hour: dict(_columns(feed, row, ingested_at)) for hour, (_, row) in best.items()}


def _columns(feed: Feed, row: dict[str, Any], ingested_at: datetime) -> Iterator[tuple[str, Any]]:
    modes = ["nuclear", "geothermal", "biomass", "coal", "wind", "solar", "hydro", "gas", "oil", "unknown"]
    for side in ("consumption", "production"):
        breakdown = (row.get(f"power{side.title()}Breakdown") or {}) if feed == POWER else {}
        for mode in modes:
            yield f"{side}_{mode}", breakdown.get(mode)
        for store in ("hydro", "battery"):
            yield f"{side}_{store}_discharge", breakdown.get(f"{store} discharge")
    mine = row if feed == POWER else {}
    for what in ("consumption", "production", "import", "export"):
        yield f"{what}_total", mine.get(f"power{what.title()}Total")
    for what in ("import", "export"):
        yield f"{what}_by_zone", mine.get(f"power{what.title()}Breakdown")
    yield "fossil_free_percentage", mine.get("fossilFreePercentage")
    yield "renewable_percentage", mine.get("renewablePercentage")
    yield "carbon_intensity", row.get("carbonIntensity") if feed == CARBON else None
    yield "emission_factor_type", row.get("emissionFactorType") if feed == CARBON else None
    for name in FEEDS:
        said = row if name == feed else {}
        yield f"is_estimated_{name.name}", said.get("isEstimated")
        yield f"estimation_method_{name.name}", said.get("estimationMethod")
        for ours, theirs in (("updated_at", "updatedAt"), ("created_at", "createdAt")):
            yield f"{ours}_{name.name}", moment(said[theirs]) if said.get(theirs) else None
        yield f"ingested_at_{name.name}", ingested_at if name == feed else None
