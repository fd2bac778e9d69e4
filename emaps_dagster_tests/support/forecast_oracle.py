"""Forecasting rows by plain pandas from the raw JSON: an oracle that shares no code with the package.

Every rule is written here a second time: which record counts at a moment, which hour a lag is, what a mean is of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from emaps_dagster_tests.support.reference_implementation import trusted_records

HOUR = pd.Timedelta(hours=1)
_TOTALS = {"consumption_total": "powerConsumptionTotal", "import_total": "powerImportTotal"}
# Of Greece in the weeks that the tests are about.
_HOLIDAYS = {pd.Timestamp("2024-03-25").date()}
Response = tuple[str, str, datetime]


class Oracle:
    """What was known at any moment, from responses as (feed, text, ingested at) of one zone."""

    def __init__(self, zone: str, responses: Iterable[Response], columns: tuple[str, ...]) -> None:
        self.columns = columns
        self.records = {feed: self._records(zone, feed, responses) for feed in ("power", "carbon")}

    def _records(self, zone: str, feed: str, responses: Iterable[Response]) -> pd.DataFrame:
        found: list[dict[str, Any]] = []
        for of_feed, text, ingested_at in responses:
            if of_feed != feed:
                continue
            digest = hashlib.sha256(text.encode()).hexdigest()
            for place, record in enumerate(trusted_records(zone, text)):
                values = {name: _value(record, name) for name in self.columns if _is_of(name, feed)}
                hour = pd.Timestamp(record["datetime"])
                told = {"hour": hour, "at": pd.Timestamp(ingested_at), "updated": record.get("updatedAt") or ""}
                estimated = bool(record.get("isEstimated"))
                found.append({**told, "digest": digest, "place": place, "estimated": estimated, **values})
        records = pd.DataFrame(found)
        records = records[records["hour"] + HOUR <= records["at"]]
        return records.sort_values(["hour", "at", "updated", "digest", "place"], kind="stable")

    def known(self, feed: str, at: pd.Timestamp) -> pd.DataFrame:
        """The record of each hour that counts at a moment."""
        records = self.records[feed]
        return records[records["at"] <= at].drop_duplicates("hour", keep="last").set_index("hour")

    def rows(
        self, at: pd.Timestamp, horizons: list[int], lags: list[int], means: list[int], target: str
    ) -> list[dict[str, Any]]:
        """The features and baselines of an issue time, a row for each horizon."""
        origin = at.floor("h") - HOUR
        power, carbon = (self.known(feed, at) for feed in ("power", "carbon"))
        week = [origin - back * HOUR for back in range(168)]
        series = {name: _not_null((carbon if _is_of(name, "carbon") else power)[name]) for name in self.columns}
        estimates = [frame["estimated"].to_dict() for frame in (power, carbon)]
        held = [hour for hour in week[:24] if any(hour in frame for frame in estimates)]
        estimated = [hour for hour in held if any(frame.get(hour) for frame in estimates)]
        shared: dict[str, Any] = {
            "estimated_share_24h": len(estimated) / len(held) if held else np.nan,
            "hours_known_24h": len(held),
        }
        for name, values in series.items():
            last = next((hour for hour in week if hour in values), None)
            shared[f"value_{name}"] = np.nan if last is None else values[last]
            shared[f"age_{name}_h"] = np.nan if last is None else (origin - last) / HOUR
            for n in means:
                of = [values[hour] for hour in week[:n] if hour in values]
                shared[f"mean_{name}_{n}h"], shared[f"count_{name}_{n}h"] = _mean(of), len(of)
        rows = []
        for k in horizons:
            hour = origin + k * HOUR
            row: dict[str, Any] = {**shared, **_calendar(hour), "horizon": k}
            same = [past for past in week if past.hour == hour.hour]
            for name, values in series.items():
                for n in lags:
                    back = hour - n * HOUR
                    while back > origin and n % 24 == 0:
                        back -= 24 * HOUR
                    row[f"lag_{name}_{n}h"] = values.get(back, np.nan) if back <= origin else np.nan
                row[f"same_hour_mean_{name}_7d"] = _mean([values[past] for past in same if past in values])
            daily = [series[target][past] for past in same if past in series[target]]
            row["persistence"] = row[f"value_{target}"]
            row["daily"] = daily[0] if daily else np.nan
            row["weekly"] = series[target].get(hour - (168 if k <= 168 else 336) * HOUR, np.nan)
            rows.append(row)
        return rows


def _not_null(column: pd.Series[Any]) -> dict[pd.Timestamp, float]:
    return {hour: float(value) for hour, value in column.items() if not pd.isna(value)}


def _is_of(name: str, feed: str) -> bool:
    return (name == "carbon_intensity") == (feed == "carbon")


def _value(record: dict[str, Any], name: str) -> float | None:
    if name == "carbon_intensity":
        told = record.get("carbonIntensity")
    elif name in _TOTALS:
        told = record.get(_TOTALS[name])
    else:
        side, _, part = name.partition("_")
        told = (record.get(f"power{side.title()}Breakdown") or {}).get(part)
    return None if told is None else float(told)


def _mean(values: list[float]) -> float:
    """The exact sum of millionths, divided once."""
    micros = [round(value * 1e6) for value in values]
    return float(sum(micros)) / (float(len(micros)) * 1e6) if micros else np.nan


def _calendar(hour: pd.Timestamp) -> dict[str, int]:
    local = hour.to_pydatetime().astimezone(ZoneInfo("Europe/Athens"))
    return {
        "hour": hour.hour,
        "day_of_week": hour.isoweekday() % 7 + 1,
        "month": hour.month,
        "local_hour": local.hour,
        "local_day_of_week": local.isoweekday() % 7 + 1,
        "is_weekend": int(local.isoweekday() in (6, 7)),
        "is_holiday": int(local.date() in _HOLIDAYS),
    }
