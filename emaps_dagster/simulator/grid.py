"""A Greek-looking grid: production of every mode and flow over every border, computed from the hour alone.

Demand follows the local clock, solar power the sun's height; wind, rain and flows are smooth noise; gas closes the
balance. `variant` 0 has the true values, others have estimates of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from emaps_dagster.contracts.zones import MODE_KEYS, zone_facts
from emaps_dagster.simulator.noise import draw, stream, wander
from emaps_dagster.simulator.profiles import LIFECYCLE, Profile, border, mix, profile, trend

_DAYS = 365.25
_START_OF_2021 = 447_072  # hours since 1970


@dataclass(frozen=True)
class State:
    """One hour of one zone, whole MW; `None` means not reported."""

    production: dict[str, int | None]
    consumption: dict[str, int]
    imports: dict[str, int]
    exports: dict[str, int]


def _years(hour: datetime) -> float:
    """Years since the start of 2021."""
    return (hour.timestamp() / 3600 - _START_OF_2021) / 8766


@lru_cache(maxsize=512)
def _time_zone(zone: str) -> ZoneInfo:
    return ZoneInfo(zone_facts(zone).time_zone or "UTC")


def _bump(clock: float, at: float, width: float) -> float:
    """A bell curve around an hour of the day, periodic over midnight."""
    away = (clock - at + 12) % 24 - 12
    return math.exp(-((away / width) ** 2))


@lru_cache(maxsize=1024)
def sun(hour: datetime, latitude: float, longitude: float) -> float:
    """Sine of the sun's height in the middle of the hour, 0 at night."""
    middle = hour + timedelta(minutes=30)
    declination = math.radians(-23.44) * math.cos(2 * math.pi * (middle.timetuple().tm_yday + 10) / _DAYS)
    angle = math.pi / 12 * (middle.hour + middle.minute / 60 + longitude / 15 - 12)
    lat = math.radians(latitude)
    height = math.sin(lat) * math.sin(declination) + math.cos(lat) * math.cos(declination) * math.cos(angle)
    return max(0.0, height)


def _demand(local: datetime, p: Profile, x: float, chance: int) -> float:
    clock = local.hour + 0.5
    day = 0.835 + 0.26 * _bump(clock, 12.5, 4.5) + 0.30 * _bump(clock, 20.3, 3.2) - 0.08 * _bump(clock, 4.5, 3.0)
    # Heating in January, cooling in July.
    season = 1 + 0.15 * math.cos(4 * math.pi * (local.timetuple().tm_yday - 20) / _DAYS)
    # Weekends begin and end gradually over the night.
    week = (local.weekday() * 24 + clock) % 168
    weekend = min(max(week - 120 + 3, 0.0), max(171 - week, 0.0), 6.0) / 6
    return p.load * day * season * (1 - 0.08 * weekend) * (0.92 + 0.16 * wander(chance, x / 40))


def state(
    zone: str,
    hour: datetime,
    seed: int,
    variant: int = 0,
    *,
    neighbours: tuple[str, ...] | None = None,
    silent: frozenset[str] = frozenset(),
) -> State:
    """Production, consumption and flows of an hour of a zone.

    Args:
        zone: any zone key.
        hour: start of the hour, UTC.
        seed: seed of the weather.
        variant: 0 for the true values, others for the provider's earlier or later estimates.
        neighbours: replace those of `zones.py`.
        silent: unreported modes, in addition to those that are never reported.
    """
    p = profile(zone)
    x = hour.timestamp() / 3600
    years = _years(hour)

    def walk(name: str, hours: float) -> float:
        return wander(stream(name, zone, seed), x / hours)

    def shaken(value: float, name: str, share: float) -> float:
        if variant == 0:
            return value
        return value * (1 + share * (2 * draw(stream("opinion", name, zone, seed), int(x) << 20 | variant) - 1))

    local = hour.astimezone(_time_zone(zone))
    evening = _bump(local.hour + 0.5, 20.5, 2.8)
    light = sun(hour, p.latitude, p.longitude)
    demand = shaken(_demand(local, p, x, stream("load", zone, seed)), "load", 0.03)

    gusts = 0.65 * walk("wind", 31) + 0.35 * walk("gusts", 9)
    # Lignite varies slowly and gives way to solar power in the middle of the day.
    burnt = (0.55 + 0.85 * walk("coal", 170)) * (1.07 - 0.25 * light)
    own = {
        "biomass": p.biomass * (0.8 + 0.2 * walk("biomass", 48)),
        "coal": shaken(p.coal * trend(p, "coal", years) * burnt, "coal", 0.04),
        "geothermal": 0.0,
        "hydro": shaken(p.hydro * (0.05 + 0.18 * evening + 0.16 * walk("rain", 300)), "hydro", 0.05),
        "nuclear": p.nuclear * (0.75 + 0.25 * walk("nuclear", 700)),
        "oil": p.load * 0.001 * walk("oil", 12),
        "solar": shaken(p.solar * trend(p, "solar", years) * light * (0.3 + 0.55 * walk("clouds", 30)), "solar", 0.08),
        "unknown": p.load * 0.004 * walk("unknown", 15),
        "wind": shaken(p.wind * trend(p, "wind", years) * 0.85 * gusts**1.8, "wind", 0.08),
    }
    missing = silent.union(p.not_reported)
    own = {mode: 0.0 if mode in missing else megawatts for mode, megawatts in own.items()}

    listed = zone_facts(zone).neighbours if neighbours is None else neighbours
    flows = {n: _inflow(zone, n, hour, seed) for n in listed}
    gas = 0.0 if "gas" in missing else p.gas * trend(p, "gas", years)
    amounts = _dispatched(own, demand - sum(flows.values()), gas, p, missing, evening)
    production = {mode: None if mode in missing else round(amounts[mode]) for mode in MODE_KEYS}
    imports = {n: max(0, flow) for n, flow in flows.items()}
    exports = _spared({n: max(0, -flow) for n, flow in flows.items()}, production, imports)
    return State(production, _traced(production, imports, exports, light), imports, exports)


