"""Zone profiles of the simulator: place, sizes, trends, borders, emission factors.

Our own orders of magnitude, chosen so that the grid resembles the zone; no value is a recorded one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from emaps_dagster.contracts.zones import MODE_KEYS
from emaps_dagster.simulator.noise import draw, stream

# gCO2eq/kWh, in the order of the modes. Storage discharges the mix that charged it.
LIFECYCLE = dict(zip(MODE_KEYS, (5, 38, 230, 1050, 12, 30, 11, 460, 900, 500, 250, 250), strict=True))
DIRECT = dict(zip(MODE_KEYS, (0, 0, 0, 970, 0, 0, 0, 380, 780, 420, 200, 200), strict=True))
RENEWABLE = ("geothermal", "biomass", "wind", "solar", "hydro")


@dataclass(frozen=True)
class Profile:
    """A zone's sizes in MW and its place.

    Attributes:
        load: mean demand.
        coal: mean coal power before its trend; the other modes are capacities.
        trends: a factor for each year from 2021 on, reached in the middle of the year, constant before and after.
        dirtier_coal: emissions of its coal relative to hard coal; higher for lignite.
        importing: tendency to import over its borders, in [-1, 1]; growing solar power reverses it.
        not_reported: modes that are null in production.
    """

    latitude: float
    longitude: float
    load: float
    solar: float
    wind: float
    coal: float
    gas: float
    hydro: float
    pumped: float
    battery: float
    biomass: float
    nuclear: float = 0
    dirtier_coal: float = 1.0
    importing: float = 0.0
    not_reported: tuple[str, ...] = ("nuclear", "geothermal")
    trends: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


_SOUTH_EAST = {
    "solar": (1.0, 1.15, 1.45, 1.7, 1.85, 1.9),
    "wind": (1.0, 1.05, 1.18, 1.25, 1.28, 1.3),
    "gas": (0.85, 0.88, 1.0, 1.0, 1.0, 1.05),
    "coal": (1.0, 0.98, 0.50, 0.36, 0.33, 0.32),
}
_GREECE = Profile(
    38.5, 23.0, 5950, 3700, 4500, 680, 6000, 2700, 680, 120, 100, dirtier_coal=1.5, importing=0.25, trends=_SOUTH_EAST
)
_PROFILES = {
    "GR": _GREECE,
    "AL": Profile(41.0, 20.0, 850, 60, 10, 0, 0, 2300, 0, 0, 0, not_reported=("nuclear", "geothermal", "coal", "gas")),
    "BG": Profile(
        42.7, 25.0, 4200, 1500, 700, 1700, 1200, 2300, 400, 60, 90, 2000, dirtier_coal=1.3,
        not_reported=("geothermal",), trends=_SOUTH_EAST,
    ),
    "IT-SO": Profile(40.8, 16.5, 3200, 4500, 7000, 200, 6500, 900, 150, 50, 250, trends=_SOUTH_EAST),
    "MK": Profile(41.6, 21.7, 750, 120, 70, 380, 280, 650, 0, 0, 8, dirtier_coal=1.4, trends=_SOUTH_EAST),
    "TR": Profile(39.0, 35.0, 37000, 12000, 12000, 11500, 26000, 31000, 0, 0, 1200),
    "DE": Profile(
        51.0, 10.0, 54000, 68000, 70000, 11000, 31000, 4500, 6500, 900, 5300, dirtier_coal=1.1,
        not_reported=("nuclear", "battery discharge"),
    ),
}  # fmt: skip

# Capacity of each border, MW; the Italian cable has 500.
_BORDERS = {"AL": 300, "BG": 750, "IT-SO": 500, "MK": 450, "TR": 220}
# Shares of modes in a neighbour's power; at night its first mode replaces the solar share.
_MIXES = {
    "AL": {"hydro": 1.0},
    "BG": {"coal": 0.36, "nuclear": 0.42, "hydro": 0.12, "solar": 0.10},
    "IT-SO": {"gas": 0.55, "wind": 0.25, "solar": 0.20},
    "MK": {"coal": 0.50, "hydro": 0.30, "gas": 0.15, "solar": 0.05},
    "TR": {"gas": 0.30, "coal": 0.35, "hydro": 0.20, "wind": 0.10, "solar": 0.05},
}
_OTHER_MIX = {"gas": 0.35, "coal": 0.20, "hydro": 0.20, "wind": 0.15, "solar": 0.10}


@lru_cache(maxsize=512)
def profile(zone: str) -> Profile:
    """The profile of a zone; an unlisted zone gets Greece's profile with another size and place."""
    if zone in _PROFILES:
        return _PROFILES[zone]
    chance = stream("profile", zone)
    size = 0.3 + 2 * draw(chance, 0)
    names = ("load", "solar", "wind", "coal", "gas", "hydro", "pumped", "battery", "biomass")
    sizes = {name: getattr(_GREECE, name) * size for name in names}
    return replace(
        _GREECE, importing=0.0, latitude=36 + 20 * draw(chance, 1), longitude=40 * draw(chance, 2) - 5, **sizes
    )


def trend(of: Profile, name: str, years: float) -> float:
    """The factor of a quantity, `years` after the start of 2021."""
    points = of.trends.get(name)
    if not points:
        return 1.0
    place = min(max(years - 0.5, 0.0), len(points) - 1.0)
    before = min(int(place), len(points) - 2)
    return points[before] + (points[before + 1] - points[before]) * (place - before)


def border(zone: str, neighbour: str) -> float:
    """Capacity of a border, MW, equal in both directions."""
    if "GR" in (zone, neighbour):
        return _BORDERS.get(neighbour if zone == "GR" else zone, 200)
    return min(profile(zone).load, profile(neighbour).load) / 12


def mix(neighbour: str, daylight: float) -> dict[str, float]:
    """Shares of modes in a neighbour's power; `daylight` in [0, 1], without solar power at night."""
    shares = dict(_MIXES.get(neighbour, _OTHER_MIX))
    first = next(iter(shares))
    dark = shares.pop("solar", 0.0)
    shares[first] += dark * (1 - daylight)
    if daylight > 0:
        shares["solar"] = dark * daylight
    return shares
