"""What must be true of the tables, judged by another road than the one that made them.

DataFrames in, frozen outcomes out: the judging is plain Python and pandas on the rows of a run.
How an outcome is reported, and whether it blocks, is decided in assets/checks.py.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from emaps_dagster.tables import Table, key_columns, lag_column, rolling_column
from emaps_dagster.windows import HOUR
from emaps_dagster.zones import neighbours_of, zone_column

# Fixed-point sums round each value to a millionth; beyond that a mean is wrong.
_MEAN_TOLERANCE = 2e-6


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be; `hour` is None when it concerns the whole table."""

    zone: str
    hour: datetime | None
    what: str


@dataclass(frozen=True)
class Outcome:
    """What a check saw: how many rows it judged and everything it found."""

    judged: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        return not self.findings

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.judged + other.judged, self.findings + other.findings)


def hourly_summary(rows: DataFrame) -> dict[datetime, dict[str, Any]]:
    """Rows and estimated rows of each hour, and the mean carbon intensity over zones (gCO2eq/kWh)."""
    estimated = F.coalesce("is_estimated_power", F.lit(False)) | F.coalesce("is_estimated_carbon", F.lit(False))
    grouped = rows.groupBy("datetime").agg(
        F.count(F.when(estimated, True)).alias("estimated"),
        F.avg("carbon_intensity").alias("carbon_intensity_mean"),
    )
    return {
        row["datetime"].astimezone(timezone.utc): {
            "estimated": row["estimated"],
            **(
                {"carbon_intensity_mean": round(row["carbon_intensity_mean"], 3)}
                if row["carbon_intensity_mean"] is not None
                else {}
            ),
        }
        for row in grouped.toArrow().to_pylist()
    }


def primary_key_is_unique(rows: DataFrame, table: Table) -> Outcome:
    """No two rows of silver or gold share zone and datetime."""
    keys = rows.select(*table.key).toArrow().to_pylist()
    seen: dict[tuple[str, datetime], int] = defaultdict(int)
    for key in keys:
        seen[key["zone"], key["datetime"].astimezone(timezone.utc)] += 1
    findings = tuple(
        Finding(zone, hour, f"{count} rows with this key") for (zone, hour), count in sorted(seen.items()) if count > 1
    )
    return Outcome(len(keys), findings)


def schema_matches_the_contract(differences: Iterable[str]) -> Outcome:
    """The stored columns and types are those of the contract."""
    return Outcome(1, tuple(Finding("", None, difference) for difference in differences))


def latest_ingestion_wins(
    silver: DataFrame, power: DataFrame, carbon: DataFrame, start: datetime, end: datetime
) -> Outcome:
    """Each hour of silver carries the record that was ingested last, since when it is known.

    The bodies are read by Python's JSON and walked record by record, with no window function.
    """
    rows = {(row["zone"], _utc(row["datetime"])): row for row in silver.toArrow().to_pylist()}
    findings = []
    for feed, bronze in (("power", power), ("carbon", carbon)):
        for (zone, hour), expected in sorted(_latest_by_python(bronze, start, end).items()):
            row = rows.get((zone, hour))
            if row is None:
                findings.append(Finding(zone, hour, f"bronze holds its {feed} record, silver has no row"))
                continue
            for name, value in expected.items():
                column = f"{name}_{feed}" if name not in row else name
                if _plain(row[column]) != value:
                    findings.append(
                        Finding(zone, hour, f"{column} is {_plain(row[column])}, the latest ingestion says {value}")
                    )
    return Outcome(len(rows), tuple(findings))


def _latest_by_python(bronze: DataFrame, start: datetime, end: datetime) -> dict[tuple[str, datetime], dict[str, Any]]:
    """What the latest ingestion says of each (zone, hour), from raw JSON."""
    told: dict[tuple[str, datetime], list[tuple[Any, ...]]] = defaultdict(list)
    for response in bronze.select("zone", "ingested_at", "payload_sha256", "raw_json").toArrow().to_pylist():
        ingested_at = _utc(response["ingested_at"])
        body = json.loads(response["raw_json"])
        for place, record in enumerate(body.get("history") or body.get("data") or []):
            hour = _iso(record["datetime"])
            if hour is not None and start <= hour < end and hour + HOUR <= ingested_at:
                updated = _iso(record.get("updatedAt"))
                # A missing time sorts first, as null does in Spark.
                order = (
                    ingested_at,
                    updated or datetime.min.replace(tzinfo=timezone.utc),
                    response["payload_sha256"],
                    place,
                )
                told[response["zone"], hour].append((order, record))
    result = {}
    for key, versions in told.items():
        versions.sort(key=lambda version: version[0])
        (since, *_), latest = versions[-1]
        for (earlier, *_), record in reversed(versions[:-1]):
            if _facts(record) != _facts(latest):
                break
            since = earlier
        result[key] = _expected(latest, since)
    return result


