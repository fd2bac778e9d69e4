"""Facts of the domain: feeds, modes, zones with their neighbours and time zones.

Standard library only, no I/O. Table names are in `tables.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Feed:
    """One signal of the API.

    Attributes:
        name: our name for it.
        endpoint: the API's path segment.
        breakdown: the `breakdownType` to request, for signals that have one.
        unit: unit that the envelope states, for signals that state one.
        is_optional: a plan without it loses only these columns.
    """

    name: str
    endpoint: str
    breakdown: str | None = None
    unit: str | None = None
    is_optional: bool = False


POWER = Feed("power", "power-breakdown")
CARBON = Feed("carbon", "carbon-intensity")
FEEDS = (POWER, CARBON)

# The API's keys, in the order of its bodies. Two of them contain a blank.
MODE_KEYS = (
    "nuclear",
    "geothermal",
    "biomass",
    "coal",
    "wind",
    "solar",
    "hydro",
    "gas",
    "oil",
    "unknown",
    "hydro discharge",
    "battery discharge",
)


def mode_column(mode_key: str) -> str:
    """The API's mode key as a column part: `hydro discharge` -> `hydro_discharge`."""
    return mode_key.replace(" ", "_")


def zone_column(zone_key: str) -> str:
    """A zone key as a column part: `IT-SO` -> `IT_SO`."""
    return zone_key.replace("-", "_")


MODES = tuple(mode_column(key) for key in MODE_KEYS)
# Modes whose production is negative while they charge; no other mode's is.
STORAGE_MODES = ("hydro_discharge", "battery_discharge")


@dataclass(frozen=True)
class Zone:
    """A zone; `neighbours` are the keys of the API's import and export maps.

    `time_zone` is an IANA name, `country` an ISO 3166 code for public holidays; None if unknown.
    """

    key: str
    name: str
    time_zone: str | None
    country: str | None
    neighbours: tuple[str, ...]


# Neighbours of GR: the provider's exchange configuration (AL_GR, BG_GR, GR_IT-SO, GR_MK, GR_TR).
# Neighbours of DE: the keys of the recorded v3 history of March 2024, all 24 hours.
_ZONES = (
    Zone("GR", "Greece", "Europe/Athens", "GR", ("AL", "BG", "IT-SO", "MK", "TR")),
    Zone("AL", "Albania", "Europe/Tirane", "AL", ("GR", "ME", "XK")),
    Zone("BG", "Bulgaria", "Europe/Sofia", "BG", ("GR", "MK", "RO", "RS", "TR")),
    Zone("IT-SO", "South Italy", "Europe/Rome", "IT", ("GR", "IT-CSO", "IT-SIC", "ME")),
    Zone("MK", "North Macedonia", "Europe/Skopje", "MK", ("BG", "GR", "RS", "XK")),
    Zone(
        "DE",
        "Germany",
        "Europe/Berlin",
        "DE",
        (
            "AT",
            "BE",
            "CH",
            "CZ",
            "DK-DK1",
            "DK-DK2",
            "FR",
            "LU",
            "NL",
            "NO-NO2",
            "PL",
            "SE-SE4",
        ),
    ),
)
ZONES = {zone.key: zone for zone in _ZONES}


def zone_facts(zone_key: str) -> Zone:
    """Facts of a zone; an unlisted zone has no local time, neighbours or holidays.

    Its flows stay in silver's maps; gold warns that it has no columns for them.
    """
    return ZONES.get(zone_key, Zone(zone_key, zone_key, None, None, ()))


@dataclass(frozen=True)
class WorldLimits:
    """Physical limits of any zone: a carbon intensity, a mode or total in MW, a flow over one border in MW."""

    carbon_intensity: tuple[float, float]
    carbon_intensity_source: str
    power: float
    power_source: str
    flow: float
    flow_source: str


WORLD = WorldLimits(
    # A mix never exceeds the factor of its dirtiest fuel. Greek lignite had 1,743.92 in 2019, the highest factor in the
    # provider's files of BG, DE, EE, FR, GR and PL; the other zones' files were not checked.
    carbon_intensity=(0.0, 1744.0),
    carbon_intensity_source="lignite of 2019, lifecycle, electricitymaps-contrib config/zones/GR.yaml",
    # A third more than that.
    power=2_000_000.0,
    power_source="the largest national load, China's of 2025, was 1,508,000 MW: NDRC, 1 August 2025",
    # Eight of them side by side.
    flow=100_000.0,
    flow_source="the largest single link, Changji-Guquan, carries 12,000 MW: Hitachi Energy",
)


