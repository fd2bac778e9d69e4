"""The two roads to the power feed: v3's and v4's `power-breakdown`, or the signals of v4 that replace it.

`electricity-mix` on v3 has another contract, so its parsers serve v4 only (docs/adr/0019).
"""

from __future__ import annotations

from typing import Literal, get_args

from emaps_dagster.contracts.zones import POWER, Feed

PUBLIC_API_URL_V4 = "https://api.electricitymaps.com/v4"

PowerSignal = Literal["power-breakdown", "electricity-mix"]
POWER_SIGNALS: tuple[str, ...] = get_args(PowerSignal)

MIX = Feed("mix", "electricity-mix", breakdown="normal", unit="MW")
TRACED_MIX = Feed("traced_mix", "electricity-mix", breakdown="flow-traced", unit="MW")
FLOWS = Feed("flows", "electricity-flows", unit="MW")
RENEWABLE = Feed("renewable", "renewable-energy", unit="%", is_optional=True)
CARBON_FREE = Feed("carbon_free", "carbon-free-energy", unit="%", is_optional=True)

# In the order of the requests: the three that an hour needs are adjacent, so that few revisions fall between them.
MIX_SIGNALS = (MIX, TRACED_MIX, FLOWS, RENEWABLE, CARBON_FREE)
# An hour is assembled from these; without the others only its percentages and `created_at` are null.
NEEDED_SIGNALS = (MIX, TRACED_MIX, FLOWS)

# The keys of `mix`: ten modes with a number, and the storages with an object.
STORAGE_KEYS = {"hydro storage": "hydro discharge", "battery storage": "battery discharge"}


def request_name(feed: Feed) -> str:
    """A signal as people request it: `electricity-mix flow-traced`."""
    return f"{feed.endpoint} {feed.breakdown}" if feed.breakdown else feed.endpoint


def power_feeds(road: str) -> tuple[Feed, ...]:
    """The signals that a road requests for the power feed of a zone."""
    return MIX_SIGNALS if road == "electricity-mix" else (POWER,)
