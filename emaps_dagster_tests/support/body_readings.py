"""One body by two readings: silver's rows of it, and what the standard library alone reads in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER, Feed
from emaps_dagster.transforms.silver import energy_data
from emaps_dagster_tests.support.bodies import RECEIVED, UTC

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
