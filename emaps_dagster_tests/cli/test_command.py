"""`emaps` as the README has people type it: a range of hours, quiet, its history small and kept where the UI looks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.config import dagster_instance_config

from emaps_dagster.cli.home import prepare
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.tables import ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.defs.instance.runs import hours_of_run
from emaps_dagster.defs.instance.storage.sqlite import OpenSqliteEventLog
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.system.test_readme import README

ROOT = Path(__file__).resolve().parents[2]
ZONES = ("GR", "HU")
# The README's days, a year before: over by any clock.
RANGE = Window(datetime(2025, 11, 22, tzinfo=timezone.utc), datetime(2025, 11, 24, tzinfo=timezone.utc))
# 39.8 MB.
MONTH_HOURS, MONTH_BYTES = 720, 40e6


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator(zones=ZONES, now=datetime(2025, 11, 24, 21, 7, tzinfo=timezone.utc)) as simulator:
        yield simulator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A person's folder, with a blank in its name."""
    folder = tmp_path / "my project"
    folder.mkdir()
    return folder


def emaps(folder: Path, sim: Simulator, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("EMAPS_", "DAGSTER_"))},
        "EMAPS_API_URL": sim.url,
        "EMAPS_FIXED_NOW": sim.now().isoformat(),
        "EMAPS_START": f"{RANGE.start:%Y-%m-%d}",
        "EMAPS_ZONES": ",".join(ZONES),
        "PYTHONPATH": str(ROOT),
        **more,
    }
    command = [sys.executable, "-m", "emaps_dagster.cli.command", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def of_the_readme() -> list[list[str]]:
    """What follows `emaps hours` there, a year before."""
    lines = re.findall(r"^    \.venv/bin/emaps hours (.+)$", README, flags=re.MULTILINE)
    return [line.replace("2026-11-01", "2026-11-22").replace("2026-", "2025-").split() for line in lines]


def test_the_commands_of_the_readme_run_quietly_and_leave_a_small_history_with_each_hours_status(
    folder: Path, sim: Simulator
) -> None:
    one_hour, a_range = sorted(of_the_readme(), key=len)
    assert a_range == ["2025-11-22", "2025-11-24"]
    done = emaps(folder, sim, "hours", *a_range)
    assert done.returncode == 0, done.stderr
    with dg.DagsterInstance.from_config(str(prepare(folder / "empty"))) as instance:
        instance.get_runs()
        instance.all_instigator_state()
    empty, grown = (bytes_of(folder / name) for name in ("empty", ".dagster"))
    assert empty + (grown - empty) * MONTH_HOURS / (RANGE.duration // HOUR) < MONTH_BYTES

    said = done.stdout + done.stderr
    assert f"silver.energy_data {RANGE}: " in said
    # With the hours before and after that the provider's days bring along.
    assert f"gold.ml_features {RANGE}: 138 rows inserted, 0 updated, 0 unchanged, 0 commit conflicts" in said
    assert "WARNING" in said, "zones.py knows no neighbours of HU"
    assert "DEBUG" not in said
    assert "superseded" not in said
    assert len(said.splitlines()) < 10

    assert emaps(folder, sim, "hours", *one_hour).returncode == 0
    with dg.DagsterInstance.from_config(str(folder / ".dagster")) as instance:
        assert isinstance(instance.event_log_storage, OpenSqliteEventLog)
        second, first = (hours_of_run(run) for run in instance.get_runs())
        hour = datetime(2025, 11, 24, 20, tzinfo=timezone.utc)
        assert (first, second) == (RANGE, Window(hour, hour + HOUR))
        gold = dg.AssetKey(ml_features(ZONES).asset_key)
        keys = [partition_key(one) for one in (*RANGE.hours(), hour)]
        assert sorted(instance.get_materialized_partitions(gold)) == keys
        key = dg.AssetCheckKey(gold, "gold_equals_silver")
        checks = instance.event_log_storage.get_asset_check_partition_info([key])
        assert sorted((one.partition_key, one.latest_execution_status.value) for one in checks) == [
            (key, "SUCCEEDED") for key in keys
        ]
        # What a page plots of an hour that is not the last of its run; and what is of the run, on its last.
        records = instance.fetch_materializations(gold, limit=49).records
        numbers = {record.partition_key: dict(record.asset_materialization.metadata) for record in records}  # type: ignore[union-attr]
    plotted = {
        "rows", "inserted", "updated", "unchanged", "estimated", "estimated_share", "carbon_intensity_mean",
        "consumption_mean",
    }  # fmt: skip
    assert set(numbers[keys[5]]) == plotted
    assert set(numbers[keys[47]]) > plotted | {"last_24h_mix", "window", "rows_inserted_in_run", "run_seconds"}


def test_a_run_that_fails_says_so_and_why_and_ends_with_1(folder: Path, sim: Simulator) -> None:
    sim.inject(Fault("sandbox", zone="GR", times=None))
    try:
        done = emaps(folder, sim, "hours", "2025-11-24T20:00Z")
    finally:
        sim.clear_faults()
    assert done.returncode == 1
    assert "sandbox" in done.stderr
    assert "STEP_FAILURE" in done.stderr
    assert "DEBUG" not in done.stderr


_ANOTHER_SENTENCE = pytest.mark.long("another sentence by the same road")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "emaps hours: 0 times are given; give the start and the end of a range, or one hour.\n"),
        pytest.param(
            ["2025-11-24", "2025-11-22"],
            "emaps hours: start 2025-11-24T00:00Z is not before end 2025-11-22T00:00Z; ",
            marks=_ANOTHER_SENTENCE,
        ),
        pytest.param(
            ["2025-11-24T20:30Z"],
            "emaps hours: start is 2025-11-24T20:30:00+00:00; give a full UTC hour.\n",
            marks=_ANOTHER_SENTENCE,
        ),
        (["yesterday"], "emaps hours: start is 'yesterday', not an ISO 8601 time such as '2024-05-01T06:00Z'.\n"),
    ],
)
def test_hours_that_are_none_are_refused_by_a_sentence_before_anything_is_made(
    folder: Path, sim: Simulator, words: list[str], says: str
) -> None:
    done = emaps(folder, sim, "hours", *words)
    assert (done.returncode, done.stderr[: len(says)]) == (1, says)
    assert list(folder.iterdir()) == []


