"""A grid that looks Greek: what every mode and border did in an hour, computed from the hour alone.

Shapes follow what is known of Greece (capacities, demand, yearly carbon intensity); no recorded
value is in here. `variant` 0 is the truth, others are earlier opinions of it.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from emaps_dagster.zones import MODE_KEYS, zone_facts

# Lifecycle gCO2eq/kWh, the orders of magnitude that the provider publishes for the region.
FACTORS = {
    "nuclear": 5.0,
    "geothermal": 38.0,
    "biomass": 230.0,
    "coal": 1150.0,
    "wind": 13.0,
    "solar": 35.0,
    "hydro": 11.0,
    "gas": 490.0,
    "oil": 900.0,
    "unknown": 600.0,
    "hydro discharge": 200.0,
    "battery discharge": 200.0,
}
RENEWABLE = ("geothermal", "biomass", "wind", "solar", "hydro")


@dataclass(frozen=True)
class Profile:
    """A zone's size in MW and its place; `not_reported` modes are null in production."""

    latitude: float
    longitude: float
    load: float
    solar: float
    wind: float
    coal: float
    hydro: float
    biomass: float
    nuclear: float
    not_reported: tuple[str, ...]


_GREECE = Profile(38.5, 23.0, 5800, 3300, 4300, 1900, 2700, 90, 0, ("nuclear", "geothermal"))
_PROFILES = {
    "GR": _GREECE,
    "BG": Profile(42.7, 25.0, 4300, 1900, 700, 3200, 2300, 60, 2000, ("geothermal", "battery discharge")),
    "DE": Profile(51.0, 10.0, 56000, 60000, 62000, 24000, 3500, 5300, 0, ("nuclear", "battery discharge")),
}
# What flows over a border at most, MW; the Italian cable carries 500.
_BORDER_MW = {"IT-SO": 500}
# What a neighbour sends, as shares: only the Bulgarian mix has nuclear power in it.
_NEIGHBOUR_MIX = {
    "AL": {"hydro": 1.0},
    "BG": {"nuclear": 0.4, "coal": 0.35, "solar": 0.15, "hydro": 0.1},
    "IT-SO": {"gas": 0.6, "wind": 0.25, "solar": 0.15},
    "MK": {"coal": 0.6, "hydro": 0.25, "gas": 0.15},
    "TR": {"gas": 0.35, "coal": 0.35, "hydro": 0.2, "wind": 0.1},
}
_OTHER_MIX = {"gas": 0.4, "coal": 0.2, "hydro": 0.2, "wind": 0.2}


@dataclass(frozen=True)
class State:
    """One hour of one zone, whole MW; `None` is not reported."""

    production: dict[str, int | None]
    consumption: dict[str, int]
    imports: dict[str, int]
    exports: dict[str, int]
    carbon_intensity: int


def draw(*what: object) -> float:
    """A number in [0, 1) that is the same for the same arguments in every process."""
    return zlib.crc32("|".join(map(str, what)).encode()) / 2**32


def wander(hours: float, *what: object) -> float:
    """A smooth walk through [0, 1]: drawn knots, joined by a cosine."""
    before = math.floor(hours)
    share = (1 - math.cos(math.pi * (hours - before))) / 2
    return draw(before, *what) * (1 - share) + draw(before + 1, *what) * share


@lru_cache(maxsize=512)
def profile(zone: str) -> Profile:
    """The profile of a zone; one that is not listed is a scaled Greece."""
    if zone in _PROFILES:
        return _PROFILES[zone]
    size = 0.3 + 2 * draw("size", zone)
    return Profile(
        36 + 20 * draw("latitude", zone),
        40 * draw("longitude", zone) - 5,
        _GREECE.load * size,
        _GREECE.solar * size,
        _GREECE.wind * size,
        _GREECE.coal * size,
        _GREECE.hydro * size,
        _GREECE.biomass * size,
        0,
        _GREECE.not_reported,
    )


@lru_cache(maxsize=512)
def _time_zone(zone: str) -> ZoneInfo:
    return ZoneInfo(zone_facts(zone).time_zone or "UTC")


def sun(hour: datetime, latitude: float, longitude: float) -> float:
    """Sine of the sun's height in the middle of the hour, 0 at night."""
    middle = hour + timedelta(minutes=30)
    day = middle.timetuple().tm_yday
    declination = math.radians(-23.44) * math.cos(2 * math.pi * (day + 10) / 365.25)
    clock = middle.hour + middle.minute / 60 + longitude / 15
    angle = math.pi / 12 * (clock - 12)
    lat = math.radians(latitude)
    height = math.sin(lat) * math.sin(declination) + math.cos(lat) * math.cos(declination) * math.cos(angle)
    return max(0.0, height)