def _facts(record: dict[str, Any]) -> dict[str, Any]:
    # An absent key and null say the same at the top of a record; zone and unknown keys say nothing.
    return {
        name: value
        for name, value in record.items()
        if value is not None and (name.startswith(("power", "carbon", "emission", "estim")) or name in _PLAIN)
    }


_PLAIN = ("isEstimated", "updatedAt", "createdAt", "fossilFreePercentage", "renewablePercentage")


def _expected(record: dict[str, Any], since: datetime) -> dict[str, Any]:
    expected: dict[str, Any] = {
        "ingested_at": since,
        "updated_at": _iso(record.get("updatedAt")),
        "is_estimated": record.get("isEstimated"),
        "estimation_method": record.get("estimationMethod"),
    }
    if "carbonIntensity" in record:
        return {**expected, "carbon_intensity": _plain(record["carbonIntensity"])}
    totals = {
        f"{what}_total": _plain(record.get(f"power{what.title()}Total"))
        for what in ("production", "consumption", "import", "export")
    }
    return {**expected, **totals} if "powerProductionTotal" in record else expected


def lag_1h_is_the_previous_hour(gold: DataFrame, silver: DataFrame, zone_keys: tuple[str, ...]) -> Outcome:
    """Every lag is silver's value one hour earlier, null when that hour is missing. By time, in pandas."""
    names = [column.name for column in key_columns(zone_keys)]
    return _judge_gold(
        gold,
        silver,
        zone_keys,
        [lag_column(name) for name in names],
        lambda frame: frame.shift(freq="1h"),
        tolerance=0.0,
    )


def rolling_avg_24h_is_the_mean_of_the_window(
    gold: DataFrame, silver: DataFrame, zone_keys: tuple[str, ...]
) -> Outcome:
    """Every mean is the mean of silver's values in (datetime - 24 h, datetime]. By time, in pandas."""
    names = [column.name for column in key_columns(zone_keys)]
    return _judge_gold(
        gold,
        silver,
        zone_keys,
        [rolling_column(name) for name in names],
        lambda frame: frame.rolling("24h", min_periods=1).mean(),
        tolerance=_MEAN_TOLERANCE,
    )


def _judge_gold(
    gold: DataFrame,
    silver: DataFrame,
    zone_keys: tuple[str, ...],
    columns: Sequence[str],
    recompute: Any,
    tolerance: float,
) -> Outcome:
    """Compare columns of gold with what pandas makes of silver's key columns, zone by zone."""
    stored = gold.select("zone", "datetime", *columns).toPandas()
    values = _key_values(silver, zone_keys)
    findings = []
    for zone, rows in stored.groupby("zone"):
        frame = values[values["zone"] == zone].drop(columns="zone").set_index("datetime").sort_index()
        expected = recompute(frame.astype("float64"))
        actual = rows.drop(columns="zone").set_index("datetime").astype("float64")
        expected = expected.reindex(actual.index)
        expected.columns = actual.columns
        differs = (actual.isna() != expected.isna()) | ((actual - expected).abs() > tolerance)
        for hour, column in differs.stack().loc[lambda wrong: wrong].index:
            is_, must = actual.at[hour, column], expected.at[hour, column]
            moment = hour.to_pydatetime().replace(tzinfo=timezone.utc)
            findings.append(Finding(str(zone), moment, f"{column} is {is_}, recomputed {must}"))
    return Outcome(len(stored), tuple(findings))


def _key_values(silver: DataFrame, zone_keys: tuple[str, ...]) -> pd.DataFrame:
    neighbours = neighbours_of(zone_keys)
    flows = [f"{direction}_{zone_column(n)}" for direction in ("import", "export") for n in neighbours]
    names = [column.name for column in key_columns(zone_keys)]
    frame = silver.select(
        "zone", "datetime", *(n for n in names if n not in flows), "import_by_zone", "export_by_zone"
    ).toPandas()
    maps = {}
    for direction in ("import", "export"):
        told = [dict(entries) if entries is not None else {} for entries in frame[f"{direction}_by_zone"]]
        for neighbour in neighbours:
            maps[f"{direction}_{zone_column(neighbour)}"] = [entries.get(neighbour) for entries in told]
    return pd.concat([frame, pd.DataFrame(maps, index=frame.index)], axis=1)[["zone", "datetime", *names]]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _utc(value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc)


def _iso(text: str | None) -> datetime | None:
    return None if text is None else _utc(datetime.fromisoformat(text.replace("Z", "+00:00")))
