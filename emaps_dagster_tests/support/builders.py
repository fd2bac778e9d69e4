"""Small bronze and silver tables for tests, from the few values a test is about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.lakehouse.arrow_schema import arrow_schema


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=timezone.utc)


def iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def record(hour: datetime, **fields: Any) -> dict[str, Any]:
    """One record of a body: the API's field names."""
    return {"datetime": iso(hour), **fields}


def body(*records: Mapping[str, Any], zone: str = "GR", key: str = "history") -> str:
    return json.dumps({"zone": zone, key: list(records)})


def frame(spark: SparkSession, table: Table, rows: Iterable[tuple[Any, ...]]) -> DataFrame:
    """Rows in the table's columns. By way of Arrow: to take in a list, the JVM starts a Python process."""
    named = (dict(zip(table.column_names, row, strict=True)) for row in rows)
    items = [{k: list(v.items()) if isinstance(v, dict) else v for k, v in row.items()} for row in named]
    fields = [field.with_nullable(True) for field in arrow_schema(table)]
    arrow = pa.Table.from_pylist(items, schema=pa.schema(fields))
    # Spark Connect asks for a schema where there is no row.
    return spark.createDataFrame(arrow) if items else spark.createDataFrame([], table.schema)


def bronze(spark: SparkSession, *responses: tuple[str, datetime], zone: str = "GR") -> DataFrame:
    """Rows of bronze from (body, ingested_at); both bronze tables have the same columns."""
    rows = []
    for text, ingested_at in responses:
        hours = [
            datetime.fromisoformat(row["datetime"].replace("Z", "+00:00"))
            for row in (json.loads(text).get("history") or json.loads(text).get("data"))
        ]
        start, end = min(hours), max(hours) + HOUR
        sha = hashlib.sha256(text.encode()).hexdigest()
        source = f"electricitymaps/v3/test/{'history' if 'history' in json.loads(text) else 'past-range'}"
        rows.append((source, zone, text, ingested_at, start, end, "/v3", sha, None, f"{start:%Y-%m}"))
    assert POWER_DATA.schema == CARBON_DATA.schema
    return frame(spark, POWER_DATA, rows)


def silver(spark: SparkSession, rows: Iterable[Mapping[str, Any]], zone: str = "GR") -> DataFrame:
    """Rows of silver; every column that a row does not name is null."""
    named = ({"zone": zone, "year_month": f"{row['datetime']:%Y-%m}", **row} for row in rows)
    full = [tuple(row.get(name) for name in ENERGY_DATA.column_names) for row in named]
    return frame(spark, ENERGY_DATA, full)


def as_rows(frame: DataFrame, *columns: str) -> list[dict[str, Any]]:
    """The rows as dictionaries, sorted by zone and hour, times aware, maps as dictionaries."""
    arrow = (frame.select(*columns) if columns else frame).toArrow()
    maps = {field.name for field in arrow.schema if str(field.type).startswith("map")}
    rows = []
    for row in arrow.to_pylist():
        for name, value in row.items():
            if isinstance(value, datetime):
                row[name] = value.astimezone(timezone.utc)
            elif name in maps and value is not None:
                row[name] = dict(value)
        rows.append(row)
    return sorted(rows, key=lambda row: [row[name] for name in ("zone", "datetime") if name in row])
