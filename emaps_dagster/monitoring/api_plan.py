"""What the token's plan serves, as far as the provider's list of zones says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emaps_dagster.contracts.zones import FEEDS
from emaps_dagster.monitoring.hour_ranges import oldest_history_hour


@dataclass(frozen=True)
class Plan:
    """Zones whose hours of more than a day ago, and whose list of updates, the plan serves."""

    past_range: frozenset[str]
    updated_since: frozenset[str]

    def oldest_served(self, zone: str, now: datetime, first: datetime) -> datetime:
        """The oldest hour that can be asked for."""
        return first if zone in self.past_range else max(first, oldest_history_hour(now))

    def as_json(self) -> dict[str, list[str]]:
        return {"past_range": sorted(self.past_range), "updated_since": sorted(self.updated_since)}

    @classmethod
    def from_json(cls, value: Mapping[str, list[str]]) -> Plan:
        return cls(frozenset(value["past_range"]), frozenset(value["updated_since"]))


def plan_from(listed: Mapping[str, Any], zones: tuple[str, ...]) -> Plan:
    """The plan as `/zones` describes it.

    A zone for which the list says nothing of access is taken to be served: asking tells.
    """
    past, updates = set(), set()
    for zone in zones:
        entry = listed.get(zone)
        access = entry.get("access") if isinstance(entry, dict) else None
        allowed = {str(one) for one in access} if isinstance(access, list) else {"*"}
        if "*" in allowed or all(allowed & {f"{f.endpoint}/past-range", f"{f.endpoint}/past"} for f in FEEDS):
            past.add(zone)
        # It belongs to the plans that have the past.
        if allowed & {"*", "updated-since"} or (zone in past and access):
            updates.add(zone)
    return Plan(frozenset(past), frozenset(updates))
