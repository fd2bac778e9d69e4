"""The API plan of the token: the endpoints it serves for each zone, parsed from `/zones`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emaps_dagster.contracts.zones import FEEDS, Feed
from emaps_dagster.monitoring.hour_ranges import oldest_history_hour


@dataclass(frozen=True)
class Plan:
    """The zones for which the plan serves hours older than a day (`past_range`) and the list of updates."""

    past_range: frozenset[str]
    updated_since: frozenset[str]

    def oldest_served(self, zone: str, now: datetime, first: datetime) -> datetime:
        """The oldest hour that can be requested."""
        return first if zone in self.past_range else max(first, oldest_history_hour(now))

    def as_json(self) -> dict[str, list[str]]:
        return {"past_range": sorted(self.past_range), "updated_since": sorted(self.updated_since)}

    @classmethod
    def from_json(cls, value: Mapping[str, list[str]]) -> Plan:
        return cls(frozenset(value["past_range"]), frozenset(value["updated_since"]))


def plan_from(listed: Mapping[str, Any], zones: tuple[str, ...], signals: tuple[Feed, ...] = FEEDS) -> Plan:
    """Parse the plan from the body of `/zones`.

    A zone without an `access` list counts as served: the first request shows otherwise.
    """
    past, updates = set(), set()
    needed = [signal for signal in signals if not signal.is_optional]
    for zone in zones:
        entry = listed.get(zone)
        access = entry.get("access") if isinstance(entry, dict) else None
        allowed = {str(path) for path in access} if isinstance(access, list) else {"*"}
        if "*" in allowed or all(allowed & {f"{f.endpoint}/past-range", f"{f.endpoint}/past"} for f in needed):
            past.add(zone)
        # Every plan that serves past ranges serves the list of updates.
        if allowed & {"*", "updated-since"} or (zone in past and access):
            updates.add(zone)
    return Plan(frozenset(past), frozenset(updates))
