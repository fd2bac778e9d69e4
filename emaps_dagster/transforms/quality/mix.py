"""Puts electricity-mix, electricity-flows and the percentages together with Python's JSON, as silver must show them.

Record by record, without window function or join: what `silver_equals_bronze` compares silver with on the long road.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from emaps_dagster.contracts.body_fields import time_of
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.transforms.quality.bronze import records_of, trusted_body

Key = tuple[str, datetime]
# Ingestion, version, and hash with signal: the order in which the pipeline learnt things.
Order = tuple[datetime, datetime, str]

NEEDED = ("mix", "traced_mix", "flows")
_STORAGE = {"hydro storage": "hydro discharge", "battery storage": "battery discharge"}
_PREFIX = "ESTIMATED_"


@dataclass(frozen=True)
class Seen:
    """Content of one response for an hour."""

    order: Order
    signal: str
    record: Mapping[str, Any]
    source: str | None


def seen_by_hour(responses: Iterable[Mapping[str, Any]], window: Window) -> dict[Key, list[Seen]]:
    """What the responses of bronze.mix_data say of each (zone, hour) that was over when they arrived, in order."""
    found: dict[Key, list[Seen]] = defaultdict(list)
    for response in responses:
        ingested_at, zone = response["ingested_at"], response["zone"]
        if ingested_at is None or zone is None:
            continue
        # If a body has an hour twice, the record updated last counts, then the one further down.
        latest: dict[datetime, tuple[datetime, dict[str, Any]]] = {}
        for record in records_of(trusted_body(dict(response))) or []:
            hour, version = time_of(record.get("datetime")), time_of(record.get("updatedAt"))
            if hour is None or version is None or hour not in window or hour + HOUR > ingested_at:
                continue
            if hour not in latest or version >= latest[hour][0]:
                latest[hour] = (version, record)
        name = f"{response['payload_sha256'] or ''}:{response['signal']}"
        source = response["source"] and "/".join(response["source"].split("/")[:3])
        for hour, (version, record) in latest.items():
            found[zone, hour].append(Seen((ingested_at, version, name), response["signal"], record, source))
    return {key: sorted(seen, key=lambda one: one.order) for key, seen in found.items()}


def assembled(seen: Iterable[Seen]) -> list[tuple[Order, dict[str, Any], str | None]]:
    """The power records of an hour in v3's form, each when a version had all it needs: order, record, source."""
    versions: dict[datetime, dict[str, Seen]] = defaultdict(dict)
    made = []
    for one in seen:
        parts = versions[one.order[1]]
        parts[one.signal] = one
        if all(name in parts for name in NEEDED):
            records = {name: part.record for name, part in parts.items()}
            made.append((one.order, _power_record(records), parts["mix"].source))
    return made


def is_superseded(seen: Iterable[Seen], updated_at: datetime | None, ingested_at: datetime | None) -> bool:
    """Whether an hour's record waits for the rest of a newer version.

    Args:
        seen: of the hour, in order, at least one.
        updated_at: version of the hour's record.
        ingested_at: since when it is known; None without a record.
    """
    newest = {one.signal: one.order for one in seen if one.signal in NEEDED}
    if ingested_at is None:
        return bool(newest)
    return any(
        updated_at is not None and version != updated_at and arrived >= ingested_at
        for arrived, version, _ in newest.values()
    )


def _power_record(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The record that power-breakdown would have of the same version."""
    mix, traced, flows = (records[name] for name in NEEDED)
    produced, consumed = _modes(mix["mix"], signed=True), _modes(traced["mix"], signed=False)
    generated = [*(produced[key] for key in produced if key not in _STORAGE.values())]
    generated += [(mix["mix"].get(key) or {}).get("discharge") for key in _STORAGE]
    method = mix.get("estimationMethod")
    totals = mix["mix"].get("flows") or {}
    percentages = [records[name] for name in ("renewable", "carbon_free") if name in records]
    return {
        "powerProductionBreakdown": produced,
        "powerConsumptionBreakdown": consumed,
        "powerProductionTotal": _sum(generated) if _any(produced.values()) or _any(generated) else None,
        "powerConsumptionTotal": _sum(consumed.values()) if _any(consumed.values()) else None,
        "powerImportTotal": totals.get("imports"),
        "powerExportTotal": totals.get("exports"),
        "powerImportBreakdown": flows["import"],
        "powerExportBreakdown": flows["export"],
        "renewablePercentage": records.get("renewable", {}).get("value"),
        "fossilFreePercentage": records.get("carbon_free", {}).get("value"),
        "isEstimated": mix.get("isEstimated") or False,
        "estimationMethod": None if method in (None, "MEASURED") else str(method).removeprefix(_PREFIX),
        "updatedAt": mix["updatedAt"],
        "createdAt": next((made for one in percentages if (made := one.get("createdAt")) is not None), None),
    }


def _modes(mix: Mapping[str, Any], *, signed: bool) -> dict[str, float | None]:
    # A storage that we do not know is admitted if it reports nothing.
    values = {key: value for key, value in mix.items() if not isinstance(value, dict)}
    values = {key: values[key] for key in values if key not in (*_STORAGE, "flows")}
    for key, mode in _STORAGE.items():
        storage = mix.get(key) or {}
        charge, discharge = storage.get("charge") if signed else None, storage.get("discharge")
        if discharge is not None and charge is not None:
            values[mode] = float(_micros(discharge) - _micros(charge)) / 1e6
        elif discharge is not None:
            values[mode] = discharge
        else:
            # The API writes {charge: 0, discharge: null} of a storage that is not reported.
            values[mode] = -charge if charge else None
    return values


def _sum(values: Iterable[float | None]) -> float:
    return float(sum(_micros(value) for value in values if value is not None and value > 0)) / 1e6


def _micros(value: float) -> int:
    return int(Decimal(float(value) * 1e6).to_integral_value(rounding="ROUND_HALF_UP"))


def _any(values: Iterable[float | None]) -> bool:
    return any(value is not None for value in values)
