"""The rows of v4's signals, made from the provider's power record of the same hour and version.

v3 serves whole MW, v4 fractions that round to them: the fractions of a breakdown cancel, so that totals are equal.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from emaps_dagster.contracts.signals import CARBON_FREE, FLOWS, MIX, STORAGE_KEYS, TRACED_MIX
from emaps_dagster.contracts.zones import MODE_KEYS, Feed
from emaps_dagster.simulator.noise import bits, stream

# Measured hours are means of four quarters, estimates have two decimals.
_QUARTERS = (0.0, 0.25)
_HUNDREDTHS = tuple(step / 100 for step in range(50))


def signal_row(signal: Feed, power: dict[str, Any], seed: int) -> dict[str, Any]:
    """The row of a signal for the hour of a v3 power row; keys in the recorded order."""
    times = {name: power[name] for name in ("datetime", "updatedAt")}
    if signal == FLOWS:
        return {**times, "import": power["powerImportBreakdown"], "export": power["powerExportBreakdown"]}
    if signal in (MIX, TRACED_MIX):
        method = power["estimationMethod"]
        flags = (
            {"isEstimated": True, "estimationMethod": f"ESTIMATED_{method}"}
            if power["isEstimated"]
            else {"estimationMethod": "MEASURED"}
        )
        mix = _normal(power, seed) if signal == MIX else _traced(power, seed)
        return {**times, **flags, "breakdownType": signal.breakdown, "mix": mix}
    value = power["fossilFreePercentage" if signal == CARBON_FREE else "renewablePercentage"]
    return {
        "zone": power["zone"],
        **times,
        "createdAt": power["createdAt"],
        "unit": signal.unit,
        "value": value,
        "flowTraced": True,
        "isEstimated": power["isEstimated"],
        "estimationMethod": power["estimationMethod"],
    }


def envelope(signal: Feed, zone: str, name: str, rows: list[Any]) -> dict[str, Any]:
    """A body of several rows; signals of the mix state granularity and unit once."""
    if signal in (MIX, TRACED_MIX, FLOWS):
        return {"zone": zone, "temporalGranularity": "hourly", "unit": signal.unit, name: rows}
    return {"zone": zone, name: rows, "temporalGranularity": "hourly"}


def _normal(power: dict[str, Any], seed: int) -> dict[str, Any]:
    production = _with_fractions(power["powerProductionBreakdown"], power, "production", seed)
    mix: dict[str, Any] = {key: production[key] for key in MODE_KEYS if key not in STORAGE_KEYS.values()}
    for key, mode in STORAGE_KEYS.items():
        megawatts = production[mode]
        if megawatts is None:
            # The recorded form of a storage that is not reported.
            mix[key] = {"charge": 0, "discharge": None}
        elif megawatts < 0:
            mix[key] = {"charge": -megawatts, "discharge": None}
        else:
            mix[key] = {"charge": None, "discharge": megawatts}
    mix["flows"] = {"exports": power["powerExportTotal"], "imports": power["powerImportTotal"]}
    return mix


def _traced(power: dict[str, Any], seed: int) -> dict[str, Any]:
    consumption = _with_fractions(power["powerConsumptionBreakdown"], power, "consumption", seed)
    mix: dict[str, Any] = {key: consumption[key] for key in MODE_KEYS if key not in STORAGE_KEYS.values()}
    return mix | {key: {"discharge": consumption[mode]} for key, mode in STORAGE_KEYS.items()}


def _with_fractions(breakdown: dict[str, Any], power: dict[str, Any], side: str, seed: int) -> dict[str, Any]:
    """Adds a fraction to one mode and takes it from the next, so that each rounds to its whole MW."""
    steps = _HUNDREDTHS if power["isEstimated"] else _QUARTERS
    values = dict(breakdown)
    own = [mode for mode in MODE_KEYS if (values.get(mode) or 0) > 0]
    fractions = stream("fraction", side, power["zone"], seed)
    # From the content: a row whose time of update alone changes keeps its decimals.
    version = crc32(f"{power['datetime']}{breakdown}{power['isEstimated']}".encode()) << 8
    for place, (more, less) in enumerate(zip(own[::2], own[1::2], strict=False)):
        fraction = steps[bits(fractions, version + place) % len(steps)]
        if fraction:
            values[more], values[less] = values[more] + fraction, values[less] - fraction
            # 0.1 + 0.2 has seventeen digits; the API has two.
            values[more], values[less] = round(values[more], 2), round(values[less], 2)
    return values
