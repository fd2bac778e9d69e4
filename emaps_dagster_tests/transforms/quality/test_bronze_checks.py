"""A body in bronze is what its row says, and no sandbox's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from emaps_dagster.contracts.tables import POWER_DATA
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.quality import bronze, quarantine
from emaps_dagster.transforms.quality.outcome import Finding, Outcome
from emaps_dagster_tests.support.builders import body, record
from emaps_dagster_tests.support.check_inputs import H0, H1, H2, LATE, response, table_of


def judge_bronze(check: Any, *rows: dict[str, Any]) -> Outcome:
    outcome: Outcome = check(bronze.BronzeEvidence(table_of(POWER_DATA, list(rows))))
    return outcome


GOOD = body(record(H0, zone="GR", powerProductionTotal=1))


@pytest.mark.parametrize("raw", [GOOD, body(record(H0), key="data")])
def test_a_good_body_parses(raw: str) -> None:
    assert judge_bronze(bronze.raw_json_parses, response(raw)) == Outcome(1, ())


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (response(GOOD[:-2]), "not strict JSON"),
        (response("<html>"), "not strict JSON"),
        (response(""), "not strict JSON"),
        (response(None), "not strict JSON"),
        (response("[]"), "not strict JSON"),
        (response('{"zone": "GR"}'), "not strict JSON"),
        (response("[" * 100_000), "not strict JSON"),
        (response(GOOD.replace(": 1", ": NaN")), "not strict JSON"),
        (response(body(record(H0), zone="FR")), "is for FR, stored under GR"),
        (response(body(record(H0, zone="FR"))), "is for FR, GR, stored under GR"),
        (response(body(record(H0), {"zone": "GR"})), "1 of 2 records have no hour"),
        (response(body()), "0 of 0 records have no hour"),
        (response(body(record(H1))), "holds [2024-03-31T11:00Z, 2024-03-31T12:00Z), another window"),
        (response(GOOD, payload_sha256="0" * 64), "SHA-256 is not the stored one"),
        (response(GOOD, payload_sha256=None), "SHA-256 is not the stored one"),
    ],
)
def test_a_body_that_is_not_what_its_row_says_is_found(row: dict[str, Any], says: str) -> None:
    outcome = judge_bronze(bronze.raw_json_parses, response(GOOD), row)
    assert any(says in finding.what for finding in outcome.findings)
    assert {(f.zone, f.hour, f.until) for f in outcome.findings} == {("GR", H0, H1)}


TWO = body(record(H0, zone="GR", powerProductionTotal=1), record(H1, powerProductionTotal=10**300)).replace(
    "0" * 300, "0" * 5000
)


@pytest.mark.parametrize(
    ("trusted", "says"),
    [
        (GOOD, None),
        (body(), None),
        (body(record(H0, zone="GR", powerProductionTotal=2)), "trusted_json has a record that the body has not"),
        (body(record(H0, zone="GR", powerProductionTotal=1), zone="FR"), "is for FR, GR, stored under GR"),
        ("{", "not strict JSON"),
    ],
)
def test_of_a_body_with_quarantined_records_what_is_left_is_judged(trusted: str, says: str | None) -> None:
    outcome = judge_bronze(bronze.raw_json_parses, response(TWO, trusted_json=trusted))
    assert [says in finding.what if says else finding for finding in outcome.findings] == ([True] if says else [])


NOT_A_NUMBER = TWO.replace("1" + "0" * 5000, "NaN")


def test_of_a_body_with_nan_in_a_quarantined_record_what_is_left_is_judged() -> None:
    assert "NaN" in NOT_A_NUMBER
    left = response(NOT_A_NUMBER, trusted_json=GOOD)
    assert judge_bronze(bronze.raw_json_parses, left).findings == ()
    for trusted in (None, NOT_A_NUMBER):
        (found,) = judge_bronze(bronze.raw_json_parses, response(NOT_A_NUMBER, trusted_json=trusted)).findings
        assert "not strict JSON" in found.what
    marked = NOT_A_NUMBER.replace('"zone"', '"_disclaimer": "SANDBOX MODE", "zone"', 1)
    (found,) = judge_bronze(bronze.no_sandbox_data, response(marked, trusted_json=GOOD)).findings
    assert "sandbox marker in _disclaimer" in found.what


def rejected(hour: datetime | None, ingested_at: datetime = LATE, raw: str = TWO, **columns: Any) -> dict[str, Any]:
    row = response(raw, ingested_at)
    told = {"zone": "GR", "datetime": hour, "position": 1, "reason": "gas of it is beyond 1e+09", **columns}
    return {**told, "ingested_at": ingested_at, "payload_sha256": row["payload_sha256"]}


LEFT = body(record(H0, zone="GR", powerProductionTotal=1))
BAD = response(TWO, trusted_json=LEFT, window_end=H1 + HOUR)
MENDED = body(record(H0), record(H1, powerProductionTotal=5))


def test_an_hour_whose_newest_record_is_quarantined_is_found_with_its_reason() -> None:
    outcome = quarantine.every_record_is_trusted(
        bronze.BronzeEvidence(table_of(POWER_DATA, [BAD]), (rejected(H1),), (BAD,))
    )
    what = "the record of GR 2024-03-31T11:00Z is quarantined: gas of it is beyond 1e+09"
    assert outcome == Outcome(1, (Finding("GR", H1, what),), (H1,))


def test_a_trusted_record_that_came_later_mends_the_hour_and_one_that_came_before_does_not() -> None:
    good = response(MENDED, LATE - HOUR, window_end=H1 + HOUR)
    assert quarantine.charged([rejected(H1)], [good, BAD]) == [rejected(H1)]
    for at in (LATE, LATE + HOUR):
        assert quarantine.charged([rejected(H1)], [BAD, {**good, "ingested_at": at}]) == []
    again = rejected(H1, LATE + 2 * HOUR)
    assert quarantine.charged([rejected(H1), again], [BAD, {**good, "ingested_at": LATE + HOUR}]) == [again]
    # Of another zone, and without that hour.
    assert quarantine.charged([rejected(H1)], [{**good, "zone": "FR", "ingested_at": LATE}]) == [rejected(H1)]
    assert quarantine.charged([rejected(H2)], [{**good, "ingested_at": LATE}]) == [rejected(H2)]
    # A later body whose record of the hour is bad again tells nothing.
    assert quarantine.charged([rejected(H1)], [{**BAD, "ingested_at": LATE + HOUR}]) == [rejected(H1)]


def test_a_record_of_the_running_hour_is_not_waited_for() -> None:
    assert quarantine.charged([rejected(H1, H1 + HOUR / 2)], []) == []


def test_a_record_without_an_hour_is_charged_to_the_hours_of_the_newest_body_alone() -> None:
    evidence = bronze.BronzeEvidence(table_of(POWER_DATA, [BAD]), (rejected(None),), ())
    (finding,) = quarantine.every_record_is_trusted(evidence).findings
    assert (finding.hour, finding.until) == (H0, H1 + HOUR)
    assert finding.what == "record 1 of a body is quarantined: gas of it is beyond 1e+09"
    newer = response(MENDED, LATE + HOUR, window_end=H1 + HOUR)
    evidence = bronze.BronzeEvidence(table_of(POWER_DATA, [BAD, newer]), (rejected(None),), ())
    assert quarantine.every_record_is_trusted(evidence).findings == ()


@pytest.mark.parametrize(
    "raw",
    [
        body(record(H0, estimationMethod="SANDBOX_MODE_DATA")),
        GOOD.replace('{"zone"', '{"_disclaimer": "This is Sandbox data", "zone"', 1),
    ],
)
def test_the_sandbox_marker_is_found_in_the_body_and_in_its_records(raw: str) -> None:
    outcome = judge_bronze(bronze.no_sandbox_data, response(GOOD), response(raw), response(None))
    assert [finding.hour for finding in outcome.findings] == [H0]
    assert outcome.checked == 3
