"""Checks of what the long road adds: means that mix two roads, and flows that the provider carried forward."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.quality.factors import in_words, mixed_in_24_hours
from emaps_dagster.transforms.quality.gold import GoldEvidence
from emaps_dagster.transforms.quality.outcome import Finding, Outcome
from emaps_dagster.transforms.quality.silver_evidence import Key, SilverEvidence, rows_of

_MIX = "electricity-mix"
# Of 59 recorded hours whose flows had settled (FR and DK-DK2, 2026), none shared a flow with the hour before; of six
# that had not settled, two shared two. A cable may run flat, so one alone is no sign.
_FEWEST_CARRIED = 2
_LEAST_FLOW_MW = 10.0


def rolling_avg_24h_is_of_one_power_signal(evidence: GoldEvidence) -> Outcome:
    """The values in each 24-hour mean of the power feed are of one signal: whole MW, or MW with decimals."""
    rows = rows_of(evidence.silver.select(["zone", "datetime", "source_power"]))
    keys = {(row["zone"], row["datetime"]) for row in evidence.plain_rows}
    findings = [
        Finding(zone, hour, f"the 24-hour means of production, consumption and flows mix {in_words(signals)}")
        for (zone, hour), signals in sorted(mixed_roads(rows).items())
        if (zone, hour) in keys
    ]
    return Outcome(len(keys), tuple(findings))


def mixed_roads(rows: Iterable[Mapping[str, Any]]) -> dict[Key, Counter[str]]:
    """Hours whose last 24 hours are of several power signals, with the number of hours of each.

    Another version of the API with the same signal has the same numbers.
    """
    signals: dict[str, dict[datetime, str]] = defaultdict(dict)
    for row in rows:
        if row["source_power"] is not None:
            signals[row["zone"]][row["datetime"]] = row["source_power"].rpartition("/")[2]
    return mixed_in_24_hours(signals)


def flows_are_not_carried_forward(evidence: SilverEvidence) -> Outcome:
    """No hour of electricity-mix has two or more flows, unchanged to the MW, of the hour before.

    Until an hour's flows are reported the provider shows those of the hour before, also in records marked as measured.
    A flow that is its border's largest in these hours is taken for a line at its limit.
    """
    rows = {(row["zone"], row["datetime"]): row for row in evidence.rows}
    largest: dict[tuple[str, tuple[str, str]], float] = defaultdict(float)
    for row in evidence.rows:
        for border, megawatts in _flows(row).items():
            key = row["zone"], border
            largest[key] = max(largest[key], megawatts)
    findings = []
    judged = 0
    for (zone, hour), row in sorted(rows.items()):
        before = rows.get((zone, hour - HOUR))
        if before is None or not (row["source_power"] or "").endswith(f"/{_MIX}"):
            continue
        judged += 1
        earlier = _flows(before)
        same = [
            f"{' '.join(border)} {megawatts:g} MW"
            for border, megawatts in sorted(_flows(row).items())
            if earlier.get(border) == megawatts and megawatts < largest[zone, border]
        ]
        if len(same) >= _FEWEST_CARRIED:
            findings.append(Finding(zone, hour, f"flows of the hour before: {', '.join(same)}"))
    return Outcome(judged, tuple(findings))


def _flows(row: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """The flows of an hour by direction and neighbour, without small ones."""
    return {
        (way, neighbour): megawatts
        for way in ("import", "export")
        for neighbour, megawatts in (row[f"{way}_by_zone"] or {}).items()
        if megawatts is not None and megawatts >= _LEAST_FLOW_MW
    }