def _inflow(zone: str, neighbour: str, hour: datetime, seed: int) -> int:
    """Net import over a border, MW; the neighbour's own value has the opposite sign."""
    first, second = sorted((zone, neighbour))
    pull = 2.2 * wander(stream("flow", first, second, seed), hour.timestamp() / 46_800) - 1.1
    lean = _lean(zone, hour) - _lean(neighbour, hour)
    return round(border(zone, neighbour) * max(-1.0, min(1.0, (pull if zone == first else -pull) + lean)))


@lru_cache(maxsize=1024)
def _lean(zone: str, hour: datetime) -> float:
    p = profile(zone)
    if not p.importing:
        return 0.0
    years = _years(hour)
    return p.importing - 0.3 * sun(hour, p.latitude, p.longitude) * (trend(p, "solar", years) - 1)


def _dispatched(
    own: dict[str, float], needed: float, gas: float, p: Profile, missing: frozenset[str], evening: float
) -> dict[str, float]:
    """Production of all modes when gas, storage and reservoirs close the balance; MW, negative while charging."""
    left = needed - math.fsum(own.values())
    pumped = 0.0 if "hydro discharge" in missing else p.pumped
    battery = 0.0 if "battery discharge" in missing else p.battery
    least = min(gas, p.load * 0.085)
    spare = max(0.0, p.load * 0.24 - left)
    given = max(0.0, left - 2 * least) * evening
    water = min(pumped * 0.8, 0.25 * given) - min(pumped, 0.7 * spare)
    cells = min(battery * 0.8, 0.05 * given) - min(battery, 0.2 * spare)
    left -= water + cells
    burnt = min(gas, max(least, left))
    surplus = burnt - left
    amounts = {**own, "gas": burnt, "hydro discharge": water, "battery discharge": cells}
    if surplus > 0:
        # On a surplus, wind and solar power are curtailed.
        weather = own["wind"] + own["solar"]
        kept = 1 - min(surplus, weather) / weather if weather else 1.0
        amounts["wind"] *= kept
        amounts["solar"] *= kept
    elif "hydro" not in missing:
        amounts["hydro"] += min(-surplus, max(0.0, p.hydro - own["hydro"]))
    return amounts


def _spared(
    exports: dict[str, int], production: Mapping[str, int | None], imports: Mapping[str, int]
) -> dict[str, int]:
    """The exports, limited to half of production and imports."""
    half = max(0, sum(mw or 0 for mw in production.values()) + sum(imports.values())) // 2
    total = sum(exports.values())
    return exports if total <= half else {n: mw * half // total for n, mw in exports.items()}


def _traced(
    production: Mapping[str, int | None], imports: Mapping[str, int], exports: Mapping[str, int], daylight: float
) -> dict[str, int]:
    """Consumption of each mode: production and imports, less the share that was exported or stored."""
    supply = {mode: float(max(0, production[mode] or 0)) for mode in MODE_KEYS}
    for neighbour, megawatts in imports.items():
        if megawatts:
            for mode, share in mix(neighbour, daylight).items():
                supply[mode] += share * megawatts
    available = math.fsum(supply.values())
    total = sum(mw or 0 for mw in production.values()) + sum(imports.values()) - sum(exports.values())
    kept = total / available if available else 0.0
    consumption = {mode: round(megawatts * kept) for mode, megawatts in supply.items()}
    # The rounding error of twelve modes can reach six; in bodies it must not exceed two.
    missed = total - sum(consumption.values())
    if abs(missed) > 1:
        largest = max(consumption, key=lambda mode: consumption[mode])
        consumption[largest] += missed - (1 if missed > 0 else -1)
    return consumption


def intensity(zone: str, consumption: Mapping[str, int], factors: Mapping[str, int] = LIFECYCLE) -> int | None:
    """Carbon intensity of the consumption, gCO2eq/kWh; None without consumption."""
    total = sum(consumption.values())
    if not total:
        return None
    emitted = math.fsum(factors[mode] * megawatts for mode, megawatts in consumption.items())
    lignite = (profile(zone).dirtier_coal - 1) * factors["coal"] * consumption["coal"]
    return round((emitted + lignite) / total)
