"""Detects faults of the provider's data: missing hours, sums that do not close, implausible values.

Tolerances allow for whole numbers: the provider rounds every part, so a sum of n parts is off by up to about n/2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from emaps_dagster.contracts.tables import IS_SUPERSEDED
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.contracts.zones import MODES, STORAGE_MODES, WORLD, PlausibleLimits, limits_of
from emaps_dagster.transforms.quality.outcome import Finding, Outcome
from emaps_dagster.transforms.quality.silver_evidence import FEED_NAMES, SilverEvidence

_LEAST_TOLERANCE_MW = 2
_TOTALS = ("production", "consumption", "import", "export")


def every_hour_is_present(evidence: SilverEvidence) -> Outcome:
    """Every complete hour of the run is in silver for every configured zone, from both feeds."""
    held: dict[tuple[str, datetime], set[str]] = {}
    in_part = {(row["zone"], row["datetime"]) for row in evidence.rows if row[IS_SUPERSEDED.name]}
    for row in evidence.rows:
        feeds = {feed for feed in FEED_NAMES if row[f"ingested_at_{feed}"] is not None}
        held[row["zone"], row["datetime"]] = feeds
    findings = []
    hours = [hour for hour in evidence.run.hours() if hour in evidence.window and hour + HOUR <= evidence.now]
    for zone in evidence.zones:
        for hour in hours:
            if (zone, hour) not in held:
                findings.append(Finding(zone, hour, "the hour is missing"))
            elif missing := [feed for feed in FEED_NAMES if feed not in held[zone, hour]]:
                why = "; of electricity-mix no version came with all its signals" if (zone, hour) in in_part else ""
                findings.append(Finding(zone, hour, f"the {' and '.join(missing)} feed did not deliver it{why}"))
    return Outcome(len(hours) * len(evidence.zones), tuple(findings))


def parts_sum_to_total(evidence: SilverEvidence) -> Outcome:
    """Positive production, consumption and flows sum to their totals within max(2, number of parts) MW.

    Null parts are skipped; a null total, and parts that are all null, are not checked. An empty map means zero flow.
    """
    return _row_by_row(evidence, _sums)


def energy_balances(evidence: SilverEvidence) -> Outcome:
    """Consumption is production (charging storage negative) + import - export, within max(2, number of modes) MW."""
    return _row_by_row(evidence, _balance)


def values_are_plausible(evidence: SilverEvidence) -> Outcome:
    """Signs, percentages and limits of zones.py (global and of the zone) hold, and not all values are zero."""
    return _row_by_row(evidence, implausible)


def _row_by_row(evidence: SilverEvidence, check: Callable[[dict[str, Any]], Iterator[str]]) -> Outcome:
    findings = [
        Finding(row["zone"], row["datetime"], "; ".join(wrong)) for row in evidence.rows if (wrong := list(check(row)))
    ]
    return Outcome(len(evidence.rows), tuple(findings))


def _modes(row: Mapping[str, Any], side: str) -> list[float]:
    return [row[f"{side}_{mode}"] for mode in MODES if row[f"{side}_{mode}"] is not None]


def _off(is_: float, must: float, parts: int) -> bool:
    # NaN compares false with everything and must not pass.
    return not abs(is_ - must) <= max(_LEAST_TOLERANCE_MW, parts)


def _sums(row: dict[str, Any]) -> Iterator[str]:
    parts = {
        "production": [max(0.0, value) for value in _modes(row, "production")] or None,
        "consumption": _modes(row, "consumption") or None,
    }
    for direction in ("import", "export"):
        flows = row[f"{direction}_by_zone"]
        parts[direction] = None if flows is None else [value for value in flows.values() if value is not None]
        if flows and not parts[direction]:
            parts[direction] = None
    for what, values in parts.items():
        total = row[f"{what}_total"]
        if values is not None and total is not None and _off(sum(values), total, len(values)):
            yield f"{what}: the parts sum to {sum(values):g} MW, {what}_total is {total:g}"


def _balance(row: dict[str, Any]) -> Iterator[str]:
    modes = _modes(row, "production")
    consumed, imported, exported = (row[f"{what}_total"] for what in ("consumption", "import", "export"))
    if not modes or None in (consumed, imported, exported):
        return
    supplied = sum(modes) + imported - exported
    if _off(supplied, consumed, len(modes)):
        yield f"production + import - export is {supplied:g} MW, consumption_total is {consumed:g}"


def implausible(row: Mapping[str, Any]) -> Iterator[str]:
    """One phrase per implausible value of an hour of silver; its flow maps are dicts."""
    yield from _wrong_signs(row)
    if _stands_still(row):
        yield "production and consumption are 0 MW: no zone stands still"
    free, renewable = row["fossil_free_percentage"], row["renewable_percentage"]
    # Both are rounded: equal shares may differ by one per cent.
    if free is not None and renewable is not None and not renewable <= free + 1:
        yield f"renewable_percentage is {renewable:g}, fossil_free_percentage, which includes it, {free:g}"
    yield from _beyond(row, limits_of(row["zone"]))
    yield from _beyond_the_world(row)


def _wrong_signs(row: Mapping[str, Any]) -> Iterator[str]:
    values = {
        name: row[name]
        for name in (
            *(f"consumption_{mode}" for mode in MODES),
            *(f"production_{mode}" for mode in MODES if mode not in STORAGE_MODES),
            *(f"{what}_total" for what in _TOTALS),
            "carbon_intensity",
        )
    }
    for direction in ("import", "export"):
        values |= {f"{direction} {zone}": flow for zone, flow in (row[f"{direction}_by_zone"] or {}).items()}
    yield from (
        f"{name} is {value:g}, below 0" for name, value in values.items() if value is not None and not value >= 0
    )
    for name in ("fossil_free_percentage", "renewable_percentage"):
        if row[name] is not None and not 0 <= row[name] <= 100:
            yield f"{name} is {row[name]:g}, not 0 to 100"


def _stands_still(row: Mapping[str, Any]) -> bool:
    """Whether all reported production and consumption is 0; a zone with a single plant may stand still."""
    modes = _modes(row, "production")
    sides = [
        [value for value in (*_modes(row, side), row[f"{side}_total"]) if value is not None]
        for side in ("production", "consumption")
    ]
    return len(modes) != 1 and all(values and not any(values) for values in sides)


def _beyond_the_world(row: Mapping[str, Any]) -> Iterator[str]:
    powers = {f"{side}_{mode}": row[f"{side}_{mode}"] for side in ("production", "consumption") for mode in MODES}
    powers |= {name: row[name] for name in (f"{what}_total" for what in _TOTALS)}
    for name, megawatts in powers.items():
        if megawatts is not None and not abs(megawatts) <= WORLD.power:
            yield f"{name} is {megawatts:g} MW, beyond {WORLD.power:g} ({WORLD.power_source})"
    for direction in ("import", "export"):
        for neighbour, megawatts in (row[f"{direction}_by_zone"] or {}).items():
            if megawatts is not None and not megawatts <= WORLD.flow:
                yield f"{direction} {neighbour} is {megawatts:g} MW, beyond {WORLD.flow:g} ({WORLD.flow_source})"


def _beyond(row: Mapping[str, Any], limits: PlausibleLimits) -> Iterator[str]:
    intensity = row["carbon_intensity"]
    low, high = limits.carbon_intensity
    if intensity is not None and not low <= intensity <= high:
        source = limits.carbon_intensity_source
        yield f"carbon_intensity is {intensity:g} gCO2eq/kWh, beyond {low:g} to {high:g} ({source})"
    for mode in limits.capacity:
        produced, most = row[f"production_{mode}"], limits.most_produced(mode, row["datetime"].year)
        # Storage may charge with as much power as it discharges.
        if produced is not None and not abs(produced) <= most:
            yield f"production_{mode} is {produced:g} MW, beyond {most:g} ({limits.capacity_source})"
    for neighbour in limits.border:
        most = limits.most_over_border(neighbour)
        for direction in ("import", "export"):
            flow = (row[f"{direction}_by_zone"] or {}).get(neighbour)
            if flow is not None and not flow <= most:
                yield f"{direction} {neighbour} is {flow:g} MW, beyond {most:g} ({limits.border_source})"
