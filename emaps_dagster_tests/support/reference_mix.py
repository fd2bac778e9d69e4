"""electricity-mix put together by plain Python: the long road's half of the oracle, which shares no code either.

An hour comes in versions, by their time of update. Its record is there from the moment when the last of the three
signals of a version that it needs arrived, and again whenever one of that version arrives again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from fractions import Fraction
from typing import Any

from emaps_dagster_tests.support.reference_implementation import (
    Key,
    Rows,
    latest_of_readings,
    readings_by_hand,
    silver_by_hand,
)

Told = Iterable[tuple[str, dict[str, Any], datetime, str]]
NEEDED = {"mix", "traced_mix", "flows"}
_TEN = ("nuclear", "geothermal", "biomass", "coal", "wind", "solar", "hydro", "gas", "oil", "unknown")


def silver_of_both_roads(power: Told, carbon: dict[Key, tuple[dict[str, Any], datetime]], mix: dict[str, Told]) -> Rows:
    """Every row of silver, with the power record of whichever road told its version first."""
    heard: dict[Key, list[tuple[Any, ...]]] = defaultdict(list)
    for signal, told in mix.items():
        for key, readings in readings_by_hand(told, signal).items():
            heard[key] += [(*reading, signal) for reading in readings]
    whole = {key: _assembled(sorted(readings, key=lambda one: one[:3])) for key, readings in heard.items()}
    by_power = {
        key: [(*reading, "power-breakdown") for reading in readings]
        for key, readings in readings_by_hand(power).items()
    }
    both = {key: _first_told(by_power.get(key, []), whole.get(key, [])) for key in by_power.keys() | whole.keys()}
    latest = latest_of_readings({key: readings for key, readings in both.items() if readings})
    rows = silver_by_hand(latest, carbon)
    for key, row in rows.items():
        since = row["ingested_at_power"]
        row["source_power"] = row["is_superseded_power"] = None
        if key in latest:
            ordered = sorted(both[key], key=lambda one: one[:3])
            # The road of the reading since which the content is known: the last of equal ones that begins there.
            place = len(ordered)
            while place and _same(ordered[place - 1][3], latest[key][0]):
                place -= 1
            row["source_power"] = f"electricitymaps/{_VERSION[ordered[place][4]]}/{ordered[place][4]}"
        if any(signal in NEEDED for *_, signal in heard.get(key, [])):
            row["is_superseded_power"] = since is None or any(
                reading[1] != latest[key][0].get("updatedAt") and reading[0] >= since
                for reading in _newest(heard[key])
                if latest[key][0].get("updatedAt")
            )
    return rows


_VERSION = {"power-breakdown": "v3", "electricity-mix": "v4"}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two records have the same content; a null is as good as nothing."""
    kept = [{name: v for name, v in record.items() if v is not None and name != "zone"} for record in (one, other)]
    return kept[0] == kept[1]


def _newest(heard: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The last reading of each signal that an hour needs."""
    by_signal: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for one in heard:
        by_signal[one[4]].append(one[:3])
    return [max(by_signal[name]) for name in sorted(NEEDED & by_signal.keys())]


def _assembled(heard: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The records of an hour: ingested at, version, digest, record in v3's form, road."""
    known: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    made = []
    for ingested_at, version, digest, row, signal in heard:
        known[version][signal] = row
        if known[version].keys() >= NEEDED:
            made.append((ingested_at, version, digest, _as_v3(**known[version]), "electricity-mix"))
    return made


def _first_told(power: list[tuple[Any, ...]], mix: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    kept = []
    for road, other in ((power, mix), (mix, power)):
        for reading in road:
            rivals = [one[0] for one in other if one[1] and one[1] == reading[1]]
            own = [one[0] for one in road if one[1] == reading[1]]
            if not rivals or min(own) < min(rivals) or (min(own) == min(rivals) and road is power):
                kept.append(reading)
    return kept


def _as_v3(
    mix: dict[str, Any],
    traced_mix: dict[str, Any],
    flows: dict[str, Any],
    renewable: dict[str, Any] | None = None,
    carbon_free: dict[str, Any] | None = None,
) -> dict[str, Any]:
    normal, traced = mix["mix"], traced_mix["mix"]
    production = {mode: normal.get(mode) for mode in _TEN}
    consumption = {mode: traced.get(mode) for mode in _TEN}
    generated = [*production.values()]
    for name in ("hydro", "battery"):
        storage = normal.get(f"{name} storage") or {}
        given, taken = storage.get("discharge"), storage.get("charge")
        generated.append(given)
        if given is None:
            production[f"{name} discharge"] = -taken if taken else None
        else:
            production[f"{name} discharge"] = given if taken is None else _exactly([given, -taken])
        consumption[f"{name} discharge"] = (traced.get(f"{name} storage") or {}).get("discharge")
    method = mix.get("estimationMethod")
    ways = normal.get("flows") or {}
    return {
        "powerProductionBreakdown": production,
        "powerConsumptionBreakdown": consumption,
        "powerProductionTotal": _total(generated, production),
        "powerConsumptionTotal": _total(consumption.values(), consumption),
        "powerImportTotal": ways.get("imports"),
        "powerExportTotal": ways.get("exports"),
        "powerImportBreakdown": flows["import"],
        "powerExportBreakdown": flows["export"],
        "renewablePercentage": (renewable or {}).get("value"),
        "fossilFreePercentage": (carbon_free or {}).get("value"),
        "isEstimated": bool(mix.get("isEstimated")),
        "estimationMethod": None if method == "MEASURED" else method and method.replace("ESTIMATED_", ""),
        "updatedAt": mix["updatedAt"],
        "createdAt": (renewable or {}).get("createdAt") or (carbon_free or {}).get("createdAt"),
    }


def _total(parts: Iterable[float | None], reported: dict[str, float | None]) -> float | None:
    if all(value is None for value in reported.values()):
        return None
    return _exactly([mw for mw in parts if mw is not None and mw > 0])


def _exactly(parts: Iterable[float]) -> float:
    """The sum in millionths, the nearest double."""
    return float(Fraction(sum(round(mw * 1e6) for mw in parts), 1)) / 1e6
