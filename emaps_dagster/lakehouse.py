"""The one door to storage: create, read, append and merge Delta tables by their contracts.

It knows Spark and Delta, nothing of Dagster and nothing of what the rows mean. Reads and computing
are Spark's; what is written is counted where it was written from, so that what was counted is what is committed.
"""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from emaps_dagster.errors import ContractChangedError, LakehouseError, WriteConflictError
from emaps_dagster.tables import TRUSTED, WITHDRAWN_RESPONSES, Column, Table
from emaps_dagster.transforms.differences import Differences, differences, same_values
from emaps_dagster.transforms.literals import in_hours, instant
from emaps_dagster.transforms.quality.contract import arrow_schema, conform
from emaps_dagster.windows import HOUR, Window, floor_hour

T = TypeVar("T")
logger = logging.getLogger(__name__)

# Eight writers on one table each lose seven races at worst before the queue is empty; thirty leaves room.
_ATTEMPTS = 30
_LONGEST_PAUSE_SECONDS = 2.0
# Values that a merge holds at once: 8 bytes each, in the engine, here, and on their way to the file.
_CELLS = 25_000_000
# Expected where nobody says how many there are.
_ZONES = 50
# What a writer has written and not committed yet looks like rubbish; no run lasts a day.
_SHORTEST_RETENTION = timedelta(days=1)


