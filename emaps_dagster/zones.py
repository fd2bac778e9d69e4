"""Facts of the domain: feeds, modes, zones with their neighbours and time zones.

Standard library only. No table names, no I/O: those live in `tables.py` and `lakehouse.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Feed:
    """One signal of the API: `name` is our word for it, `endpoint` the API's path segment."""

    name: str
    endpoint: str


POWER = Feed("power", "power-breakdown")
CARBON = Feed("carbon", "carbon-intensity")
FEEDS = (POWER, CARBON)

# The API's keys, in the order of its bodies. Two of them carry a blank.
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


@dataclass(frozen=True)
class Zone:
    """`neighbours` are the zone keys the API's import and export maps use.

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
    """What is known of a zone; a zone not listed has no local time, neighbours or holidays.

    Its flows stay in silver's maps; `gold` warns that it has no columns for them.
    """
    return ZONES.get(zone_key, Zone(zone_key, zone_key, None, None, ()))


def neighbours_of(zone_keys: tuple[str, ...]) -> tuple[str, ...]:
    """Every neighbour of the given zones, once, sorted."""
    return tuple(sorted({n for key in zone_keys for n in zone_facts(key).neighbours}))
