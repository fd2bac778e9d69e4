"""Checks which roads to the power feed the token is served: power-breakdown of v3 and v4, and electricity-mix of v4."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from emaps_dagster.cli.preflight.findings import Finding, ok, warning
from emaps_dagster.contracts.errors import ProviderError, RateLimitedError, RejectedBodyError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.signals import MIX_SIGNALS, request_name
from emaps_dagster.contracts.zones import CARBON, POWER, Feed
from emaps_dagster.electricity_maps.client import ElectricityMapsClient


@dataclass(frozen=True)
class Road:
    """A road: the base URL, the power signal, and the requests that it needs."""

    url: str
    signal: str
    feeds: tuple[Feed, ...]

    @property
    def name(self) -> str:
        return f"{self.signal} of {self.url.rpartition('/')[2]}"

    @property
    def settings(self) -> str:
        return f"EMAPS_API_URL={self.url} and EMAPS_POWER_SIGNAL={self.signal}"


def roads_of(url: str) -> tuple[Road, ...]:
    """The roads of the host; of an address without version only the one that is set."""
    versioned = re.fullmatch(r"(.+)/[vV]\d+", url)
    if versioned is None:
        return Road(url, POWER.endpoint, (CARBON, POWER)), Road(url, "electricity-mix", (CARBON, *MIX_SIGNALS))
    root = versioned[1]
    return (
        Road(f"{root}/v3", POWER.endpoint, (CARBON, POWER)),
        Road(f"{root}/v4", POWER.endpoint, (CARBON, POWER)),
        Road(f"{root}/v4", "electricity-mix", (CARBON, *MIX_SIGNALS)),
    )


def roads(settings: Settings, client_of: Callable[[str], ElectricityMapsClient]) -> Iterator[Finding]:
    """Check the roads with one request of each signal for the first zone: at most nine calls.

    Args:
        settings: name the road that runs take.
        client_of: makes the client of a base URL.
    """
    zone = settings.zones[0]
    answers: dict[tuple[str, Feed], str | None] = {}
    tried = roads_of(settings.api_url)
    for url in dict.fromkeys(road.url for road in tried):
        with client_of(url) as client:
            for feed in dict.fromkeys(feed for road in tried if road.url == url for feed in road.feeds):
                answers[url, feed] = _refusal(client, feed, zone)
    refused = {
        road: "; ".join(
            sorted(
                f"{request_name(feed)}: {why}"
                for feed in road.feeds
                if (why := answers[road.url, feed]) and not feed.is_optional
            )
        )
        for road in tried
    }
    served = [road for road in tried if not refused[road]]
    for road in tried:
        is_taken = (road.url, road.signal) == (settings.api_url, settings.power_signal)
        if road in served:
            lacking = [feed.endpoint for feed in road.feeds if answers[road.url, feed]]
            without = f", without {' and '.join(lacking)}, so that their columns are null" if lacking else ""
            yield ok(f"{road.name} is served for zone {zone}{without}{'; runs take it' if is_taken else ''}.")
        elif is_taken:
            remedy = (
                f"Set {served[-1].settings}, which is served"
                if served
                else "No other road is served: look at the token's plan"
            )
            yield warning(f"{road.name}, which runs take, is not served for zone {zone} ({refused[road]}). {remedy}.")
        else:
            yield ok(f"{road.name} is not served for zone {zone} ({refused[road]}); no run takes it.")


def _refusal(client: ElectricityMapsClient, feed: Feed, zone: str) -> str | None:
    """The kind of error of a request; None when it is answered."""
    try:
        client.history(feed, zone)
    except RejectedBodyError as error:
        return error.reason
    except RateLimitedError:
        return "not tried, EMAPS_CALLS_PER_MINUTE allows no call now"
    except ProviderError as error:
        return type(error).__name__
    return None