@dataclass(frozen=True)
class HourChange:
    """What a merge did to the rows of one hour, all zones together."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0

    @property
    def rows(self) -> int:
        return self.inserted + self.updated + self.unchanged

    def __add__(self, other: HourChange) -> HourChange:
        return HourChange(
            self.inserted + other.inserted, self.updated + other.updated, self.unchanged + other.unchanged
        )


@dataclass(frozen=True)
class MergeReport:
    """What a merge did, hour by hour, and how often it had to compute again."""

    hours: dict[datetime, HourChange]
    retries: int = 0

    @property
    def total(self) -> HourChange:
        return sum(self.hours.values(), HourChange())

    def __add__(self, other: MergeReport) -> MergeReport:
        hours = {**self.hours, **other.hours}
        for hour in self.hours.keys() & other.hours.keys():
            hours[hour] = self.hours[hour] + other.hours[hour]
        return MergeReport(hours, self.retries + other.retries)


@dataclass(frozen=True)
class RebuildReport:
    """What a rebuild found, what it settled of a changed contract, and how often it had to compute again."""

    differences: Differences
    contract: tuple[str, ...] = ()
    retries: int = 0

    def __add__(self, other: RebuildReport) -> RebuildReport:
        return RebuildReport(
            self.differences + other.differences, self.contract + other.contract, self.retries + other.retries
        )


@dataclass(frozen=True)
class Size:
    """What the latest version of a table consists of."""

    files: int
    bytes: int


@dataclass(frozen=True)
class MaintenanceReport:
    """What maintenance made of a table: its latest version before and after, and what went from the disk."""

    before: Size
    after: Size
    files_removed: int
    retries: int = 0


class LostRaceError(Exception):
    """Another writer committed first."""


class Lakehouse(ABC):
    """Tables by contract. Subclasses say where they lie and how a commit is made there."""

    def __init__(self, spark: SparkSession) -> None:
        self.spark = spark
        self._left_out: pa.Table | None = None
        # Plans are lazy: an error of one may come from any table that was read.
        self._read: set[tuple[str, str]] = set()

    @abstractmethod
    def version(self, table: Table) -> int | None:
        """The table's latest version, None when it does not exist."""

    @abstractmethod
    def read(self, table: Table, *, version: int | None = None) -> DataFrame:
        """The whole table, or as it was at a version."""

    def collect(self, rows: DataFrame) -> pa.Table:
        """What the engine computes; its columns may have other types of the same values than the contract's."""
        with self._explaining(None):
            return rows.toArrow()

    @abstractmethod
    def where(self, table: Table) -> str:
        """Where a person finds the table."""

    @abstractmethod
    def _create(self, table: Table) -> None:
        """Create the table; no error if another writer just did."""

    @abstractmethod
    def _add_columns(self, table: Table, columns: list[Column]) -> None:
        """Commit nullable columns of the contract that the table lacks.

        Raises LostRaceError when it can be tried again.
        """

    @abstractmethod
    def _append(self, table: Table, rows: pa.Table) -> None:
        """Commit rows. Raises LostRaceError when it can be tried again."""

    @abstractmethod
    def _merge(self, table: Table, months: list[str], rows: pa.Table, version: int) -> None:
        """Commit rows with `_change` inserted or updated, made from `version`.

        Raises LostRaceError, having written nothing, when those months changed since.
        """

    def _insert(self, table: Table, months: list[str], rows: DataFrame, version: int) -> pa.Table:
        """Commit rows of hours that held none, made from `version`, and return them, their keys at least.

        Raises LostRaceError, having written nothing, when those months changed since.
        """
        computed = self._computed(rows, table)
        if computed.num_rows:
            self._merge(table, months, _all_inserted(computed), version)
        return computed

    @abstractmethod
    def _replace(self, table: Table, window: Window, rows: pa.Table, version: int) -> None:
        """Commit that the window's rows, in whatever month they lie, are these and no others, made from `version`.

        Raises LostRaceError, having written nothing, when the table changed since.
        """

    @abstractmethod
    def _overwrite(self, table: Table, parts: Iterator[pa.Table], version: int) -> None:
        """Commit rows and columns of the whole table at once, made from `version`; earlier versions stay readable.

        Raises LostRaceError, having written nothing, when the table changed since.
        """

    @abstractmethod
    def _size(self, table: Table) -> Size:
        """Of the latest version."""

    @abstractmethod
    def _compact(self, table: Table) -> None:
        """Commit the same rows in fewer files, if that can be; no reader and no row may notice.

        Raises LostRaceError, having written nothing, when a file that it read was replaced.
        """

    @abstractmethod
    def _vacuum(self, table: Table, retain: timedelta) -> int:
        """Remove files that no version of the last `retain` needs; returns how many. Leaves a checkpoint of the log."""

    def create(self, table: Table) -> None:
        """Make sure that the table exists and is what its contract promises.

        Raises:
            ContractChangedError: it exists with other columns or types.
        """
        if self.version(table) is None:
            # Spark takes a folder whose first commit is being written for one of something else.
            with self._turn(table):
                if self.version(table) is None:
                    self._create(table)
        changes = self.schema_differences(table)
        if changes and table.append_only:
            self._add_missing_columns(table)
            changes = self.schema_differences(table)
        if changes:
            remedy = "restore it: bronze cannot be made again" if table.append_only else self._rebuild_command(table)
            raise ContractChangedError(
                f"{table.qualified_name} ({self.where(table)}) is not what its contract promises: "
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

        self._until_won(table, "adding columns", attempt)

    def _rebuild_command(self, table: Table) -> str:
        span = self.span(table)
        hours = span or Window(datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2024, 1, 2, tzinfo=timezone.utc))
        return (
            "rebuild it from bronze: launch the job `rebuild` in Dagster's UI, or run `dagster job execute -m "
            f"emaps_dagster.definitions -j rebuild -c rebuild.yaml`, with {'' if span else 'any hours, such as '}"
            f'{{start: "{hours.start:%Y-%m-%dT%H:%MZ}", end: "{hours.end:%Y-%m-%dT%H:%MZ}"}} '
            "(docs/operations.md, Rebuild)"
        )

    def span(self, table: Table, *, version: int | None = None) -> Window | None:
        """From the first to the last hour that silver or gold holds; None without rows."""
        rows = self.read(table, version=version).agg(F.min("datetime").alias("first"), F.max("datetime").alias("last"))
        found = self.collect(rows)
        first, last = (found[name][0].as_py() for name in ("first", "last"))
        if first is None:
            return None
        return Window(floor_hour(first.astimezone(timezone.utc)), floor_hour(last.astimezone(timezone.utc)) + HOUR)

    def schema_differences(self, table: Table, *, version: int | None = None) -> list[str]:
        """How the stored schema departs from the contract, one phrase each; empty when it does not."""
        stored = self.types(table, version=version)
        wanted = {column.name: column.type for column in table.columns}
        return [
            *(f"column {name} is missing" for name in wanted if name not in stored),
            *(f"column {name} is not in the contract" for name in stored if name not in wanted),
            *(
                f"column {name} is {stored[name]}, not {type_}"
                for name, type_ in wanted.items()
                if stored.get(name, type_) != type_
            ),
        ]

    def types(self, table: Table, *, version: int | None = None) -> dict[str, str]:
        """Spark's simple type of each stored column, by name."""
        with self._explaining(table):
            return {f.name: f.dataType.simpleString() for f in self.read(table, version=version).schema.fields}

    def read_hours(self, table: Table, window: Window, *, version: int | None = None) -> DataFrame:
        """The rows of silver or gold whose `datetime` lies in the window; other months are not read."""
        return self.read(table, version=version).where(
            F.col(table.partition).isin(window.months()) & in_hours(window.start, window.end)
        )

    def read_responses(self, table: Table, window: Window, *, longest: timedelta) -> DataFrame:
        """The rows of bronze that share an hour with the window, without those that were withdrawn.

        Args:
            table: a bronze table; it lies in partitions by the month in which a body begins.
            window: the hours of interest.
            longest: no body spans more, so none that begins earlier reaches into the window.
        """
        months = window.widen(longest, timedelta(0)).months()
        rows = self.read(table).where(
            F.col(table.partition).isin(months)
            & (F.col("window_start") < instant(window.end))
            & (F.col("window_end") > instant(window.start))
        )
        # Tables of a release that did not quarantine records have it from the next run of bronze on.
        if TRUSTED not in self.types(table):
            rows = rows.withColumn(TRUSTED, F.lit(None).cast("string"))
        return self.without_withdrawn(table, rows, months)

    def without_withdrawn(self, table: Table, rows: DataFrame, months: list[str] | None = None) -> DataFrame:
        """The rows of a bronze table without those that were withdrawn (docs/adr/0014).

        Args:
            table: which bronze table the rows are of.
            rows: with the columns of its key at least.
            months: the partitions that they lie in, all of them without.
        """
        if self._left_out is not None and self._left_out.num_rows:
            rows = self._without(table, rows, self.spark.createDataFrame(self._left_out))
        # Where nothing was ever withdrawn there is no table, and no plan grows by a join.
        if self.version(WITHDRAWN_RESPONSES) is None:
            return rows
        withdrawn = self.read(WITHDRAWN_RESPONSES)
        if months:
            withdrawn = withdrawn.where(F.col(WITHDRAWN_RESPONSES.partition).isin(months))
        return self._without(table, rows, withdrawn)

    @contextmanager
    def leaving_out(self, responses: pa.Table) -> Iterator[None]:
        """In here reads leave these rows of `WITHDRAWN_RESPONSES` out as if they were stored: for a dry run."""
        self._left_out = responses
        try:
            yield
        finally:
            self._left_out = None

    def _without(self, table: Table, rows: DataFrame, withdrawn: DataFrame) -> DataFrame:
        keys = withdrawn.where(F.col("bronze_table") == table.name).select(*table.key)
        return rows.join(keys, list(table.key), "left_anti")

    def rows(self, table: Table, window: Window, *, columns: tuple[str, ...] = ()) -> pa.Table:
        """The rows of `read_hours` as the contract has them, here, read the fastest way; none without the table.

        Args:
            table: silver or gold. Bronze has a file for every tick, which the engine opens faster.
            window: the hours of interest.
            columns: those that are needed; all without.

        Raises:
            LakehouseError: its files are gone or cannot be read.
        """
        rows = self._stored(table, window, self.version(table), window.months(), columns)
        return rows.select(list(columns)) if columns else rows

    def append(self, table: Table, rows: DataFrame | pa.Table) -> pa.Table:
        """Add rows and return them; without rows there is no new version."""
        arrow = rows if isinstance(rows, pa.Table) else self._computed(rows, table)
        if arrow.num_rows:
            self._until_won(table, "the append", lambda _attempt: self._append(table, arrow))
        return arrow

    def zones(self, rows: DataFrame) -> int:
        """How many zones the rows are of."""
        found = self.collect(rows.agg(F.count_distinct("zone").alias("zones")))
        return int(found["zones"][0].as_py())

    def merge(
        self,
        table: Table,
        window: Window,
        compute: Callable[[Window], DataFrame],
        zones: Callable[[], int] = lambda: _ZONES,
    ) -> MergeReport:
        """Bring the table's rows of the window to what `compute` says, some months at a time.

        Rows that would not change are not written; months without changes get no Delta version. Rows
        that `compute` does not return stay. A writer that loses a race computes again from fresh input.

        Args:
            table: silver or gold, keyed by zone and datetime.
            window: the hours to bring up to date.
            compute: the rows wanted for a part of the window; called at every attempt, it must read anew.
            zones: how many the window holds rows of at most; asked only where the window is long for fifty.

        Raises:
            WriteConflictError: other writers kept winning; nothing stale was written.
        """
        # Parts bound the memory of a long backfill, and what is done stays done; each costs a plan and a commit.
        room = _CELLS / len(table.columns) * HOUR
        longest = room / _ZONES
        if window.duration > longest:
            longest = room / max(1, zones())
        report = MergeReport({})
        for part in window.in_months(longest):
            report += self._merge_part(table, part, compute)
        return report

    def _merge_part(self, table: Table, window: Window, compute: Callable[[Window], DataFrame]) -> MergeReport:
        def attempt(number: int) -> MergeReport:
            # The target is pinned before the input is read: a commit after it may have seen more than we do.
            version = self.version(table)
            if version is None:
                raise LakehouseError(f"{table.qualified_name} does not exist at {self.where(table)}.")
            stored = self._rows(table, window, version, window.months(), ())
            if not stored.num_rows:
                inserted = self._insert(table, window.months(), compute(window), version)
                return _report(_all_inserted(inserted), retries=number)
            compared = _compare(self._computed(compute(window), table), conform(stored, table), table)
            changed = compared.filter(pc.field("_change") != "unchanged")
            if changed.num_rows:
                self._merge(table, window.months(), changed, version)
            return _report(compared, retries=number)

        return self._until_won(table, f"the merge of {window}", attempt)

    def rebuild(
        self, table: Table, window: Window, compute: Callable[[Window], DataFrame], *, dry_run: bool = False
    ) -> RebuildReport:
        """Make the table's rows of the window exactly what `compute` says, and tell what differed.

        Unlike a merge it also removes: rows that `compute` does not return, second rows of a key. A month that
        does not differ gets no Delta version. When the contract changed, the whole table is written anew with its
        columns, in one version; values are then compared in the columns that both have.

        Args:
            table: silver or gold, keyed by zone and datetime; made when it does not exist.
            window: the hours to rebuild.
            compute: all rows wanted for a part of the window; called at every attempt, it must read anew.
            dry_run: compare only, write nothing.

        Raises:
            ContractChangedError: the contract changed and the window is not all of the table.
            WriteConflictError: other writers kept winning; nothing stale was written.
        """
        if table.append_only:
            raise LakehouseError(f"{table.qualified_name} cannot be rebuilt: all else is rebuilt from it.")
        if not dry_run and self.version(table) is None:
            self._create(table)
        if self.version(table) is not None and self.schema_differences(table):
            return self._until_won(
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

        return self._until_won(table, f"the rebuild of {window}", attempt)

    def _rebuild_whole(
        self, table: Table, window: Window, compute: Callable[[Window], DataFrame], dry_run: bool, number: int
    ) -> RebuildReport:
        version = self.version(table)
        assert version is not None
        changes = self.schema_differences(table, version=version)
        span = self.span(table, version=version)
        if span and not (window.start <= span.start and span.end <= window.end):
            raise ContractChangedError(
                f"{table.qualified_name} ({self.where(table)}) has other columns than its contract: "
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

    def _computed(self, rows: DataFrame, table: Table) -> pa.Table:
        """Rows that are to be written, in the contract's columns and types; an error if they have others."""
        return self.collect(rows.select(table.column_names)).cast(arrow_schema(table))

    def _stored(
        self,
        table: Table,
        window: Window,
        version: int | None,
        months: list[str] | None = None,
        columns: tuple[str, ...] = (),
    ) -> pa.Table:
        """The rows of the window in the contract's columns; without `months` those that lie in a wrong one, too."""
        if version is None:
            return conform(pa.table({}), table)
        return conform(self._rows(table, window, version, months, columns), table)

    def _rows(
        self, table: Table, window: Window, version: int, months: list[str] | None, columns: tuple[str, ...]
    ) -> pa.Table:
        """The stored rows of the window, of these months or of all, as the engine reads them; all columns without."""
        rows = self.read(table, version=version).where(in_hours(window.start, window.end))
        if months:
            rows = rows.where(F.col(table.partition).isin(months))
        return self.collect(rows.select(*columns) if columns else rows)

    def size(self, table: Table) -> Size | None:
        """Files and bytes of the latest version; None when the table does not exist."""
        return None if self.version(table) is None else self._size(table)

    def _turn(self, table: Table) -> AbstractContextManager[None]:  # noqa: ARG002  # of subclasses
        """Waits for other writers of the table where it can; what guards the rows is the commit, not this."""
        return nullcontext()

    def _explaining(self, table: Table | None) -> AbstractContextManager[None]:  # noqa: ARG002  # of subclasses
        """In here an error that comes from a broken file becomes a sentence, where files can be looked at.

        It is looked for in the table, if one is given, and in those that were read, and in no other.
        """
        return nullcontext()

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
            raise LakehouseError(f"{table.qualified_name} does not exist at {self.where(table)}.")

        def attempt(number: int) -> MaintenanceReport:
            before = self._size(table)
            self._compact(table)
            return MaintenanceReport(before, self._size(table), self._vacuum(table, retain), number)

        return self._until_won(table, "maintenance", attempt)

    def _until_won(self, table: Table, what: str, attempt: Callable[[int], T]) -> T:
        for number in range(_ATTEMPTS):
            try:
                with self._turn(table), self._explaining(table):
                    return attempt(number)
            except LostRaceError as lost:
                logger.info("%s: %s lost a race (%s), trying again", table.qualified_name, what, lost)
                # Exponential, with jitter, so that two losers do not meet again.
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, 0.05 * 2**number)))
        raise WriteConflictError(
            f"{table.qualified_name}: other writers won against {what} {_ATTEMPTS} times. Nothing stale was "
            "written; run the partitions again, with a Dagster pool of 1 for this table."
        )


def _all_inserted(fresh: pa.Table) -> pa.Table:
    """Fresh rows with `_change`, where nothing is stored."""
    return fresh.append_column("_change", pa.array(["inserted"] * fresh.num_rows, pa.string()))


def _compare(fresh: pa.Table, stored: pa.Table, table: Table) -> pa.Table:
    """Fresh rows with `_change`: inserted, updated or unchanged against the stored row of the same key."""
    place = pa.array(range(stored.num_rows), pa.int64())
    # A key that is stored twice is told by its check and removed by a rebuild; it must not stop a merge.
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
    counted = compared.group_by(["datetime", "_change"]).aggregate([([], "count_all")])
    # Without its time zone, of which Arrow makes an object for every value.
    moments = counted["datetime"].cast(pa.timestamp("us")).to_pylist()
    hours: dict[datetime, dict[str, int]] = {}
    for moment, change, rows in zip(
        moments, counted["_change"].to_pylist(), counted["count_all"].to_pylist(), strict=True
    ):
        hours.setdefault(moment.replace(tzinfo=timezone.utc), {})[change] = rows
    return MergeReport({hour: HourChange(**counts) for hour, counts in sorted(hours.items())}, retries)