def test_everything_else_is_dagsters_command_in_the_home_that_is_set(folder: Path, sim: Simulator) -> None:
    done = emaps(folder, sim, "instance", "info", DAGSTER_HOME=str(prepare(folder / "elsewhere")))
    assert done.returncode == 0, done.stderr
    assert "OpenSqliteEventLog" in done.stdout
    assert str(folder / "elsewhere") in done.stdout
    assert not (folder / ".dagster").exists()
    assert "emaps hours" in emaps(folder, sim).stderr


def test_a_home_keeps_what_its_user_changed_and_is_made_again_where_it_was_moved_to(folder: Path) -> None:
    home = prepare(folder / "home")
    file = home / "dagster.yaml"
    made = file.read_text()
    config, _ = dagster_instance_config(str(home))
    assert config["python_logs"]["python_log_level"] == "INFO"
    assert config["concurrency"]["pools"] == {"default_limit": 1, "granularity": "op"}
    assert config["event_log_storage"]["config"]["base_dir"] == str(home / "history" / "runs")
    assert set(config["retention"]) == {"schedule", "sensor"}

    moved = home.rename(folder / "another home")
    assert prepare(moved) == moved
    assert (moved / "dagster.yaml").read_text() == made.replace(str(home), str(moved))

    mine = "# Mine.\n" + made
    (moved / "dagster.yaml").write_text(mine)
    prepare(moved)
    assert (moved / "dagster.yaml").read_text() == mine
