"""Reports of writes to a table: rows by hour, differences, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from emaps_dagster.lakehouse.comparison import Differences


@dataclass(frozen=True)
class HourChange:
    """Row counts of a merge for one hour, all zones together."""

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
    """Row counts of a merge by hour, and its number of retries."""

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
    """Differences found by a rebuild, the schema changes it applied, and its number of retries."""

    differences: Differences
    contract: tuple[str, ...] = ()
    retries: int = 0

    def __add__(self, other: RebuildReport) -> RebuildReport:
        return RebuildReport(
            self.differences + other.differences, self.contract + other.contract, self.retries + other.retries
        )


@dataclass(frozen=True)
class Size:
    """Files and bytes of the latest version of a table."""

    files: int
    bytes: int


@dataclass(frozen=True)
class MaintenanceReport:
    """Result of maintenance: size of the latest version before and after, and the removed files."""

    before: Size
    after: Size
    files_removed: int
    retries: int = 0


class CommitConflictError(Exception):
    """Another writer committed first."""
