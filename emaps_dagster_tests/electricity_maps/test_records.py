"""Which records of a stored body are quarantined, with the hour they are about, and what is left for silver to read."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

from emaps_dagster.contracts.errors import RejectedBodyError
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER, Feed
from emaps_dagster.electricity_maps.admission import Reach
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster_tests.support.bodies import (
    AT,
    DEEP,
    POWER_ROW,
    ROW,
    UTC,
    at,
    body,
    carbon,
    number,
    power,
    response_of,
)
from emaps_dagster_tests.support.body_readings import python_reading, silver

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
    # A Cyrillic letter, which looks like the Latin one.
    (POWER, power(powerProductionBreakdown={"g\u0430s": 5}), r"the mode 'g\u0430s', which zones.py does not know"),
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
def test_an_answer_to_a_question_of_a_few_hours_is_stored_though_it_reports_none(rows: list[Any]) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    end = start + len(rows) * timedelta(hours=1)
    reach = Reach(start - timedelta(days=1), end + timedelta(days=1), "outside the requested range", (start, end))
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
    reach = Reach(start, start + timedelta(hours=4), "outside the requested range, that day")
    (rejected,) = admit(response_of(body(*rows), CARBON), reach).rejected
    assert rejected.hour == start + timedelta(hours=2)
    assert rejected.reason == "datetime of row 2 is 2031-01-01T02:00Z, outside the requested range, that day"


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
