"""A small table of silver, for tests of storage: its rows, a computation of them, and what is stored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.table_contract import Column, Table
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster_tests.support.builders import frame

READINGS = Table(
    layer="silver",
    name="readings",
    meaning="A small table for these tests",
    columns=(
        Column("zone", "string", "Zone key", nullable=False),
        Column("datetime", "timestamp", "Start of the hour, UTC", nullable=False),
        Column("value", "double", "A power", "MW"),
        Column("flows", "map<string,double>", "Powers by neighbour", "MW"),
        Column("year_month", "string", "yyyy-MM of datetime", nullable=False),
    ),
    key=("zone", "datetime"),
    append_only=False,
)
T0 = datetime(2024, 1, 31, 22, tzinfo=timezone.utc)
DAY = Window(T0, T0 + timedelta(hours=24))
Row = tuple[int, float | None] | tuple[int, float | None, dict[str, float | None] | None]
# What decides in them is storage.py and merge.py; how each engine reads and commits for them, other tests show of both.
OF_NO_ENGINE = pytest.mark.embedded_alone(reason="what it shows is the same code for both engines")


def rows_of(spark: SparkSession, *rows: Row, zone: str = "GR") -> DataFrame:
    """Rows from (hours after T0, value[, flows])."""
    full = [
        (zone, T0 + number * HOUR, value, rest[0] if rest else None, f"{T0 + number * HOUR:%Y-%m}")
        for number, value, *rest in rows
    ]
    return frame(spark, READINGS, full)


def answering(rows: DataFrame) -> Callable[[Window], DataFrame]:
    """A computation whose result for a part of the window is the rows in it."""
    return lambda part: rows.where(rows.datetime.between(part.start, part.end - HOUR))


def stored(lakehouse: Lakehouse) -> list[tuple[Any, ...]]:
    rows = DeltaTable(lakehouse.location(READINGS)).to_pyarrow_table().to_pylist()
    return sorted(
        (
            row["zone"],
            (row["datetime"] - T0) // HOUR,
            row["value"],
            None if row["flows"] is None else dict(row["flows"]),
        )
        for row in rows
    )


def files(lakehouse: Lakehouse) -> set[str]:
    return set(DeltaTable(lakehouse.location(READINGS)).file_uris())
