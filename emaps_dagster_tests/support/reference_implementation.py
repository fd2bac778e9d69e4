"""Silver and gold by plain Python from raw bodies: an oracle that shares no code with the package, to the last bit."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

Key = tuple[str, datetime]
Rows = dict[Key, dict[str, Any]]

_MODES = ["nuclear", "geothermal", "biomass", "coal", "wind", "solar", "hydro", "gas", "oil", "unknown"]
_MODES += ["hydro discharge", "battery discharge"]
_MIX_KEYS = {*_MODES[:10], "hydro storage", "battery storage", "flows"}
_GR = ("AL", "BG", "IT-SO", "MK", "TR")


def latest_by_hand(
    responses: Iterable[tuple[str, dict[str, Any], datetime, str]],
) -> dict[Key, tuple[dict[str, Any], datetime]]:
    """The record of each (zone, hour) that counts, and since when its content is known.

    Args:
        responses: of one feed, as (zone, parsed body, ingested at, body as text).
    """
    return latest_of_readings(readings_by_hand(responses))


def readings_by_hand(
    responses: Iterable[tuple[str, dict[str, Any], datetime, str]], signal: str = ""
) -> dict[Key, list[tuple[Any, ...]]]:
    """What each response says of each (zone, hour): ingested at, time of update, digest, record.

    Args:
        responses: of one signal, as (zone, parsed body, ingested at, body as text).
        signal: one of electricity-mix and those beside it; none for a feed.
    """
    # A record that must not be trusted counts as one that never came.
    readings: dict[Key, list[tuple[Any, ...]]] = defaultdict(list)
    for zone, _, ingested_at, text in responses:
        digest = hashlib.sha256(text.encode()).hexdigest() + (f":{signal}" if signal else "")
        spoken: dict[datetime, tuple[Any, ...]] = {}
        for place, row in enumerate(trusted_records(zone, text, signal)):
            hour = datetime.fromisoformat(row["datetime"].replace("Z", "+00:00"))
            if ingested_at - hour >= timedelta(hours=1):
                told = (row.get("updatedAt") or "", place, row)
                spoken[hour] = max(spoken.get(hour, told), told, key=lambda one: one[:2])
        for hour, (updated, _, row) in spoken.items():
            readings[zone, hour].append((ingested_at, updated, digest, row))
    return readings


def latest_of_readings(readings: dict[Key, list[tuple[Any, ...]]]) -> dict[Key, tuple[dict[str, Any], datetime]]:
    """The record of each (zone, hour) that was read last, and since when its content is known."""
    found = {}
    for key, unordered in readings.items():
        told = sorted(unordered, key=lambda reading: reading[:3])
        content = _without_nulls(told[-1][3])
        since = told[-1][0]
        for reading in reversed(told):
            if _without_nulls(reading[3]) != content:
                break
            since = reading[0]
        found[key] = (told[-1][3], since)
    return found


def trusted_records(zone: str, text: str, signal: str = "") -> list[dict[str, Any]]:
    """The records of a body that may count, by rules that are written here a second time."""
    body = json.loads(text, object_pairs_hook=_Members)
    rows = next(value for name, value in body.pairs if name in ("history", "data"))
    return [
        json.loads(json.dumps(row.plain()))
        for row in rows
        if isinstance(row, _Members) and (row.is_trusted_signal(zone, signal) if signal else row.is_trusted(zone))
    ]


class _Members:
    """An object of a body with all its members, also those whose key stands there twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs

    def plain(self) -> dict[str, Any]:
        return {name: value.plain() if isinstance(value, _Members) else value for name, value in self.pairs}

    def is_trusted(self, zone: str) -> bool:
        row = self.plain()
        if not self._keys_are_unique() or not _is_hour(row.get("datetime")) or row.get("zone", zone) != zone:
            return False
        production, consumption = (row.get(f"power{side}Breakdown", 0) for side in ("Production", "Consumption"))
        if "carbonIntensity" not in row and 0 in (production, consumption):
            return False
        if any(mw and mode not in _MODES for part in (production, consumption) for mode, mw in (part or {}).items()):
            return False
        if row.get("isEstimated") is not None and not isinstance(row["isEstimated"], bool):
            return False
        numbers = [row.get(name) for name in row if name.endswith(("Total", "Percentage", "Intensity"))]
        for name in row:
            if name.endswith("Breakdown"):
                numbers += (row[name] or {}).values()
        more = [value for value in row.values() if isinstance(value, float)]
        return all(
            n is None or (isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) <= 1e9) for n in numbers
        ) and all(abs(value) < float("inf") for value in more)

    def is_trusted_signal(self, zone: str, signal: str) -> bool:
        row = self.plain()
        if not self._keys_are_unique() or not _is_hour(row.get("datetime")) or row.get("zone", zone) != zone:
            return False
        if not isinstance(row.get("isEstimated", False), bool) or not row.get("updatedAt"):
            return False
        if any(isinstance(value, float) and not abs(value) < float("inf") for value in row.values()):
            return False
        if signal in ("mix", "traced_mix"):
            asked = {"mix": "normal", "traced_mix": "flow-traced"}[signal]
            return row.get("breakdownType") == asked and _is_mix(row.get("mix"))
        if signal == "flows":
            return all(isinstance(row.get(way), dict) for way in ("import", "export"))
        return "value" in row

    def _keys_are_unique(self) -> bool:
        names = [name for name, _ in self.pairs]
        return len(set(names)) == len(names) and all(
            value._keys_are_unique() for _, value in self.pairs if isinstance(value, _Members)
        )


