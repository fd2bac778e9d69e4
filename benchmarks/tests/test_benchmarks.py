"""The benchmarks do what they claim: bodies of the provider, every layer filled, figures reported right."""

from __future__ import annotations

import json
import re
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from benchmarks import (
    backfill,
    bodies,
    compare_peers,
    dagster_overhead,
    empty_graph,
    exact_numbers,
    features_load,
    roads,
    scale,
    table_growth,
    tick_profile,
)
from benchmarks.__main__ import MEASURES
from benchmarks.measurements import Figures, machine
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window, utc_now
from emaps_dagster.contracts.zones import POWER
from emaps_dagster.defs.partitions import hourly_partitions, hours_of
from emaps_dagster.pipeline.check_catalog import checks_of
from emaps_dagster.simulator.provider import Provider

BENCHMARKS = Path(backfill.__file__).parent


@pytest.fixture(autouse=True)
def _store_of_this_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_stored_bodies_are_the_providers_and_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    window = bodies.days_before(2)
    # A day by /history and the day before by /past-range, of two feeds.
    assert bodies.StoredApi().prepare(("GR",), window) == 4

    def made_again(*_: object, **__: object) -> bytes:
        raise AssertionError("a stored body was made again")

    body = Provider().body(POWER, "GR", "history", bodies.PRESENT)
    monkeypatch.setattr(Provider, "body", made_again)
    assert bodies.StoredApi().prepare(("GR",), window) == 4
    assert bodies.StoredApi().history(POWER, "GR").body == body.decode()


def test_a_backfill_fills_every_layer_passes_its_checks_and_reports_time_and_memory() -> None:
    measured = backfill.once(("GR", "HU"), 2, checks=True)
    assert measured["rows of silver.energy_data"] == (96, "rows")
    assert measured["rows of gold.ml_features"] == (96, "rows")
    assert measured["rows of bronze.power_data"] == (4, "rows")
    parts = [measured[f"{layer}, backfill"][0] for layer in ("bronze", "silver", "gold")]
    assert min(parts) > 0
    assert measured["all without checks, backfill"] == (pytest.approx(sum(parts)), "s")
    # The engine is in this process: it cannot be less than it needs by itself, nor more than a small machine has.
    assert 0.1 < measured["peak of memory without checks"][0] <= measured["peak of memory with checks"][0] < 8


def test_every_question_of_features_load_has_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = features_load.YEAR.start
    days = Window(begin, begin + timedelta(days=4))
    monkeypatch.setattr(features_load, "YEAR", days)
    monkeypatch.setattr(features_load, "TICKED", timedelta(days=2))
    monkeypatch.setattr(features_load, "TWO_ZONES", (("GR", "DE"), begin + timedelta(days=1), days.end))
    monkeypatch.setenv("EMAPS_FEATURES_CACHE_MB", "0")
    features_load.build(tmp_path / "one")
    assert len(features_load.measure(tmp_path / "one", 1).values) == 9
    features_load.build_two_zones(tmp_path / "two")
    for name in features_load.CALLS:
        features_load.call(tmp_path / "two", name)
        seconds, cpu_seconds, gigabytes = json.loads(capsys.readouterr().out)
        assert min(seconds, cpu_seconds) > 0
        assert 0.1 < gigabytes < 8


def test_ours_and_polars_make_the_same_tables_to_the_last_bit_by_backfill_and_by_ticks(tmp_path: Path) -> None:
    zones = ("GR", "HU")
    compare_peers.give(tmp_path / "given", zones, 5, 2)
    for name in compare_peers.SAME_ROWS:
        measured = compare_peers.once(compare_peers.SIDES[name](), tmp_path / "given", tmp_path / name, zones, 5, 2)
        assert [what for what, _, _ in measured if "work" not in what] == [
            "start",
            "cold backfill",
            "start and cold backfill",
            "peak of memory",
            "warm backfill",
        ]
    for kind, of, rows in (("backfill", zones, 2 * 5 * 24), ("ticks", compare_peers.ONE_ZONE, 5 * 24 + 2)):
        for table in (ENERGY_DATA, ml_features(of)):
            ours, polars = (tmp_path / name / kind for name in compare_peers.SAME_ROWS)
            assert compare_peers.assert_equal(table, ours, polars) == rows
    DeltaTable(polars / "silver" / "energy_data").update({"production_oil": "production_oil + 1e-9"})
    with pytest.raises(AssertionError, match=r"silver\.energy_data\.production_oil differs in \d+ rows, first"):
        compare_peers.assert_equal(ENERGY_DATA, ours, polars)


def test_the_benchmarks_hours_are_over_by_dagsters_clock() -> None:
    # The benchmarks add some ticks to it.
    assert bodies.PRESENT + timedelta(days=2) < utc_now()
    window = dagster_overhead.hours(dagster_overhead.HOURS)
    keys = hourly_partitions(window.start).get_partition_keys()
    assert keys[:720] == list(hours_of(window).values())


