"""Which responses bronze holds, as a digest that differs after every write to the months concerned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from emaps_dagster.contracts.errors import NoFeaturesError
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import RESPONSE_TABLES, WITHDRAWN_RESPONSES
from emaps_dagster.features.reading import open_delta

# The tables that rows as known are computed from; rejected bodies and records have no part in them.
_READ = (*RESPONSE_TABLES, WITHDRAWN_RESPONSES)


class BronzeState:
    """The tables of bronze at their latest versions.

    A version number alone does not identify the rows: a folder that is restored from a copy counts on from there. The
    names of the data files hold random parts, no two commits write the same, and bronze is append-only.
    """

    def __init__(self, folder: Path) -> None:
        self._files = {table.name: _files(folder, table) for table in _READ}

    def of(self, months: Iterable[str]) -> str:
        """Digest of the tables' identities and of their files in some months."""
        wanted = sorted(set(months))
        digest = hashlib.sha256()
        for name, (table, by_month) in self._files.items():
            digest.update(f"{name} {table}\n".encode())
            for month in wanted:
                digest.update("\n".join([month, *sorted(by_month.get(month, ()))]).encode() + b"\n")
        return digest.hexdigest()


def filled_months(folder: Path, table: Table) -> frozenset[str]:
    """The months of which a table of bronze has files; none without the table."""
    return frozenset(_files(folder, table)[1])


def _files(folder: Path, table: Table) -> tuple[str, dict[str, list[str]]]:
    """Delta's id of a table, and its files with their sizes by month; an empty id without the table."""
    try:
        delta = open_delta(folder, table)
    except NoFeaturesError:
        return "", {}
    actions = pa.table(delta.get_add_actions(flatten=True))
    names = ("path", "size_bytes", f"partition.{table.partition}")
    found: dict[str, list[str]] = {}
    for path, size, month in zip(*(actions[name].to_pylist() for name in names), strict=True):
        found.setdefault(month, []).append(f"{path} {size}")
    return str(delta.metadata().id), found
