"""Detects flows that gold drops: neighbours in silver's maps without columns in gold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from emaps_dagster.contracts.zones import ZONES, neighbours_of, zone_facts
from emaps_dagster.transforms.quality.outcome import Finding, Outcome
from emaps_dagster.transforms.quality.silver_evidence import SilverEvidence

_MAPS = {"import": "import_by_zone", "export": "export_by_zone"}


def neighbours_have_columns(evidence: SilverEvidence) -> Outcome:
    """Every neighbour with a flow to or from a configured zone has its columns in gold."""
    findings = []
    values = {(row["zone"], row["datetime"]): row for row in evidence.rows}
    for (zone, neighbour), hours in sorted(without_columns(evidence.rows, evidence.zones).items()):
        why = reason(zone, absent(evidence.rows, zone, hours))
        for hour in hours:
            flows = [
                f"{direction} {neighbour} is {mw:g} MW"
                for direction, map_ in _MAPS.items()
                if (mw := (values[zone, hour][map_] or {}).get(neighbour)) is not None
            ]
            findings.append(Finding(zone, hour, f"{', '.join(flows)}, and gold has no column for it: {why}"))
    return Outcome(len(evidence.rows), tuple(findings))


def without_columns(
    rows: Iterable[Mapping[str, Any]], zones: tuple[str, ...]
) -> dict[tuple[str, str], tuple[datetime, ...]]:
    """The hours, by (zone, neighbour), in which a configured zone has a flow without a column in gold.

    Args:
        rows: of silver, flow maps as dicts.
        zones: the configured zones, which decide gold's columns.
    """
    known = set(neighbours_of(zones))
    found: dict[tuple[str, str], set[datetime]] = defaultdict(set)
    for row in rows:
        if row["zone"] in zones:
            for map_ in _MAPS.values():
                for neighbour, mw in (row[map_] or {}).items():
                    if mw is not None and neighbour not in known:
                        found[row["zone"], neighbour].add(row["datetime"])
    return {key: tuple(sorted(hours)) for key, hours in found.items()}


def absent(rows: Iterable[Mapping[str, Any]], zone: str, hours: Iterable[datetime]) -> tuple[str, ...]:
    """The listed neighbours of a zone without a flow in any of the hours; these include a renamed one."""
    wanted = set(hours)
    seen = {
        neighbour
        for row in rows
        if row["zone"] == zone and row["datetime"] in wanted
        for map_ in _MAPS.values()
        for neighbour, mw in (row[map_] or {}).items()
        if mw is not None
    }
    return tuple(sorted(set(zone_facts(zone).neighbours) - seen))


def reason(zone: str, gone: tuple[str, ...]) -> str:
    """Reason for the missing column, with the neighbours that may have been renamed."""
    if zone not in ZONES:
        return f"zones.py does not list the zone {zone}"
    renamed = f"; {', '.join(gone)}, which it lists, has no flow in these hours: perhaps renamed" if gone else ""
    return f"zones.py does not list it as a neighbour of {zone}{renamed}"