def test_the_least_that_dagster_takes_has_every_status_of_every_hour(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    window = dagster_overhead.hours(3)
    # It counts the statuses itself.
    assert dagster_overhead.once(dagster_overhead.floor(window), window, tmp_path) > 0


def test_the_empty_graph_has_as_many_checks_as_ours() -> None:
    ours = {}
    for table in (POWER_DATA, CARBON_DATA, ENERGY_DATA, ml_features(("GR",))):
        of_the_table = sum(check.of_the_table for check in checks_of(table))
        ours[table.name] = (len(checks_of(table)) - of_the_table, of_the_table)
    assert {name: counts for name, (_, *counts) in empty_graph.GRAPH.items()} == {
        name: list(ours[name]) for name in ours
    }
    assert empty_graph.PARTITIONS.start <= bodies.days_before(14).start


def test_the_large_backfill_is_compared_row_by_row_with_small_ones_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([10.0, 300.0, 12.5])
    asked = []

    def measure(repeats: int, zones: tuple[str, ...], days: int, *, checks: bool) -> Figures:
        asked.append((repeats, len(zones), days, checks))
        taken = Figures()
        taken.add("all without checks, backfill", next(seconds))
        taken.add("rows of gold.ml_features", 24 * days * len(zones), "rows")
        return taken

    # The backfill itself is tested above; of this one only what is compared with what.
    monkeypatch.setattr(scale, "measure", measure)
    measured = scale.compare(scale.SMALL, scale.LARGE, repeats=1)
    assert asked == [(1, 10, 365, False), (1, 50, 1800, False), (1, 10, 365, False)]
    assert measured.values["rows of gold.ml_features, 50 zones x 1,800 days"] == [2_160_000]
    assert measured.values["all without checks, backfill, 10 zones x 365 days"] == [10.0, 12.5]
    rows = 2_160_000 / 87_600
    assert measured.values["seconds a row, large : small"] == pytest.approx([300 / rows / 10.0, 300 / rows / 12.5])


@pytest.mark.parametrize("days", [scale.SMALL[1], scale.LARGE[1]])
def test_a_backfill_begins_where_the_simulated_provider_has_hours(days: int) -> None:
    window = bodies.days_before(days)
    assert bodies.StoredApi().prepare(("GR",), Window(window.start, window.start + HOUR)) == 2


@pytest.mark.long("a benchmark, not the product")
def test_growth_counts_what_a_revision_and_nothing_new_write() -> None:
    measured = table_growth.measure({"nine weeks": 63}, 1, 0)
    assert measured.values["rows of silver written by the revision, nine weeks"] == [1]
    assert measured.values["rows of gold written by the revision, nine weeks"] == [24]
    assert measured.values["files of gold.ml_features written by the revision, nine weeks"] == [1]
    assert measured.values["calls of the API for a tick, nine weeks"] == [2]


def test_figures_are_reported_as_median_min_max_and_repeats() -> None:
    figures = Figures()
    for value in (0.25, 1500.4, 0.5):
        figures.add("a tick", value)
    figures.add("a row", 87600, "rows")
    figures.total("both", ["a tick", "a row"])
    assert figures.table().splitlines() == [
        "| measure | unit | median | min | max | repeats |",
        "|---|---|---|---|---|---|",
        "| a tick | s | 0.500 | 0.250 | 1,500 | 3 |",
        "| a row | rows | 87,600 | 87,600 | 87,600 | 1 |",
        "| both | s | 87,600 | 87,600 | 87,600 | 1 |",
    ]
    assert re.match(
        r"(Commit [0-9a-f]{7,}( with changes)?|No commit), \d+ cores, \d+ GB, \S+ \S+, Python 3\.", machine()
    )


def test_every_measure_is_a_module_that_the_readme_explains() -> None:
    readme = (BENCHMARKS / "README.md").read_text()
    for name in MEASURES:
        assert (BENCHMARKS / f"{name}.py").exists()
        assert f"`python -m benchmarks.{name}`" in readme


@pytest.mark.long("a benchmark, not the product")
def test_roads_cost_two_calls_or_six_and_are_compared_with_v3() -> None:
    taken = roads.measure(1, 2)
    calls = {name: values for name, values in taken.values.items() if name.startswith("calls")}
    assert calls == {
        "calls of the backfill, v3": [4],
        "calls of the tick, v3": [2],
        "calls of the backfill, v4, short": [4],
        "calls of the tick, v4, short": [2],
        "calls of the backfill, v4, long": [12],
        "calls of the tick, v4, long": [6],
    }
    seconds = {name: values[0] for name, values in taken.values.items()}
    assert seconds["tick, v4, long, to v3"] == seconds["tick, v4, long"] / seconds["tick, v3"]


def test_exact_numbers_are_timed_beside_the_engines_own_parser_on_equal_rows() -> None:
    taken = exact_numbers.measure(1, ("GR",), 2)
    seconds = {name: values[0] for name, values in taken.values.items()}
    assert seconds["silver, exact to the engine's"] == seconds["silver, exact"] / seconds["silver, the engine's"]
    assert {unit for name, unit in taken.units.items() if "CPU of gold" in name} == {"s", "times"}


def test_every_part_of_the_project_that_is_timed_exists() -> None:
    assert all(callable(getattr(owner, name, None)) for owner, name, _ in tick_profile.parts_of_the_project())
