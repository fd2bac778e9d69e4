"""How the values of the key columns pass through a plan: each in a column of its own, or all in one array.

An engine analyses each column of each step, and for a few rows that is nearly all of its time; arrays leave one column
a step. For many rows it reads, sums and joins columns several times as fast as elements of arrays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Carrier(ABC):
    """Groups of values, such as the lags: one value of each name, in the order of the names."""

    names: tuple[str, ...]

    @abstractmethod
    def columns(self, group: str) -> list[str]:
        """The names of the columns that carry a group."""

    @abstractmethod
    def carried(self, values: Iterable[Column], group: str) -> list[Column]:
        """Columns that carry these values as a group."""

    @abstractmethod
    def mapped(self, group: str, function: Callable[[Column], Column], result: str) -> list[Column]:
        """Columns that carry the function of each value of a group as the group `result`."""

    @abstractmethod
    def values(self, group: str) -> list[Column]:
        """The values of a group."""

    @abstractmethod
    def unpacked(
        self, rows: DataFrame, group: str, functions: dict[str, Callable[[Column], Column]]
    ) -> tuple[DataFrame, dict[str, list[Column]]]:
        """Functions of each value of a group, by their names, as columns of the rows that are returned."""


class Apart(Carrier):
    """Each value is a column."""

    def columns(self, group: str) -> list[str]:
        return [f"_{group}_{name}" for name in self.names]

    def carried(self, values: Iterable[Column], group: str) -> list[Column]:
        return [value.alias(name) for value, name in zip(values, self.columns(group), strict=True)]

    def mapped(self, group: str, function: Callable[[Column], Column], result: str) -> list[Column]:
        return self.carried(map(function, self.values(group)), result)

    def values(self, group: str) -> list[Column]:
        return [F.col(name) for name in self.columns(group)]

    def unpacked(
        self, rows: DataFrame, group: str, functions: dict[str, Callable[[Column], Column]]
    ) -> tuple[DataFrame, dict[str, list[Column]]]:
        return rows, {name: [*map(function, self.values(group))] for name, function in functions.items()}


class InArray(Carrier):
    """A group is one array."""

    def columns(self, group: str) -> list[str]:
        return [f"_{group}"]

    def carried(self, values: Iterable[Column], group: str) -> list[Column]:
        return [F.array(*values).alias(f"_{group}")]

    def mapped(self, group: str, function: Callable[[Column], Column], result: str) -> list[Column]:
        return [F.transform(f"_{group}", function).alias(f"_{result}")]

    def values(self, group: str) -> list[Column]:
        # Not `column[place]`, which takes Sail four times as long to analyse.
        return [F.get(f"_{group}", F.lit(place)) for place in range(len(self.names))]

    def unpacked(
        self, rows: DataFrame, group: str, functions: dict[str, Callable[[Column], Column]]
    ) -> tuple[DataFrame, dict[str, list[Column]]]:
        # One function of the array costs less than one of each element.
        made = (column for name, function in functions.items() for column in self.mapped(group, function, name))
        return rows.select("*", *made), {name: self.values(name) for name in functions}
