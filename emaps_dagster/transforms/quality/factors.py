"""Checks that means of carbon intensity do not mix `direct` and `lifecycle` emission factors, two quantities."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.quality.gold import GoldEvidence
from emaps_dagster.transforms.quality.outcome import Finding, Outcome
from emaps_dagster.transforms.quality.silver_evidence import Key, rows_of


def rolling_avg_24h_is_of_one_emission_factor_type(evidence: GoldEvidence) -> Outcome:
    """The values in each 24-hour mean of carbon_intensity have one emission factor type; unknown types are ignored.

    Counts silver's values, not gold's.
    """
    names = ["zone", "datetime", "carbon_intensity", "emission_factor_type"]
    mixed = mixed_hours(rows_of(evidence.silver.select(names)))
    keys = {(row["zone"], row["datetime"]) for row in evidence.plain_rows}
    findings = [
        Finding(zone, hour, f"rolling_avg_carbon_intensity_24h mixes {in_words(types)}")
        for (zone, hour), types in sorted(mixed.items())
        if (zone, hour) in keys
    ]
    return Outcome(len(keys), tuple(findings))


def mixed_hours(rows: Iterable[Mapping[str, Any]]) -> dict[Key, Counter[str]]:
    """Hours whose last 24 hours have values of several types, with the number of values of each."""
    types: dict[str, dict[datetime, str]] = defaultdict(dict)
    for row in rows:
        if row["carbon_intensity"] is not None and row["emission_factor_type"] is not None:
            types[row["zone"]][row["datetime"]] = row["emission_factor_type"]
    return mixed_in_24_hours(types)


def mixed_in_24_hours(kinds: Mapping[str, Mapping[datetime, str]]) -> dict[Key, Counter[str]]:
    """The hours whose last 24 hours are of several kinds, with the number of hours of each.

    Args:
        kinds: by zone, the kind of each hour that has one.
    """
    found: dict[Key, Counter[str]] = {}
    for zone, hours in kinds.items():
        if len(set(hours.values())) > 1:
            for hour in {start + number * HOUR for start in hours for number in range(24)}:
                counted = Counter(hours[past] for number in range(24) if (past := hour - number * HOUR) in hours)
                if len(counted) > 1:
                    found[zone, hour] = counted
    return found


def in_words(types: Mapping[str, int]) -> str:
    """Formats the counts as `direct (1 value) and lifecycle (23 values)`."""
    return " and ".join(f"{name} ({n} value{'s' * (n > 1)})" for name, n in sorted(types.items()))
