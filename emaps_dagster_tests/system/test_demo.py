"""`make demo`: by its command line once, then the judge that decides its exit code, its folder and its picture."""

from __future__ import annotations

import copy
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from deltalake import DeltaTable

from emaps_dagster.cli.demo.expectations import Rows, changes, judge
from emaps_dagster.cli.demo.folder import DemoFolder, FolderError
from emaps_dagster.cli.demo.plot import picture_of, read_gold
from emaps_dagster.cli.demo.scenario import TOKEN
from emaps_dagster.cli.demo.timeline import Times
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import CARBON, POWER
from emaps_dagster.simulator.provider import Provider
from emaps_dagster_tests.conftest import DemoRun

CHECKOUT = Path(__file__).resolve().parents[2]


def _table(demo: DemoRun, name: str) -> DeltaTable:
    return DeltaTable(str(demo.folder / "warehouse" / name))


def processes_of(session: int) -> list[str]:
    """The command lines that are still running in a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


# By its command line


def test_the_demo_ends_well_and_says_what_it_did(demo: DemoRun) -> None:
    assert demo.code == 0, demo.output
    assert "All right" in demo.output
    assert "✗" not in demo.output
    # No heading is cut.
    assert "…" not in demo.output
    # Nine or more checks on each of 24 hours.
    passed = re.search(r"Checks of the backfill: ([\d,]+) passed, 0 failed", demo.output)
    assert passed
    assert int(passed[1].replace(",", "")) >= 9 * 24
    assert len(re.findall("│ revised ", demo.output)) == 3
    assert len(re.findall("│ new hour ", demo.output)) == 1
    assert re.search(r"gold.ml_features followed in \d+ rows", demo.output)


def test_the_demo_leaves_25_hours_in_silver_and_gold_that_end_with_the_last_full_hour(demo: DemoRun) -> None:
    for name in ("silver/energy_data", "gold/ml_features"):
        hours = sorted(_table(demo, name).to_pyarrow_table(columns=["datetime"])["datetime"].to_pylist())
        assert len(hours) == 25
        assert hours[-1] - hours[0] == timedelta(hours=24)
        # The clock may have passed a full hour since.
        assert timedelta(hours=1) <= datetime.now(timezone.utc) - hours[-1] < timedelta(hours=3)


def test_the_demo_writes_a_picture(demo: DemoRun) -> None:
    picture = (demo.folder / "gold.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert 20_000 < len(picture) < 200_000


def test_the_runs_and_the_statuses_of_every_hour_are_in_dagsters_own_storage(demo: DemoRun) -> None:
    with dg.DagsterInstance.from_config(str(demo.folder / "dagster_home")) as instance:
        runs = instance.get_runs()
        assert [run.job_name for run in runs] == ["health_report", "hourly", "hourly"]
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        gold = dg.AssetKey(["gold", "ml_features"])
        assert len(instance.get_materialized_partitions(gold)) == 25


def test_nothing_of_the_demo_is_left_running(demo: DemoRun) -> None:
    assert processes_of(demo.session) == []


def test_no_token_is_in_anything_that_the_demo_wrote(demo: DemoRun) -> None:
    tokens = (TOKEN, "a-token-of-the-person")
    files = [path for path in demo.folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    contents = [path.read_bytes() for path in files]
    tables = ("bronze/power_data", "bronze/carbon_data", "silver/energy_data", "gold/ml_features")
    contents += [str(_table(demo, name).to_pyarrow_table().to_pylist()).encode() for name in tables]
    for token in tokens:
        assert token not in demo.output
        assert not any(token.encode() in content for content in contents)


def test_a_second_demo_starts_afresh_and_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "demo")
    with folder.claimed():
        folder.prepare("GR", datetime(2024, 5, 1, tzinfo=timezone.utc))
        (folder.root / "gold.png").write_text("of an earlier demo")
        (folder.root / "notes.txt").write_text("not of a demo")
    process = subprocess.Popen(
        [sys.executable, "-m", "emaps_dagster.cli.demo", "--days", "5", "--folder", str(folder.root)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    bronze = folder.warehouse / "bronze" / "power_data" / "_delta_log" / "00000000000000000001.json"
    deadline = time.monotonic() + 60
    while not bronze.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "nothing is left running" in output
    assert processes_of(process.pid) == []
    assert not folder.picture.exists()
    assert (folder.root / "notes.txt").read_text() == "not of a demo"


# `make dev` with an API of one's own; with the simulator it is looked at in test_ui.py


def test_dev_with_a_token_is_no_simulation_keeps_its_tables_apart_and_ends_on_sigterm(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EMAPS_", "DAGSTER_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "emaps_dagster.cli.demo.dev", "--port", "0"],
        cwd=tmp_path,
        # The address answers nobody: nothing asks it before an hour is materialized.
        env={
            **environment,
            "PYTHONPATH": str(CHECKOUT),
            "EMAPS_API_URL": "http://127.0.0.1:9/v3",
            "EMAPS_API_TOKEN": "a-token-of-the-person",
        },
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline() + process.stdout.readline()
    process.terminate()
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said + rest
    assert "no simulation: http://127.0.0.1:9/v3, zones GR" in said
    assert f"tables in {tmp_path}/warehouse, Dagster's home {tmp_path}/.dagster" in said
    assert "a-token-of-the-person" not in said + rest
    assert not (tmp_path / "demo").exists()
    assert processes_of(process.pid) == []


# Its folder


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    with pytest.raises(FolderError, match="was not made by the demo"), DemoFolder(tmp_path).claimed():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["warehouse"]


def test_a_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "demo")
    with folder.claimed(), pytest.raises(FolderError, match="in use by another"), folder.claimed():
        pass
    with folder.claimed():
        pass


# The judge

TIMES = Times.until(datetime(2024, 5, 4, 10, 20, tzinfo=timezone.utc), days=1)


def _silver(provider: Provider, hour: datetime, at: datetime) -> dict[str, object]:
    """What silver should say of an hour, written down by hand."""
    power, carbon = (provider.record(feed, "GR", hour, at) for feed in (POWER, CARBON))
    assert power is not None
    assert carbon is not None
    return {
        **{f"consumption_{key.replace(' ', '_')}": mw for key, mw in power["powerConsumptionBreakdown"].items()},
        **{f"production_{key.replace(' ', '_')}": mw for key, mw in power["powerProductionBreakdown"].items()},
        "consumption_total": power["powerConsumptionTotal"],
        "production_total": power["powerProductionTotal"],
        "import_by_zone": sorted(power["powerImportBreakdown"].items()),
        "export_by_zone": sorted(power["powerExportBreakdown"].items()),
        "source_power": "electricitymaps/v3/power-breakdown",
        "carbon_intensity": carbon["carbonIntensity"],
        "is_estimated_power": power["isEstimated"],
        "is_estimated_carbon": carbon["isEstimated"],
        "updated_at_power": power["updatedAt"],
    }


@pytest.fixture(scope="module")
def tables() -> tuple[Provider, Rows, Rows, Rows, Rows]:
    """A provider and what a right pipeline makes of it: silver and gold before and after the tick."""
    provider = Provider()
    for hour in TIMES.revised:
        provider.revise("GR", hour, at=TIMES.revised_at)
    before = {hour: _silver(provider, hour, TIMES.backfilled_at) for hour in TIMES.backfill.hours()}
    after = {hour: _silver(provider, hour, TIMES.present) for hour in (*TIMES.backfill.hours(), TIMES.last)}
    # /history at 10:20 begins at 11:00 of the day before.
    after |= {hour: dict(row) for hour, row in before.items() if hour < datetime(2024, 5, 3, 11, tzinfo=timezone.utc)}

    def gold(silver: Rows) -> Rows:
        day = {hour: [hour - back * HOUR for back in range(24)] for hour in silver}
        return {
            hour: {"sum": sum(silver[h]["consumption_total"] for h in hours if h in silver)}
            for hour, hours in day.items()
        }

    return provider, before, after, gold(before), gold(after)


def _untouched(_silver: Rows, _gold: Rows) -> None:
    pass


def _wrong_number(silver: Rows, _gold: Rows) -> None:
    silver[TIMES.start]["production_wind"] += 1


def _null_as_zero(silver: Rows, _gold: Rows) -> None:
    assert silver[TIMES.start]["production_nuclear"] is None
    silver[TIMES.start]["production_nuclear"] = 0


def _lost_hour(silver: Rows, _gold: Rows) -> None:
    del silver[TIMES.start]


def _lost_gold(_silver: Rows, gold: Rows) -> None:
    del gold[TIMES.last]


def _changed_too_much(silver: Rows, _gold: Rows) -> None:
    silver[TIMES.start + HOUR]["carbon_intensity"] += 1


def _gold_too_much(_silver: Rows, gold: Rows) -> None:
    gold[TIMES.start]["sum"] += 1


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        (_untouched, set()),
        (_wrong_number, {"and no others", "the provider's"}),
        (_null_as_zero, {"and no others", "the provider's"}),
        (_changed_too_much, {"and no others", "the provider's", "23 after each"}),
        (_lost_hour, {"silver has exactly"}),
        (_lost_gold, {"gold has exactly"}),
        (_gold_too_much, {"23 after each"}),
    ],
)
def test_the_judge_finds_each_fault_and_only_it(
    tables: tuple[Provider, Rows, Rows, Rows, Rows], fault: Callable[[Rows, Rows], None], broken: set[str]
) -> None:
    provider, silver_before, silver, gold_before, gold = copy.deepcopy(tables)
    fault(silver, gold)
    expectations = list(
        judge(provider, "GR", TIMES, silver, gold, changes(silver_before, silver), changes(gold_before, gold))
    )
    wrong = {expectation.says: expectation.detail for expectation in expectations if not expectation.holds}
    assert len(wrong) == len(broken), wrong
    assert all(any(word in says for says in wrong) for word in broken), wrong


def test_the_judge_finds_a_tick_that_changed_nothing(tables: tuple[Provider, Rows, Rows, Rows, Rows]) -> None:
    provider, silver_before, silver, gold_before, gold = tables
    stale = {**silver_before, TIMES.last: silver[TIMES.last]}
    expectations = judge(provider, "GR", TIMES, stale, {**gold_before, TIMES.last: gold[TIMES.last]}, {}, {})
    wrong = [expectation for expectation in expectations if not expectation.holds]
    assert wrong[0].says == "every revised hour changed in silver"
    assert wrong[0].detail == "unchanged: 2024-05-04T00:00Z, 2024-05-04T03:00Z, 2024-05-04T04:00Z"
    assert len(wrong) == 3


def test_an_hour_that_was_only_touched_or_read_again_has_not_changed() -> None:
    hour = TIMES.start
    before: Rows = {hour: {"carbon_intensity": 300.0, "updated_at_carbon": 1, "ingested_at_power": 1}}
    after: Rows = {hour: {"carbon_intensity": 300.0, "updated_at_carbon": 2, "ingested_at_power": 2}, hour + HOUR: {}}
    assert changes(before, after) == {}
    after[hour]["carbon_intensity"] = None
    assert changes(before, after) == {hour: {"carbon_intensity": (300.0, None)}}


# Its picture


def _rows(demo: DemoRun) -> pd.DataFrame:
    last = max(_table(demo, "gold/ml_features").to_pyarrow_table(columns=["datetime"])["datetime"].to_pylist())
    last = last.astimezone(timezone.utc)
    return read_gold(demo.folder / "warehouse", "GR", Window(last - 23 * HOUR, last + HOUR))


def test_the_picture_names_zone_hours_source_units_and_modes(demo: DemoRun) -> None:
    rows = _rows(demo)
    figure = picture_of(rows, "GR", "simulated data")
    assert figure.get_suptitle().startswith(f"Greece (GR), {rows.index[0]:%d %b %Y %H:%M} to ")
    assert [text.get_text() for text in figure.texts if "simulated" in text.get_text()] == ["simulated data"]
    units = ["production [MW]", "exchange [MW]", "[gCO$_2$eq/kWh]"]
    assert all(unit in axes.get_ylabel() for unit, axes in zip(units, figure.axes, strict=True))
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert {"consumption", "gas", "wind"} <= {text.get_text() for text in legend.get_texts()}


def test_storage_that_charges_is_drawn_below_zero_and_nothing_else_is(demo: DemoRun) -> None:
    rows = _rows(demo).assign(production_hydro_discharge=5.0, production_battery_discharge=2.0)
    assert picture_of(rows, "GR", "").axes[0].dataLim.y0 == pytest.approx(0, abs=1e-6)
    rows["production_hydro_discharge"] = -700.0
    assert picture_of(rows, "GR", "").axes[0].dataLim.y0 == pytest.approx(-700)


def test_missing_hours_and_unreported_modes_are_drawn_without_a_word(demo: DemoRun, tmp_path: Path) -> None:
    rows = _rows(demo)
    rows = rows.drop(rows.index[5:9]).reindex(rows.index)
    rows[[name for name in rows if str(name).startswith("production_")]] = float("nan")
    picture_of(rows, "GR", "").savefig(tmp_path / "gap.png")
    assert (tmp_path / "gap.png").stat().st_size > 10_000


def test_a_zone_without_rows_has_no_picture(demo: DemoRun) -> None:
    with pytest.raises(ValueError, match="no row of zone BG"):
        read_gold(demo.folder / "warehouse", "BG", Window(TIMES.start, TIMES.last))
