"""Compares stored rows with the expected rows: the differences that a rebuild counts and shows.

Arrow tables in, plain values out; merge.py reads, computes and writes them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from emaps_dagster.transforms.quality.outcome import Finding, differing

# Most rows listed in a report; the table's history has the rest.
_DIFFERENCES_SHOWN = 10

Fault = Literal["missing", "wrong", "surplus", "duplicate"]
_FAULT_TEXTS = {
    "missing": "the row is missing",
    "surplus": "there is a row that bronze does not give",
    "duplicate": "there is another row with this key",
}


@dataclass(frozen=True)
class HourDifference:
    """Row counts of one hour, all zones together: expected rows, and differences of the stored ones.

    `missing` rows are expected and not stored, `wrong` rows have other values, `surplus` rows have an unexpected key,
    and `duplicate` rows are the second and further ones of an expected key.
    """

    rows: int = 0
    missing: int = 0
    wrong: int = 0
    surplus: int = 0
    duplicate: int = 0

    @property
    def differing(self) -> int:
        return self.missing + self.wrong + self.surplus + self.duplicate

    def __add__(self, other: HourDifference) -> HourDifference:
        return HourDifference(
            self.rows + other.rows,
            self.missing + other.missing,
            self.wrong + other.wrong,
            self.surplus + other.surplus,
            self.duplicate + other.duplicate,
        )


@dataclass(frozen=True)
class Differences:
    """Differences of every hour with stored or expected rows, and the first differing rows by hour and zone."""

    hours: dict[datetime, HourDifference]
    first: tuple[Finding, ...] = ()

    @property
    def total(self) -> HourDifference:
        return sum(self.hours.values(), HourDifference())

    def __add__(self, other: Differences) -> Differences:
        hours = dict(self.hours)
        for hour, difference in other.hours.items():
            hours[hour] = hours.get(hour, HourDifference()) + difference
        return Differences(hours, (*self.first, *other.first)[:_DIFFERENCES_SHOWN])


def differences(wanted: pa.Table, stored: pa.Table, columns: Iterable[str]) -> Differences:
    """Compares stored with expected rows, null-safe and to the last bit.

    Args:
        wanted: the expected rows, one per (zone, datetime).
        stored: the stored rows of the same hours and types; any number per (zone, datetime).
        columns: the columns to compare, besides the key.
    """
    compared = list(columns)
    place = _places(wanted, stored)
    beside = wanted.take(pa.array(place, pa.int64()))
    same = pa.array([True] * stored.num_rows, pa.bool_())
    for name in compared:
        same = pc.and_(same, same_values(stored[name], beside[name]))
    rows_of: dict[int, list[tuple[bool, int]]] = defaultdict(list)
    faults: list[tuple[Fault, int | None, int | None]] = []
    for row, (of, is_same) in enumerate(zip(place, same.to_pylist(), strict=True)):
        if of is None:
            faults.append(("surplus", None, row))
        else:
            rows_of[of].append((is_same, row))
    for of in range(wanted.num_rows):
        # If one row of the key is right, the others count as duplicates.
        candidates = sorted(rows_of[of], key=lambda candidate: not candidate[0])
        if not candidates:
            faults.append(("missing", of, None))
        elif not candidates[0][0]:
            faults.append(("wrong", of, candidates[0][1]))
        faults += [("duplicate", of, row) for _, row in candidates[1:]]
    return _describe_faults(wanted, stored, compared, faults)


def same_values(new: pa.ChunkedArray, old: pa.ChunkedArray) -> pa.Array:
    """Null-safe equality of two columns: null equals null and nothing else."""
    if pa.types.is_map(new.type):
        # Arrow cannot compare maps, and the order of their keys has no meaning.
        pairs = zip(new.to_pylist(), old.to_pylist(), strict=True)
        return pa.array([_mapping(a) == _mapping(b) for a, b in pairs], pa.bool_())
    if pa.types.is_floating(new.type):
        # Compares bits: -0.0 is not 0.0.
        new, old = (column.combine_chunks().view(pa.int64()) for column in (new, old))
    return pc.or_(pc.fill_null(pc.equal(new, old), False), pc.and_(pc.is_null(new), pc.is_null(old)))


def _mapping(entries: list[tuple[str, float | None]] | None) -> dict[str, float | None] | None:
    return None if entries is None else dict(entries)


def _places(wanted: pa.Table, stored: pa.Table) -> list[int | None]:
    """For each stored row the index of the wanted row with its key; None without one."""
    place = {key: number for number, key in enumerate(_keys(wanted))}
    return [place.get(key) for key in _keys(stored)]


def _keys(rows: pa.Table) -> list[tuple[str, datetime]]:
    hours = (hour.astimezone(timezone.utc) for hour in rows["datetime"].to_pylist())
    return list(zip(rows["zone"].to_pylist(), hours, strict=True))


def _describe_faults(
    wanted: pa.Table, stored: pa.Table, columns: list[str], faults: list[tuple[Fault, int | None, int | None]]
) -> Differences:
    must, are = _keys(wanted), _keys(stored)
    counts: dict[datetime, Counter[str]] = defaultdict(Counter)
    for _, hour in must:
        counts[hour]["rows"] += 1
    placed = []
    for fault, of, row in faults:
        zone, hour = must[of] if of is not None else are[row or 0]
        counts[hour][fault] += 1
        placed.append((hour, zone, fault, of, row))
    # Limits the rows before formatting them: a table with another contract may differ in every row.
    shown = sorted(placed, key=lambda fault: fault[:3])[:_DIFFERENCES_SHOWN]
    return Differences(
        {hour: HourDifference(**count) for hour, count in sorted(counts.items())},
        tuple(
            Finding(zone, hour, _FAULT_TEXTS.get(fault) or _wrong(wanted.slice(of, 1), stored.slice(row, 1), columns))
            for hour, zone, fault, of, row in shown
        ),
    )


def _wrong(wanted: pa.Table, stored: pa.Table, columns: list[str]) -> str:
    def value(rows: pa.Table, name: str) -> Any:
        found = rows[name][0].as_py()
        return dict(found) if isinstance(found, list) else found

    return differing(
        (name, value(stored, name), value(wanted, name))
        for name in columns
        if not same_values(stored[name], wanted[name])[0].as_py()
    )