def _demand(hour: datetime, zone: str, p: Profile, x: float, seed: int) -> float:
    local = hour.astimezone(_time_zone(zone))
    day_shape = (
        0.86
        + 0.16 * math.exp(-(((local.hour - 12.5) / 4.0) ** 2))
        + 0.27 * math.exp(-(((local.hour - 20.5) / 3.0) ** 2))
        - 0.12 * math.exp(-(((local.hour - 4) / 3.0) ** 2))
    )
    day = local.timetuple().tm_yday
    season = 1 + 0.10 * math.cos(2 * math.pi * (day - 15) / 365.25) + 0.20 * math.exp(-(((day - 205) / 32) ** 2))
    weekend = 0.92 if local.weekday() >= 5 else 1.0
    return p.load * day_shape * season * weekend * (0.95 + 0.10 * wander(x / 30, "load", zone, seed))


def state(zone: str, hour: datetime, seed: int, variant: int = 0) -> State:
    """What happened in an hour of a zone.

    Args:
        zone: any zone key.
        hour: start of the hour, UTC.
        seed: another seed is another weather.
        variant: 0 for the truth, others for what the provider thought of it before.
    """
    p = profile(zone)
    x = hour.timestamp() / 3600
    years = max(0.0, (x - 447_072) / 8766)  # since 2021-01-01

    def shaken(value: float, name: str, share: float) -> float:
        return value if variant == 0 else value * (1 + share * (2 * draw(variant, name, zone, x, seed) - 1))

    demand = shaken(_demand(hour, zone, p, x, seed), "load", 0.03)
    clouds = 0.35 + 0.65 * wander(x / 20, "clouds", zone, seed)
    solar = shaken(p.solar * (1 + 0.25 * years) * sun(hour, p.latitude, p.longitude) * clouds * 0.75, "solar", 0.08)
    gusts = 0.65 * wander(x / 31, "wind", zone, seed) + 0.35 * wander(x / 7, "gusts", zone, seed)
    wind = shaken(p.wind * (1 + 0.06 * years) * gusts**2 * 0.8, "wind", 0.10)

    flows = {
        n: round(_BORDER_MW.get(n, p.load / 10) * (2 * wander(x / 11, "flow", n, zone, seed) - 0.85))
        for n in zone_facts(zone).neighbours
    }
    imports = {n: max(0, flow) for n, flow in flows.items()}
    exports = {n: max(0, -flow) for n, flow in flows.items()}
    net = sum(flows.values())

    coal = shaken(
        p.coal * max(0.12, 0.85 - 0.16 * years) * (0.5 + 0.7 * wander(x / 90, "coal", zone, seed)), "coal", 0.04
    )
    evening = math.exp(-(((hour.astimezone(_time_zone(zone)).hour - 20) / 3) ** 2))
    hydro = shaken(p.hydro * (0.05 + 0.25 * evening + 0.15 * wander(x / 200, "rain", zone, seed)), "hydro", 0.05)
    fixed = {
        "nuclear": p.nuclear * 0.9,
        "geothermal": 0.0,
        "biomass": p.biomass * (0.8 + 0.2 * wander(x / 48, "biomass", zone, seed)),
        "coal": coal,
        "wind": wind,
        "solar": solar,
        "hydro": hydro,
        "oil": p.load * 0.001 * wander(x / 12, "oil", zone, seed),
        "unknown": p.load * 0.002 * wander(x / 9, "unknown", zone, seed),
    }
    left = demand - net - sum(fixed.values())
    # Storage charges from a midday surplus and gives in the evening; the rest of a surplus is curtailed.
    pumped = -min(p.hydro * 0.25, max(0.0, p.load * 0.15 - left)) if solar > 0 else p.hydro * 0.10 * evening
    battery = -min(p.load * 0.02, -pumped / 4) if pumped < 0 else p.load * 0.02 * evening
    gas = max(p.load * 0.05, left - pumped - battery)
    amounts = {**fixed, "gas": gas, "hydro discharge": pumped, "battery discharge": battery}
    production: dict[str, int | None] = {
        mode: None if mode in p.not_reported else round(amounts[mode]) for mode in MODE_KEYS
    }
    consumption = _traced(production, imports, exports)
    total = sum(consumption.values())
    intensity = sum(FACTORS[mode] * mw for mode, mw in consumption.items()) / total if total else 0.0
    return State(production, consumption, imports, exports, round(intensity))


def _traced(production: dict[str, int | None], imports: dict[str, int], exports: dict[str, int]) -> dict[str, int]:
    """What was consumed of each mode: everything that came in, less the share that left or was stored."""
    supply = {mode: float(max(0, production[mode] or 0)) for mode in MODE_KEYS}
    for neighbour, megawatts in imports.items():
        for mode, share in _NEIGHBOUR_MIX.get(neighbour, _OTHER_MIX).items():
            supply[mode] += share * megawatts
    available = sum(supply.values())
    stored = -sum(min(0, value or 0) for value in production.values())
    kept = (available - stored - sum(exports.values())) / available if available else 0.0
    return {mode: round(megawatts * max(0.0, kept)) for mode, megawatts in supply.items()}
