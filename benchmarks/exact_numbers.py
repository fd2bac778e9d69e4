"""What exact doubles cost the backfill of ten zones and a year: `python -m benchmarks.exact_numbers`.

Silver and gold of the same bronze, whose numbers are short, in turn: with the parser that reads each number as the
nearest double, and with the engine's `from_json` alone, which reads long numbers an ulp or two off. Embedded engine,
one process; each repeat is on tables of its own and begins with the other parser. The rows are compared first.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.backfill import ZONES
from benchmarks.bodies import StoredApi, days_before
from benchmarks.measurements import Figures, progress
from benchmarks.tick import take_in
from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import Window, gold_window, silver_window
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import embedded_session
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster.transforms.numbers import parsed_exactly

PARSERS = {"exact": parsed_exactly, "the engine's": F.from_json}
LAYERS = ("silver", "gold")


def measure(repeats: int, zones: tuple[str, ...], days: int) -> Figures:
    taken, window = Figures(), days_before(days)
    StoredApi().prepare(zones, window)
    with embedded_session() as spark, tempfile.TemporaryDirectory() as folder:
        take_in(FolderLakehouse(spark, Path(folder, "given")), StoredApi(), zones, window)
        for number in range(repeats + 1):
            progress(f"exact numbers: {number} of {repeats}")
            # The first round warms up.
            into = taken if number else Figures()
            order = list(PARSERS) if number % 2 else list(reversed(PARSERS))
            made = {parser: _merged(spark, Path(folder), parser, zones, window, into) for parser in order}
            assert made["exact"] == made["the engine's"]
    for what in [f"{kind}{layer}" for kind in ("", "CPU of ") for layer in LAYERS]:
        ours, theirs = (statistics.median(taken.values[f"{what}, {parser}"]) for parser in PARSERS)
        taken.add(f"{what}, exact to the engine's", ours / theirs, "times")
    return taken


def _merged(
    spark: SparkSession, folder: Path, parser: str, zones: tuple[str, ...], window: Window, taken: Figures
) -> dict[str, pa.Table]:
    warehouse = folder / "one"
    shutil.copytree(folder / "given", warehouse)
    lakehouse = FolderLakehouse(spark, warehouse)
    with patch("emaps_dagster.transforms.records.parsed_exactly", PARSERS[parser]):
        for layer in LAYERS:
            began = time.process_time()
            with taken.clock(f"{layer}, {parser}"):
                if layer == "silver":
                    merge_silver(lakehouse, silver_window(window))
                else:
                    merge_gold(lakehouse, zones, gold_window(window))
            # The engine's threads are this process's; other processes do not change it.
            taken.add(f"CPU of {layer}, {parser}", time.process_time() - began)
    made = {
        table.name: lakehouse.read_arrow(table, window).sort_by([(name, "ascending") for name in table.key])
        for table in (ENERGY_DATA, ml_features(zones))
    }
    shutil.rmtree(warehouse)
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--zones", default=",".join(ZONES), help="keys with commas")
    parser.add_argument("--days", type=int, default=365)
    options = parser.parse_args()
    print(measure(options.repeats, tuple(options.zones.split(",")), options.days).table())
