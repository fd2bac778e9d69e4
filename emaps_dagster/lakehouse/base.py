"""The only interface to storage: creates, reads, appends and merges Delta tables by their contracts.

Depends on Spark and Delta, not on Dagster or the meaning of the rows. Spark reads and computes; row counts come from
the Arrow table that is committed, so reports are exact.
"""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
from pyspark.sql import DataFrame

from emaps_dagster.contracts.errors import ContractChangedError, LakehouseError
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.lakehouse.merge import TableMerges
from emaps_dagster.lakehouse.reads import TableReads
from emaps_dagster.lakehouse.reports import (
    MaintenanceReport,
)


class Lakehouse(TableReads, TableMerges):
    """Tables by contract: create, read, append, merge, rebuild, maintain."""

    # A vacuum cannot distinguish uncommitted files of a running writer from leftovers; no run lasts a day.
    shortest_retention = timedelta(days=1)
    _why_no_shorter_retention = "files of a run at work could be younger"

    def create(self, table: Table) -> None:
        """Creates the table if it does not exist, and adds missing nullable columns of the contract.

        Raises:
            ContractChangedError: the table exists with other columns or types.
        """
        if not self.exists(table):
            # Spark treats a folder whose first commit is being written as not a Delta table.
            with self._lock(table):
                if not self.exists(table):
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
        """Adds the contract's new columns to a table of an earlier release; they are null in the stored rows."""

        def attempt(_number: int) -> None:
            stored = self.types(table)
            missing = [column for column in table.columns if column.nullable and column.name not in stored]
            if missing:
                self._add_columns(table, missing)

        self._retry_on_conflict(table, "adding columns", attempt)

    def append(self, table: Table, rows: DataFrame | pa.Table) -> pa.Table:
        """Appends rows and returns them; creates no new version without rows."""
        arrow = rows if isinstance(rows, pa.Table) else self._computed(rows, table)
        if arrow.num_rows:
            self._retry_on_conflict(table, "the append", lambda _attempt: self._append(table, arrow))
        return arrow

    def maintain(self, table: Table, *, retain: timedelta) -> MaintenanceReport:
        """Compacts small files and removes files that no version of the last `retain` needs.

        No row changes. Point-in-time reads (`as_of`) are unaffected: they need bronze's rows only, and all of them
        are kept. Only Delta's `VERSION AS OF` can no longer read versions older than `retain`.

        Args:
            table: any table.
            retain: at least `shortest_retention`; age up to which versions stay readable. Delta keeps the log for 30
                days, and no older version can be read.

        Raises:
            LakehouseError: the table does not exist, or `retain` would remove files of running writers.
            WriteConflictError: other writers won every attempt.
        """
        if retain < self.shortest_retention:
            raise LakehouseError(
                f"{table.qualified_name} cannot be maintained with a retention of {retain}: "
                f"{self._why_no_shorter_retention}. Keep {self.shortest_retention} at least; nothing was changed."
            )
        if not self.exists(table):
            raise LakehouseError(f"{table.qualified_name} does not exist at {self.location(table)}.")

        def attempt(number: int) -> MaintenanceReport:
            before = self._size(table)
            self._compact(table)
            return MaintenanceReport(before, self._size(table), self._vacuum(table, retain), number)

        return self._retry_on_conflict(table, "maintenance", attempt)
