"""A body in bronze is what its row says, and no sandbox's."""

from __future__ import annotations

from typing import Any

import pytest

from emaps_dagster.tables import POWER_DATA
from emaps_dagster.transforms.quality import bronze
from emaps_dagster.transforms.quality.outcome import Outcome
from emaps_dagster_tests.evidence import H0, H1, response, table_of
from emaps_dagster_tests.making import body, record


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
    assert outcome.judged == 3