def _is_mix(mix: Any) -> bool:
    if not isinstance(mix, dict) or any(value and key not in _MIX_KEYS for key, value in mix.items()):
        return False
    storages = [mix[key] for key in ("hydro storage", "battery storage") if mix.get(key) is not None]
    return all(isinstance(part, dict) and all((mw or 0) >= 0 for mw in part.values()) for part in storages)


def _is_hour(text: Any) -> bool:
    try:
        hour = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, AttributeError):
        return False
    return hour.tzinfo is not None and hour == hour.replace(minute=0, second=0, microsecond=0)


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None and name != "zone"}


def silver_by_hand(
    power: dict[Key, tuple[dict[str, Any], datetime]], carbon: dict[Key, tuple[dict[str, Any], datetime]]
) -> Rows:
    """Every row of silver, from the records of both feeds that count."""
    rows: Rows = {}
    for key in power.keys() | carbon.keys():
        row: dict[str, Any] = {"zone": key[0], "datetime": key[1], "year_month": key[1].isoformat()[:7]}
        p, p_since = power.get(key, ({}, None))
        c, c_since = carbon.get(key, ({}, None))
        for side in ("production", "consumption"):
            told = p.get(f"power{side.title()}Breakdown") or {}
            for mode in _MODES:
                row[f"{side}_{mode.replace(' ', '_')}"] = _number(told.get(mode))
        for what in ("production", "consumption", "import", "export"):
            row[f"{what}_total"] = _number(p.get(f"power{what.title()}Total"))
        for way in ("import", "export"):
            flows = p.get(f"power{way.title()}Breakdown")
            row[f"{way}_by_zone"] = None if flows is None else {n: _number(mw) for n, mw in flows.items()}
        row["fossil_free_percentage"] = _number(p.get("fossilFreePercentage"))
        row["renewable_percentage"] = _number(p.get("renewablePercentage"))
        row["carbon_intensity"] = _number(c.get("carbonIntensity"))
        row["emission_factor_type"] = c.get("emissionFactorType")
        for feed, told, since in (("power", p, p_since), ("carbon", c, c_since)):
            row[f"is_estimated_{feed}"] = told.get("isEstimated")
            row[f"estimation_method_{feed}"] = told.get("estimationMethod")
            row[f"updated_at_{feed}"] = _time(told.get("updatedAt"))
            row[f"created_at_{feed}"] = _time(told.get("createdAt"))
            row[f"ingested_at_{feed}"] = since
        rows[key] = row
    return rows


def gold_by_hand(silver: Rows) -> Rows:
    """Values, lags, means and counts of every row of gold for GR; time features are tested elsewhere.

    A mean is the exact sum of millionths, divided once: what any correct computation must give, bit for bit.
    """
    values: Rows = {}
    for key, row in silver.items():
        names = [n for n in row if n.startswith(("production_", "consumption_")) or n in _TOTALS]
        flat = {name: row[name] for name in names}
        for way in ("import", "export"):
            for neighbour in _GR:
                flat[f"{way}_{neighbour.replace('-', '_')}"] = (row[f"{way}_by_zone"] or {}).get(neighbour)
        values[key] = flat
    gold: Rows = {}
    for (zone, hour), flat in values.items():
        day = [(zone, hour - timedelta(hours=back)) for back in range(24)]
        held = [key for key in day if key in values]
        row = {"zone": zone, "datetime": hour, **flat}
        for name in flat:
            row[f"lag_{name}_1h"] = values.get(day[1], {}).get(name)
            micros = [round(values[key][name] * 1e6) for key in held if values[key][name] is not None]
            row[f"rolling_avg_{name}_24h"] = float(sum(micros)) / (float(len(micros)) * 1e6) if micros else None
            row[f"rolling_count_{name}_24h"] = len(micros)
        row["hours_observed_24h"] = len(held)
        row["hours_estimated_24h"] = sum(
            bool(silver[key]["is_estimated_power"] or silver[key]["is_estimated_carbon"]) for key in held
        )
        row["is_estimated_power"] = silver[zone, hour]["is_estimated_power"]
        row["is_estimated_carbon"] = silver[zone, hour]["is_estimated_carbon"]
        row["emission_factor_type"] = silver[zone, hour]["emission_factor_type"]
        gold[zone, hour] = row
    return gold


def differences(stored: Rows, expected: Rows, ignored: Callable[[datetime], bool] = lambda _: False) -> list[str]:
    """Where stored rows are not the expected ones, to the last bit; columns that are not expected are not looked at."""
    wrong = []
    for key in sorted(stored.keys() | expected.keys()):
        if ignored(key[1]):
            continue
        if key not in stored:
            wrong.append(f"{key} is missing")
        elif key not in expected:
            wrong.append(f"{key} is there, and no answer held it")
        else:
            row = stored[key]
            cells = {n: (row[n], must) for n, must in expected[key].items() if _bits(row[n]) != _bits(must)}
            if cells:
                wrong.append(f"{key}, stored and expected: {cells}")
    return wrong


def _bits(value: Any) -> Any:
    """A form that distinguishes -0.0 from 0.0 and ignores the order of keys."""
    if isinstance(value, dict):
        return sorted((name, _bits(part)) for name, part in value.items())
    return repr(value) if isinstance(value, float) else value


_TOTALS = ("import_total", "export_total", "carbon_intensity")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))
