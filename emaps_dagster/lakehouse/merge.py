"""Merge and rebuild: compare computed rows with the stored ones, and commit only the differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import datetime, timezone
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from emaps_dagster.contracts.errors import ContractChangedError, LakehouseError
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.lakehouse.arrow_schema import conform
from emaps_dagster.lakehouse.comparison import Differences, differences, same_values
from emaps_dagster.lakehouse.reports import (
    HourChange,
    MergeReport,
    RebuildReport,
)
from emaps_dagster.lakehouse.storage import TableStorage, all_inserted

# Assumed where the caller gives no number of zones.
_ZONES = 50
# As much memory as so many numbers.
_VALUES_OF_A_MAP = 8


class TableMerges(TableStorage):
    """Idempotent writes of silver and gold."""

    # Most values that a merge holds at once: 8 bytes each, in the engine, in this process, and while writing the file.
    _cells = 30_000_000

    def merge(
        self,
        table: Table,
        window: Window,
        compute: Callable[[Window], DataFrame],
        zones: Callable[[], int] = lambda: _ZONES,
    ) -> MergeReport:
        """Merges the rows that `compute` returns into the table's rows of the window, some months at a time.

        Writes only rows that change; months without changes get no Delta version. Rows that `compute` does
        not return stay. After a commit conflict, the merge computes again from fresh input.

        Args:
            table: silver or gold, keyed by zone and datetime.
            window: the hours to update.
            compute: returns the rows for a part of the window; called at every attempt, it must read its input again.
            zones: upper bound of the number of zones; called only if the window is long for fifty zones.

        Raises:
            WriteConflictError: other writers won every attempt; nothing stale was written.
        """
        # Parts bound the memory of a long backfill, and finished parts stay; each costs a plan and a commit.
        room = self._cells / _width(table) * HOUR
        longest = room / _ZONES
        if window.duration > longest:
            longest = room / max(1, zones())
        report = MergeReport({})
        for part in window.in_months(longest):
            report += self._merge_part(table, part, compute)
        return report

    def _merge_part(self, table: Table, window: Window, compute: Callable[[Window], DataFrame]) -> MergeReport:
        def attempt(number: int) -> MergeReport:
            # Pins the target before reading the input: a later commit may be computed from newer input.
            version = self.version(table)
            if version is None:
                raise LakehouseError(f"{table.qualified_name} does not exist at {self.location(table)}.")
            stored = self._rows(table, window, version, window.months(), ())
            if not stored.num_rows:
                inserted = self._insert(table, window.months(), compute(window), version)
                return _report(all_inserted(inserted), retries=number)
            stored = conform(stored, table)
            compared = _compare(self._computed(compute(window), table), stored, table)
            changed = compared.filter(pc.field("_change") != "unchanged")
            if changed.num_rows:
                self._merge(table, window.months(), changed, version, stored)
            return _report(compared, retries=number)

        return self._retry_on_conflict(table, f"the merge of {window}", attempt)

    def rebuild(
        self, table: Table, window: Window, compute: Callable[[Window], DataFrame], *, dry_run: bool = False
    ) -> RebuildReport:
        """Replaces the table's rows of the window by those of `compute`, and reports the differences.

        Unlike a merge it also removes rows that `compute` does not return, and second rows of a key. A month
        without differences gets no Delta version. If the contract changed, rewrites the whole table with the new
        columns in one version, and compares values in the columns that both have.

        Args:
            table: silver or gold, keyed by zone and datetime; created if it does not exist.
            window: the hours to rebuild.
            compute: returns all rows for a part of the window; called at every attempt, it must read its input again.
            dry_run: compare only, write nothing.

        Raises:
            ContractChangedError: the contract changed and the window does not cover the whole table.
            WriteConflictError: other writers won every attempt; nothing stale was written.
        """
        if table.append_only:
            raise LakehouseError(f"{table.qualified_name} cannot be rebuilt: all else is rebuilt from it.")
        if not dry_run and not self.exists(table):
            self._create(table)
        if self.exists(table) and self.schema_differences(table):
            return self._retry_on_conflict(
                table, "the rebuild", lambda number: self._rebuild_whole(table, window, compute, dry_run, number)
            )
        report = RebuildReport(Differences({}))
        for part in window.by_month():
            report += self._rebuild_part(table, part, compute, dry_run)
        return report

    def _rebuild_part(
        self, table: Table, window: Window, compute: Callable[[Window], DataFrame], dry_run: bool
    ) -> RebuildReport:
        def attempt(number: int) -> RebuildReport:
            version = self.version(table)
            wanted = self._computed(compute(window), table)
            stored = self._stored(table, window, version)
            found = differences(wanted, stored, (*table.value_columns, table.partition))
            if version is not None and not dry_run and found.total.differing:
                self._replace(table, window, wanted, version)
            return RebuildReport(found, retries=number)

        return self._retry_on_conflict(table, f"the rebuild of {window}", attempt)

    def _rebuild_whole(
        self, table: Table, window: Window, compute: Callable[[Window], DataFrame], dry_run: bool, number: int
    ) -> RebuildReport:
        version = self.version(table)
        assert version is not None
        changes = self.schema_differences(table, version=version)
        span = self.span(table, version=version)
        if span and not (window.start <= span.start and span.end <= window.end):
            raise ContractChangedError(
                f"{table.qualified_name} ({self.location(table)}) has other columns than its contract: "
                f"{'; '.join(changes)}. They can only change in the whole table, and {window} is not all of it: "
                f"{self._rebuild_command(table)}."
            )
        stored_types = self.types(table, version=version)
        kept = [c.name for c in table.columns if c.name not in table.key and stored_types.get(c.name) == c.type]
        found = Differences({})

        def parts() -> Iterator[pa.Table]:
            nonlocal found
            for part in window.by_month():
                wanted = self._computed(compute(part), table)
                found += differences(wanted, self._stored(table, part, version), kept)
                yield wanted

        if dry_run:
            for _ in parts():
                pass
        else:
            self._overwrite(table, parts(), version)
        return RebuildReport(found, tuple(changes), number)

    def _rebuild_command(self, table: Table) -> str:
        span = self.span(table)
        hours = span or Window(datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2024, 1, 2, tzinfo=timezone.utc))
        return (
            "rebuild it from bronze: launch the job `rebuild` in Dagster's UI, or run `dagster job execute -m "
            f"emaps_dagster.definitions -j rebuild -c rebuild.yaml`, with {'' if span else 'any hours, such as '}"
            f'{{start: "{hours.start:%Y-%m-%dT%H:%MZ}", end: "{hours.end:%Y-%m-%dT%H:%MZ}"}} '
            "(docs/operations.md, Rebuild)"
        )


def _width(table: Table) -> int:
    """Values of a row; a map of neighbours holds several."""
    return sum(_VALUES_OF_A_MAP if column.type.startswith("map") else 1 for column in table.columns)


def _compare(fresh: pa.Table, stored: pa.Table, table: Table) -> pa.Table:
    """Fresh rows with `_change`: inserted, updated or unchanged against the stored row of the same key."""
    place = pa.array(range(stored.num_rows), pa.int64())
    # A key stored twice must not fail a merge: its check reports it, and a rebuild removes it.
    places = stored.select(table.key).append_column("_stored", place)
    keys = places.group_by(table.key).aggregate([("_stored", "min")]).rename_columns([*table.key, "_stored"])
    numbered = fresh.append_column("_fresh", pa.array(range(fresh.num_rows), pa.int64()))
    found = numbered.select([*table.key, "_fresh"]).join(keys, list(table.key)).sort_by("_fresh")["_stored"]
    old = stored.take(found)
    same = pa.array([True] * fresh.num_rows, pa.bool_())
    for name in table.value_columns:
        same = pc.and_(same, same_values(fresh[name], old[name]))
    change = pc.case_when(
        pc.make_struct(pc.is_null(found), same), pa.scalar("inserted"), pa.scalar("unchanged"), pa.scalar("updated")
    )
    return fresh.append_column("_change", change)


def _report(compared: pa.Table, retries: int) -> MergeReport:
    kinds = [field.name for field in fields(HourChange)]
    flags = {kind: pc.equal(compared["_change"], kind).cast(pa.int64()) for kind in kinds}
    by_hour = pa.table({"datetime": compared["datetime"], **flags}).group_by("datetime")
    counted = by_hour.aggregate([(kind, "sum") for kind in kinds]).sort_by("datetime")
    # Drops the time zone, for which Arrow would create an object per value.
    moments = counted["datetime"].cast(pa.timestamp("us")).to_pylist()
    counts = zip(*(counted[f"{kind}_sum"].to_pylist() for kind in kinds), strict=True)
    # Most hours changed alike, and share one object.
    changes = map(cache(lambda numbers: HourChange(*numbers)), counts)
    hours = (moment.replace(tzinfo=timezone.utc) for moment in moments)
    return MergeReport(dict(zip(hours, changes, strict=True)), retries)
