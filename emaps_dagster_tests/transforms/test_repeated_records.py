"""The last ingestion of equal texts, and which bodies may be split into texts of records, on both engines."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from emaps_dagster.transforms.repeated_records import is_splittable, last_ingestion

pytestmark = pytest.mark.both_engines
NOON = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
SHORTLY_AFTER = NOON + timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("ingestions", "last"),
    [
        ([(NOON, "f", 7), (SHORTLY_AFTER, "0", 3)], (SHORTLY_AFTER, "0", 3)),
        ([(NOON, "ab", 1), (NOON, "a", 2)], (NOON, "ab", 1)),
        ([(NOON, "a", 10), (NOON, "a", 9)], (NOON, "a", 10)),
        ([(NOON, "a", 0)], (NOON, "a", 0)),
    ],
    ids=["a microsecond later", "a higher hash at the same time", "a higher place in one response", "one only"],
)
def test_of_equal_texts_the_last_ingestion_is_found(
    spark: SparkSession, ingestions: list[tuple[datetime, str, int]], last: tuple[datetime, str, int]
) -> None:
    schema = "ingested_at timestamp, payload_sha256 string, place int"
    for rows in (ingestions, ingestions[::-1]):
        found = spark.createDataFrame(rows, schema).agg(last_ingestion().alias("last")).select("last.*")
        assert found.toArrow().to_pylist() == [dict(zip(("ingested_at", "payload_sha256", "place"), last, strict=True))]


def _body(*records: str, closing: str = "]}") -> str:
    return '{"zone":"GR","history":[' + ",".join(records) + closing


_RECORD = '{"zone":"GR","carbonIntensity":301}'
BODIES = {
    "one record": (_body(_RECORD), True),
    "two records": (_body(_RECORD, _RECORD), True),
    "a range": (_body(_RECORD).replace("history", "data"), True),
    "the granularity": (_body(_RECORD, closing='],"temporalGranularity":"hourly"}'), True),
    "letters beyond ASCII": (
        _body('{"zone":"GR","estimationMethod":"\u03bc\u03ad\u03b8\u03bf\u03b4\u03bf\u03c2"}'),
        True,
    ),
    "no record": (_body(), False),
    "another key": (_body(_RECORD).replace("history", "forecast"), False),
    "an array in a record": (_body('{"zone":"GR","powerProductionBreakdown":[]}'), False),
    "an opening bracket in a string": (_body('{"zone":"GR","estimationMethod":"[x"}'), False),
    "a closing bracket in a string": (_body('{"zone":"GR","estimationMethod":"x]"}'), False),
    "brackets the wrong way round": (_body('{"zone":"GR","estimationMethod":"x][y"}'), False),
    "a blank before the bracket": (_body(_RECORD, closing=" ]}"), False),
    "another key behind": (_body(_RECORD, closing='],"note":"x"}'), False),
    "a blank at the end": (_body(_RECORD) + " ", False),
    "a blank at the beginning": (" " + _body(_RECORD), False),
    "a record that begins with another key": (_body('{"carbonIntensity":301,"zone":"GR"}'), False),
    "an object alone": (_RECORD, False),
    "an empty text": ("", False),
}


@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES)
def test_only_a_body_in_the_form_of_the_api_is_split(spark: SparkSession, body: str, expected: bool) -> None:
    found = spark.createDataFrame([(body,)], "body string").select(is_splittable(F.col("body")).alias("found"))
    assert found.toArrow()["found"].to_pylist() == [expected]
