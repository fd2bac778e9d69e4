"""The one door to storage: create, read, append and merge Delta tables by their contracts.

It knows Spark and Delta, nothing of Dagster and nothing of what the rows mean. Reads and computing
are Spark's; what is written is counted where it was written from, so that what was counted is what is committed.
"""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
from pyspark.sql import DataFrame

from emaps_dagster.contracts.errors import ContractChangedError, LakehouseError
from emaps_dagster.contracts.tables import Table
from emaps_dagster.lakehouse.merge import TableMerges
from emaps_dagster.lakehouse.reads import TableReads
from emaps_dagster.lakehouse.reports import (
    MaintenanceReport,
)

# Uncommitted files of a writer look like leftovers; no run lasts a day.
_SHORTEST_RETENTION = timedelta(days=1)


class Lakehouse(TableReads, TableMerges):
    """Tables by contract: create, read, append, merge, rebuild, maintain."""

    def create(self, table: Table) -> None:
        """Make sure that the table exists and is what its contract promises.

        Raises:
            ContractChangedError: it exists with other columns or types.
        """
        if self.version(table) is None:
            # Spark takes a folder whose first commit is being written for one of something else.
            with self._lock(table):
                if self.version(table) is None:
                    self._create(table)
        changes = self.schema_differences(table)
        if changes and table.append_only:
            self._add_missing_columns(table)
            changes = self.schema_differences(table)
        if changes:
            remedy = "restore it: bronze cannot be made again" if table.append_only else self._rebuild_command(table)
            raise ContractChangedError(
                f"{table.qualified_name} ({self.location(table)}) is not what its contract promises: "
                f"{'; '.join(changes)}. If the contract changed on purpose (another EMAPS_ZONES, a new release), "
                f"{remedy}."
            )

    def _add_missing_columns(self, table: Table) -> None:
        """Bring a table of an earlier release to its contract: rows that have not the new columns have null there."""

        def attempt(_number: int) -> None:
            stored = self.types(table)
            missing = [column for column in table.columns if column.nullable and column.name not in stored]
            if missing:
                self._add_columns(table, missing)

        self._retry_on_conflict(table, "adding columns", attempt)

    def append(self, table: Table, rows: DataFrame | pa.Table) -> pa.Table:
        """Add rows and return them; without rows there is no new version."""
        arrow = rows if isinstance(rows, pa.Table) else self._computed(rows, table)
        if arrow.num_rows:
            self._retry_on_conflict(table, "the append", lambda _attempt: self._append(table, arrow))
        return arrow

    def maintain(self, table: Table, *, retain: timedelta) -> MaintenanceReport:
        """Put small files together and remove those that no version of the last `retain` needs.

        No row changes. Reads of the past as it was known (`as_of`) need bronze's rows only, and keep them all;
        what ends is that a person can read a table `VERSION AS OF` a time longer ago than `retain`.

        Args:
            table: any table.
            retain: a day at least; how far back versions stay readable. Delta keeps the log of 30 days anyway, and
                no version before that can be read.

        Raises:
            LakehouseError: the table does not exist, or `retain` would take files from writers at work.
            WriteConflictError: other writers kept winning.
        """
        if retain < _SHORTEST_RETENTION:
            raise LakehouseError(
                f"{table.qualified_name} cannot be maintained with a retention of {retain}: files of a run at work "
                f"could be younger. Keep {_SHORTEST_RETENTION} at least; nothing was changed."
            )
        if self.version(table) is None:
            raise LakehouseError(f"{table.qualified_name} does not exist at {self.location(table)}.")

        def attempt(number: int) -> MaintenanceReport:
            before = self._size(table)
            self._compact(table)
            return MaintenanceReport(before, self._size(table), self._vacuum(table, retain), number)

        return self._retry_on_conflict(table, "maintenance", attempt)