@dataclass(frozen=True)
class PlausibleLimits:
    """Limits beyond which a value of a zone is an error of units, columns or source rather than a rare hour.

    `carbon_intensity` is the lowest and highest plausible value in gCO2eq/kWh, `capacity` the installed MW of a mode by
    the year from which it applies, `border` the MW that a neighbour's lines carry. Each names its source. The limits of
    the world apply to every mode, total and border, also where a zone has a narrower one.
    """

    carbon_intensity: tuple[float, float] = WORLD.carbon_intensity
    carbon_intensity_source: str = WORLD.carbon_intensity_source
    capacity: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    capacity_source: str = ""
    border: Mapping[str, float] = field(default_factory=dict)
    border_source: str = ""

    def most_produced(self, mode: str, year: int) -> float:
        """Largest plausible production of a mode in a year, MW; `mode` is one of `capacity`."""
        steps = self.capacity[mode]
        in_force = max((since for since in steps if since <= year), default=min(steps))
        # Plants built during the year produce before the next figure includes them.
        return _MARGIN * max(steps[in_force], steps.get(in_force + 1, 0.0) if in_force == year else 0.0)

    def most_over_border(self, neighbour: str) -> float:
        """Largest plausible flow to or from a neighbour of `border`, MW."""
        return _MARGIN * self.border[neighbour]


_OF_ANY_ZONE = PlausibleLimits()
# Registered capacity lags behind construction: Greek solar has grown by a third a year, by `_LIMITS`.
_MARGIN = 1.25

# Zones that are not listed are checked for signs, percentages and the limits of the world only.
_LIMITS = {
    "GR": PlausibleLimits(
        # Only nuclear power has a lower factor in GR.yaml than hydro, 5.13, and Greece has none. 918 is the highest
        # hour of 2022, 739.52, plus the largest step between two hours of that year, 178.49.
        carbon_intensity=(10.7, 918.0),
        carbon_intensity_source="hydro, lifecycle, electricitymaps-contrib config/zones/GR.yaml; hourly GR export of "
        "2022, Electricity Maps",
        # From 2021; the file has earlier years, too. Modes listed there with 0 MW are left out: the provider reports
        # some oil nevertheless.
        capacity={
            "biomass": {2021: 95, 2022: 106, 2023: 127, 2024: 120, 2025: 146, 2026: 150},
            "coal": {2021: 2561, 2022: 2001, 2023: 2650, 2025: 1800, 2026: 1500},
            "gas": {2021: 4902, 2022: 5213, 2023: 6030, 2026: 6680},
            "hydro": {2021: 2715, 2022: 2722, 2023: 2724, 2024: 2730, 2025: 2708, 2026: 2715},
            "hydro_discharge": {2021: 699},
            "solar": {2021: 3055, 2022: 3820, 2023: 5100, 2024: 6700, 2025: 9000, 2026: 9800},
            "unknown": {2021: 106, 2022: 109, 2023: 120, 2024: 128, 2025: 132, 2026: 165},
            "wind": {2021: 3755, 2022: 4150, 2023: 4547, 2024: 5065, 2025: 5225, 2026: 5460},
        },
        capacity_source="installed capacity, entsoe.eu, in electricitymaps-contrib config/zones/GR.yaml",
        border={"IT-SO": 500},
        border_source="the Arachthos-Galatina cable, electricitymaps-contrib config/exchanges/GR_IT-SO.yaml",
    ),
    "DE": PlausibleLimits(
        # Six reactors until the end of 2021, three until 15 April 2023, none since. Wind and sun of the end of 2024,
        # 63,500 MW of wind on land and 9,200 at sea, hold for the years before as well: they only grew.
        capacity={
            "nuclear": {2021: 8114, 2022: 4056, 2024: 0},
            "solar": {2021: 99_300, 2026: 124_341},
            "wind": {2021: 72_700, 2026: 80_417},
        },
        capacity_source="nuclear: Fraunhofer ISE, in electricitymaps-contrib config/zones/DE.yaml; wind and sun: "
        "Bundesnetzagentur, 8 January 2025, from 2026 the same file",
    ),
    "FR": PlausibleLimits(
        # 56 reactors, and Flamanville 3 since December 2024.
        capacity={"nuclear": {2021: 61_370, 2025: 62_990}},
        capacity_source="installed capacity, entsoe.eu, in electricitymaps-contrib config/zones/FR.yaml",
    ),
}


def limits_of(zone_key: str) -> PlausibleLimits:
    """The plausible limits of a zone; those of the world where no narrower ones are known."""
    return _LIMITS.get(zone_key, _OF_ANY_ZONE)


def neighbours_of(zone_keys: tuple[str, ...]) -> tuple[str, ...]:
    """Every neighbour of the given zones, once, sorted."""
    return tuple(sorted({n for key in zone_keys for n in zone_facts(key).neighbours}))
