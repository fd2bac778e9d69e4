"""One definition of a time and of the sandbox marks: what the door, the checks and the sensors say is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest

from emaps_dagster.contracts.body_fields import sandbox_mark_of_body, time_of
from emaps_dagster.contracts.errors import RejectedBodyError
from emaps_dagster.contracts.responses import RawResponse
from emaps_dagster.contracts.tables import CARBON_DATA
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster.monitoring.stored_hours import records
from emaps_dagster.pipeline.ingest import rows_of
from emaps_dagster.transforms.quality.bronze import BronzeEvidence, no_sandbox_data, raw_json_parses
from emaps_dagster_tests.support.builders import iso, utc
from emaps_dagster_tests.support.check_inputs import H0, response, table_of

ROW: dict[str, Any] = {"zone": "GR", "datetime": iso(H0), "carbonIntensity": 300}


def body(*rows: dict[str, Any], key: str = "history", **envelope: Any) -> str:
    return json.dumps({"zone": "GR", **envelope, key: list(rows)})


def received(text: str) -> RawResponse:
    return RawResponse(CARBON, "GR", "history", "/v3/x", text, utc(2024, 3, 31, 20))


def why_refused(text: str) -> str | None:
    try:
        admit(received(text))
    except RejectedBodyError as error:
        return error.reason
    return None


UNMARKED = {
    "a link": body(ROW, documentation="https://sandbox.example.org/v3"),
    "a link in a record": body({**ROW, "source": "https://SANDBOX.example.org"}),
    "a key": body({**ROW, "sandbox": False}, isSandbox=False),
    "a zone beside": body({**ROW, "powerImportBreakdown": {"sandbox": 1}}),
    "a nested mark": body({**ROW, "more": {"_disclaimer": "sandbox", "estimationMethod": "SANDBOX_MODE_DATA"}}),
    "another disclaimer": body(ROW, _disclaimer="This data is the property of somebody"),
    "another method": body({**ROW, "estimationMethod": "TIME_SLICER_AVERAGE"}),
}
MARKED = {
    "_disclaimer": body(ROW, _disclaimer="SANDBOX MODE: this data is not real"),
    "_disclaimer, written otherwise": body(ROW, _disclaimer="For your sandbox: not for use"),
    "_disclaimer of a record": body({**ROW, "_disclaimer": "Sandbox"}),
    "estimationMethod": body(ROW, estimationMethod="SANDBOX_MODE_DATA"),
    "estimationMethod of a record": body(ROW, {**ROW, "estimationMethod": "sandbox_mode_data"}, key="data"),
    "a list of methods": body({**ROW, "estimationMethod": ["SANDBOX_MODE_DATA"]}),
}


@pytest.mark.parametrize("text", UNMARKED.values(), ids=UNMARKED)
def test_the_word_in_any_other_field_is_let_in_and_passes_the_check(text: str) -> None:
    assert why_refused(text) is None
    stored = BronzeEvidence(table_of(CARBON_DATA, [response(text)]))
    assert no_sandbox_data(stored).findings == raw_json_parses(stored).findings == ()


@pytest.mark.parametrize("text", MARKED.values(), ids=MARKED)
def test_a_mark_is_refused_at_the_door_and_found_in_bronze(text: str) -> None:
    assert "is marked as the provider's sandbox data" in str(why_refused(text))
    (finding,) = no_sandbox_data(BronzeEvidence(table_of(CARBON_DATA, [response(text)]))).findings
    assert (finding.zone, finding.hour) == ("GR", H0)


def test_the_place_of_a_mark_is_named() -> None:
    assert sandbox_mark_of_body(json.loads(MARKED["_disclaimer"])) == "_disclaimer"
    assert sandbox_mark_of_body(json.loads(MARKED["estimationMethod of a record"])) == "estimationMethod of record 1"
    # What an altered body may be.
    assert [sandbox_mark_of_body(part) for part in (None, [], "sandbox", {"history": None, "data": [1, None]})] == [
        None
    ] * 4


NO_TIMES = (
    "2024-01-01T01:02Z", "2024-01-01T01:02:03", "2024-01-01 01:02:03Z", "20240101T010203Z", "2024-W01-1T01:02:03Z",
    "2024-02-30T01:02:03Z", "2024-01-01T24:00:00Z", "2024-01-01T01:02:60Z", "0001-01-01T00:00:00+14:00", "", None,
    "9999-12-31T23:00:00Z", "2024-01-01T01:02:03.1234567890Z", "2024-01-01T01:02:03+02", 5,
)  # fmt: skip
MICRO = datetime(2024, 1, 1, 1, 2, 3, 120_000, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-01T01:02:03.12Z", MICRO),
        ("2024-01-01T01:02:03.120000999Z", MICRO),
        ("2024-01-01T06:47:03.12+05:45", MICRO),
        ("2023-12-31T11:02:03.1200-14:00", MICRO),
        ("2024-01-01T01:02:03Z", MICRO.replace(microsecond=0)),
        ("1901-01-01T00:00:00Z", utc(1901, 1, 1)),
        *((wrong, None) for wrong in NO_TIMES),
    ],
)
def test_a_time_is_what_every_engine_reads_or_none(text: object, moment: datetime | None) -> None:
    assert time_of(text) == moment


@pytest.mark.parametrize("written", ["10:00:00.0Z", "10:00:00.00Z", "15:45:00.0000+05:45"])
def test_an_hour_written_in_any_way_that_is_let_in_is_read_by_the_check_and_the_sensors(written: str) -> None:
    text = body({**ROW, "datetime": f"2024-03-31T{written}", "updatedAt": "2024-03-31T11:00:00.5Z"})
    assert why_refused(text) is None
    assert raw_json_parses(BronzeEvidence(table_of(CARBON_DATA, [response(text)]))).findings == ()
    updated = datetime(2024, 3, 31, 11, 0, 0, 500_000, tzinfo=timezone.utc)
    assert list(records(text)) == [(H0, updated)]


def test_an_altered_body_is_a_finding_and_no_crash() -> None:
    for zone in (["GR"], {"GR": 1}, None, 5):
        text = json.dumps({"zone": zone, "history": [{**ROW, "zone": zone}]})
        outcome = raw_json_parses(BronzeEvidence(table_of(CARBON_DATA, [response(text)])))
        assert "stored under GR" in outcome.findings[0].what


def under(frames: int, call: Callable[[], Any]) -> Any:
    """What a call gives that is made from so deep a stack; Dagster's has 200 frames."""
    return under(frames - 1, call) if frames else call()


@pytest.mark.parametrize(("depth", "door"), [(40, 0), (700, 300), (900, 0), (5000, 0)])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a}":', "}")])
def test_a_deeply_nested_record_is_one_record_however_deep_the_stack_of_the_reader(
    depth: int, door: int, opening: str, closing: str
) -> None:
    deep = f'{{"datetime": "{iso(H0 + HOUR)}", "x": {opening * depth}1{closing * depth}}}'
    text = f'{{"zone": "GR", "history": [{json.dumps(ROW)}, {deep}]}}'
    admitted = under(door, lambda: admit(received(text)))
    (rejected,) = admitted.rejected
    assert rejected.reason == "it is nested too deeply to be one of the API's"
    assert (rejected.hour, rejected.record_json) == (H0 + HOUR, deep)
    (row,) = rows_of(CARBON_DATA, [admitted]).to_pylist()
    evidence = BronzeEvidence(table_of(CARBON_DATA, [row]))
    for check in (raw_json_parses, no_sandbox_data):
        assert under(300 - door, partial(check, evidence)).findings == ()
