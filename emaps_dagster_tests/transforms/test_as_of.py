"""Rows as known, from bronze bodies: what each row saw, however a body is written, on both engines."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from emaps_dagster.contracts.table_contract import Column
from emaps_dagster.contracts.tables import ml_features
from emaps_dagster.transforms import gold, wanted
from emaps_dagster.transforms.as_of import features_as_of, features_known_at

pytestmark = pytest.mark.both_engines
HOUR = timedelta(hours=1)
NOON = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
COLUMNS = (
    *("production_total", "lag_production_total_1h", "rolling_avg_production_total_24h", "import_BG"),
    *("rolling_count_production_total_24h", "hours_observed_24h", "hours_estimated_24h", "carbon_intensity"),
)
SCHEMA = "zone string, ingested_at timestamp, payload_sha256 string, raw_json string, trusted_json string"


def record(hour: datetime, total: float, *, estimated: bool = False, method: str = "") -> dict[str, Any]:
    return {
        "zone": "GR",
        "datetime": f"{hour:%Y-%m-%dT%H:%M:%S}.000Z",
        "updatedAt": "2024-05-02T00:00:00.000Z",
        "powerProductionTotal": total,
        "powerImportBreakdown": {"BG": total / 2},
        "isEstimated": estimated,
        "estimationMethod": method,
        "carbonIntensity": total,
    }


def body(*records: dict[str, Any], compact: bool = True) -> str:
    return json.dumps({"zone": "GR", "history": records}, separators=(",", ":") if compact else None)


def bronze(spark: SparkSession, *bodies: tuple[datetime, str]) -> DataFrame:
    return spark.createDataFrame([("GR", at, f"{n}", text, None) for n, (at, text) in enumerate(bodies)], SCHEMA)


def rows(known: DataFrame) -> list[tuple[Any, ...]]:
    found = known.select("datetime", *COLUMNS).orderBy("datetime").toArrow().to_pylist()
    return [(row.pop("datetime").hour, *row.values()) for row in found]


def test_each_row_sees_the_records_of_its_time_however_their_bodies_are_written(spark: SparkSession) -> None:
    first, second = record(NOON, 100.0, estimated=True), record(NOON + HOUR, 200.0, method="odd },{ [text]")
    revised = record(NOON, 110.0)
    power = bronze(
        spark,
        (NOON + HOUR, body(first)),
        # The same record again, in a compact body, with a string that holds what stands between records.
        (NOON + 2 * HOUR, body(first, second)),
        # Then another one, in a body with blanks; and the first value again, which must win from then on.
        (NOON + 3 * HOUR, body(revised, second, compact=False)),
        (NOON + 4 * HOUR, body(first, second)),
        (NOON + 5 * HOUR, body(first, second, record(NOON + 4 * HOUR, 400.0))),
    )
    carbon = bronze(spark, (NOON + 2 * HOUR, body(record(NOON + HOUR, 50.0), compact=False)))
    known = features_known_at(power, carbon, ("GR",), NOON, NOON + 5 * HOUR, timedelta(0), COLUMNS)
    assert rows(known) == [
        (12, 100.0, None, 100.0, 50.0, 1, 1, 1, None),
        (13, 200.0, 100.0, 150.0, 100.0, 2, 2, 1, 50.0),
        (16, 400.0, None, 700.0 / 3, 200.0, 3, 3, 1, None),
    ]
    then = features_as_of(power, carbon, ("GR",), NOON, NOON + 5 * HOUR, NOON + 3 * HOUR, COLUMNS)
    assert rows(then) == [
        (12, 110.0, None, 110.0, 55.0, 1, 1, 0, None),
        (13, 200.0, 110.0, 155.0, 100.0, 2, 2, 0, 50.0),
    ]


@pytest.mark.jvm_long("another reading as of a moment runs there")
def test_of_two_records_of_an_hour_in_one_body_the_last_is_seen(spark: SparkSession) -> None:
    empty = bronze(spark, (NOON, body()))
    for compact in (True, False):
        twice = bronze(spark, (NOON + HOUR, body(record(NOON, 1.0), record(NOON, 2.0), compact=compact)))
        known = features_known_at(twice, empty, ("GR",), NOON, NOON + HOUR, timedelta(0), COLUMNS)
        assert rows(known) == [(12, 2.0, None, 2.0, 1.0, 1, 1, 0, None)]


@pytest.mark.jvm_long("another reading as of a moment runs there")
def test_a_column_that_is_computed_from_its_row_alone_is_computed_with_its_inputs(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, plain = ml_features(("GR",)), gold._row_features
    inputs = ("import_BG", "lag_production_total_1h", "rolling_avg_carbon_intensity_24h", "hours_observed_24h")
    added = Column("a_ratio", "double", "A ratio of other columns of its row", inputs=inputs)
    monkeypatch.setattr(wanted, "ml_features", lambda _: replace(table, columns=(*table.columns, added)))
    ratio = {"a_ratio": (F.col(inputs[0]) + F.col(inputs[1])) / (F.col(inputs[2]) * F.col(inputs[3]))}
    monkeypatch.setattr(gold, "_row_features", lambda start, end: {**plain(start, end), **ratio})
    feed = bronze(spark, (NOON + 2 * HOUR, body(record(NOON, 100.0), record(NOON + HOUR, 60.0))))
    of = (feed, feed, ("GR",), NOON + HOUR, NOON + 2 * HOUR)
    for known in (
        features_as_of(*of, NOON + 2 * HOUR, ["a_ratio"]),
        features_known_at(*of, timedelta(0), ["a_ratio"]),
    ):
        # 60 / 2 is imported, 100 was produced the hour before; the mean of 100 and 60 is 80, of two hours.
        assert [row["a_ratio"] for row in known.toArrow().to_pylist()] == [(30.0 + 100.0) / (80.0 * 2)]
        assert "rolling_avg_production_total_24h" not in known.columns
