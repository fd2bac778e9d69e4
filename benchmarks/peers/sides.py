"""Ours and the peers behind one face, so that they are measured alike: start, a backfill, a tick.

A side lives in a process of its own. Bronze is given; what a side writes is silver and gold.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path

from emaps_dagster.contracts.windows import Window, gold_window, silver_window


class Side(ABC):
    """One way to do the work in this process."""

    @abstractmethod
    def start(self) -> None:
        """What is paid once a process, after its imports."""

    @abstractmethod
    def merge(self, warehouse: Path, zones: tuple[str, ...], run: Window) -> None:
        """Silver and gold up to date for a run, one hour or a year."""

    def end(self) -> None:  # noqa: B027  # most leave nothing behind
        """Stop what was started."""


class Ours(Side):
    def __init__(self) -> None:
        self._open = ExitStack()

    def start(self) -> None:
        from emaps_dagster.lakehouse.spark_sessions import embedded_session

        self._spark = self._open.enter_context(embedded_session())

    def merge(self, warehouse: Path, zones: tuple[str, ...], run: Window) -> None:
        from benchmarks.tick import merge
        from emaps_dagster.lakehouse.delta_rs import FolderLakehouse

        merge(FolderLakehouse(self._spark, warehouse), zones, run)

    def end(self) -> None:
        self._open.close()


class Polars(Side):
    def start(self) -> None:
        from benchmarks.peers import polars_script  # noqa: F401  # importing is starting

    def merge(self, warehouse: Path, zones: tuple[str, ...], run: Window) -> None:
        from benchmarks.peers import polars_script

        silver, gold = silver_window(run), gold_window(run)
        work = polars_script.tick if (warehouse / "gold").exists() else polars_script.backfill
        work(warehouse, zones, silver.start, silver.end, gold.end, warehouse)


class RowBasedSpark(Side):
    def start(self) -> None:
        from emaps_dagster.lakehouse.spark_sessions import JVM_CONFIG, jvm_session

        self._spark = jvm_session(JVM_CONFIG)

    def merge(self, warehouse: Path, zones: tuple[str, ...], run: Window) -> None:
        from benchmarks.peers import row_based_spark

        row_based_spark.run(self._spark, warehouse, zones, run.start, run.end, warehouse)

    def end(self) -> None:
        self._spark.stop()


SIDES: dict[str, type[Side]] = {"ours": Ours, "Polars": Polars, "row-based Spark": RowBasedSpark}
