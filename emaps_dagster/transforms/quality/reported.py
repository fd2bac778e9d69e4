"""Detects rows without data: values that are null, and values that a later ingestion replaced by nulls.

Null modes are normal: a zone without nuclear plants always reports null, and some report no solar power at night. So
one null mode is a finding only after a day, and only if the zone had values of it before. A total of which parts are
reported is never normal: of a column that stays null for weeks no hour with a value is left to compare with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from emaps_dagster.contracts.tables import FEED_VALUES
from emaps_dagster.contracts.zones import MODES
from emaps_dagster.transforms.quality.outcome import Finding, Outcome
from emaps_dagster.transforms.quality.silver_evidence import Key, RecordHistory, SilverEvidence

_MODES_OF = {side: tuple(f"{side}_{mode}" for mode in MODES) for side in ("production", "consumption")}
_PERCENTAGES = ("renewable_percentage", "fossil_free_percentage")
_FLOWS = ("import_total", "export_total")
_TYPE = "emission_factor_type"
_MAPS = ("import_by_zone", "export_by_zone")
# Longer than any night: a mode that stays null for longer is no longer reported.
LONGEST_SILENCE = timedelta(hours=24)
_NAMED = 4


def values_are_reported(evidence: SilverEvidence) -> Outcome:
    """Every hour that a feed delivered has values, and no value that was once reported is null now."""
    found: dict[Key, list[str]] = defaultdict(list)
    for source in (unreported(evidence.rows), _withdrawn(evidence.histories.values())):
        for key, what in source:
            found[key].append(what)
    findings = [Finding(zone, hour, "; ".join(what)) for (zone, hour), what in sorted(found.items())]
    return Outcome(len(evidence.rows), tuple(findings))


def unreported(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Key, str]]:
    """Each (zone, hour) with missing values, and these values.

    Args:
        rows: of silver, flow maps as dicts; earlier hours of the same zone determine the values it usually reports.
    """
    reported: dict[str, dict[str, datetime]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: (row["zone"], row["datetime"])):
        key, before = (row["zone"], row["datetime"]), reported[row["zone"]]
        if row["ingested_at_power"] is not None:
            yield from ((key, what) for what in _missing_power(row, before))
        if row["ingested_at_carbon"] is not None and row["carbon_intensity"] is None:
            yield key, "carbon_intensity is null"
        elif row["carbon_intensity"] is not None and row[_TYPE] is None and _TYPE in before:
            yield key, f"{_TYPE} is null, though it was reported before"
        before |= dict.fromkeys(_reported(row), row["datetime"])
        if row[_TYPE] is not None:
            before[_TYPE] = row["datetime"]


def is_silent(row: Mapping[str, Any], feed: str) -> bool:
    """Whether a feed delivered the hour without any value of `tables.FEED_VALUES`."""
    return row[f"ingested_at_{feed}"] is not None and all(row[name] is None for name in FEED_VALUES[feed])


def _missing_power(row: Mapping[str, Any], before: Mapping[str, datetime]) -> Iterator[str]:
    now = _reported(row)
    if now <= set(_PERCENTAGES):
        yield "every power value is null"
        return
    if is_silent(row, "power"):
        yield "production and consumption are null, only flows are reported"
        return
    complete: list[str] = []
    for side, modes in _MODES_OF.items():
        has_modes, has_total = bool(now & set(modes)), f"{side}_total" in now
        if not has_modes and not has_total:
            yield f"{side} is null, by mode and in total"
        elif not has_total and f"{side}_total" in before:
            yield f"{side}_total is null, though it was reported before"
        elif not has_total and has_modes:
            yield f"{side}_total is null, though modes of it are reported"
        elif not has_modes and before.keys() & set(modes):
            yield f"every mode of {side} is null, though some were reported before"
        if has_modes:
            complete += modes
    for total, flows_of in zip(_FLOWS, _MAPS, strict=True):
        if total not in now and any(mw is not None for mw in (row[flows_of] or {}).values()):
            yield f"{total} is null, though flows of it are reported"
    # A neighbour missing from a map has no flow; only one with a null flow is unreported.
    flows = {f"flow {neighbour}" for map_ in _MAPS for neighbour in row[map_] or {}}
    gone = [
        name
        for name in (*complete, *sorted(flows - now), *_PERCENTAGES)
        if name not in now and name in before and row["datetime"] - before[name] > LONGEST_SILENCE
    ]
    if gone:
        yield f"null for more than 24 hours, though reported before: {_listed(gone)}"


def _reported(row: Mapping[str, Any]) -> set[str]:
    """Names of a row's power values that are not null, and its neighbours as `flow MK`."""
    names = {name for name in (*FEED_VALUES["power"], *_FLOWS, *_PERCENTAGES) if row[name] is not None}
    return names | {
        f"flow {neighbour}" for map_ in _MAPS for neighbour, mw in (row[map_] or {}).items() if mw is not None
    }


def _withdrawn(feeds: Iterable[Mapping[Key, RecordHistory]]) -> Iterator[tuple[Key, str]]:
    for histories in feeds:
        for key, record in histories.items():
            if len(record.versions) > 1 and (lost := _lost(record)):
                names, since = lost
                yield (
                    key,
                    f"{'a value was' if len(names) == 1 else f'{len(names)} values were'} replaced by null in the "
                    f"response of {since:%Y-%m-%dT%H:%M:%SZ}: {_listed(names)}",
                )


def _lost(record: RecordHistory) -> tuple[list[str], datetime] | None:
    """Values that an earlier ingestion reported and the latest does not, and the time since when all are null."""
    nulls = _nulls(record.latest)
    lost: dict[str, int] = {}
    previous, missing = None, set[str]()
    for place, (_, content) in enumerate(record.versions[:-1]):
        # Skips repeated content: most ingestions repeat the previous one.
        if content != previous:
            previous, missing = content, _values(content) & nulls
        lost |= dict.fromkeys(missing, place)
    if not lost:
        return None
    return sorted(lost), record.versions[max(lost.values()) + 1][0]


def _values(content: Mapping[str, Any]) -> set[str]:
    """Names of a version's numbers that are not null."""
    names = {name for name, value in content.items() if isinstance(value, float)}
    for map_ in _MAPS:
        flows = content.get(map_) or {}
        names |= {map_} if flows else set()
        names |= {f"{map_}[{neighbour}]" for neighbour, mw in flows.items() if mw is not None}
    return names


def _nulls(content: Mapping[str, Any]) -> set[str]:
    """Names of a version's null values. A neighbour missing from a map has no flow, and is not null."""
    names = {name for name, value in content.items() if value is None}
    for map_ in _MAPS:
        names |= {f"{map_}[{neighbour}]" for neighbour, mw in (content.get(map_) or {}).items() if mw is None}
    return names


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - _NAMED
    return ", ".join(every[:_NAMED]) + (f" and {more} more" if more > 0 else "")
