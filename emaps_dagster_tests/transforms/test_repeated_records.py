"""The last ingestion of equal texts, by time, hash and place, on both engines."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from pyspark.sql import SparkSession

from emaps_dagster.transforms.repeated_records import last_ingestion

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
