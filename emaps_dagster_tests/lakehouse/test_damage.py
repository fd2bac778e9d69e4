"""A broken file of a table is one sentence from every door, and each remedy that the sentence names mends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from emaps_dagster import features
from emaps_dagster.contracts.errors import DamagedTableError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, REJECTED_RECORDS, ml_features
from emaps_dagster.contracts.windows import Window
from emaps_dagster.definitions import build_definitions
from emaps_dagster.defs.instance.runs import tags_of
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support import evaluating
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.evaluating import look
from harness.dagster_runs import quick_instance

NOW = utc(2024, 5, 4, 10, 20)
START = utc(2024, 4, 29)
HELD = (Window(START, utc(2024, 5, 2)), Window(utc(2024, 5, 2), utc(2024, 5, 4, 10)))
LAST = Window(utc(2024, 5, 4, 9), utc(2024, 5, 4, 10))
GOLD = ml_features(("GR",))


@pytest.fixture(scope="module")
def held(embedded: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of five days in two commits a table; silver has a checkpoint as well."""
    folder = tmp_path_factory.mktemp("held") / "warehouse"
    evaluating.fill(embedded, folder, HELD, NOW)
    lakehouse = FolderLakehouse(embedded, folder)
    for table in (POWER_DATA, ENERGY_DATA):
        lakehouse.maintain(table, retain=timedelta(days=7))
    return folder


@pytest.fixture
def folder(held: Path, tmp_path: Path) -> Path:
    shutil.copytree(held, tmp_path / "warehouse")
    return tmp_path / "warehouse"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with quick_instance() as one:
        yield one


def log_of(folder: Path, table: Table) -> Path:
    return folder / table.layer / table.name / "_delta_log"


def last_commit(folder: Path, table: Table) -> Path:
    return max(log_of(folder, table).glob("*.json"))


# --- what can be broken ---------------------------------------------------------------------------


def _data(folder: Path, table: Table) -> Path:
    path = folder / table.layer / table.name
    return path / max(pa.table(DeltaTable(str(path)).get_add_actions())["path"].to_pylist())


def halve(file: Path) -> Path:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


def cut_after_first_line(file: Path) -> Path:
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    return file


def empty(file: Path) -> Path:
    file.write_bytes(b"")
    return file


def zeros(file: Path) -> Path:
    file.write_bytes(b"\0" * file.stat().st_size)
    return file


def zeros_inside(file: Path) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[:200] + b"\0" * 3000 + content[3200:])
    return file


def remove(file: Path) -> Path:
    file.unlink()
    return file


def first_commit(folder: Path, table: Table) -> Path:
    return log_of(folder, table) / f"{0:020}.json"


def checkpoint(folder: Path, table: Table) -> Path:
    return next(log_of(folder, table).glob("*.checkpoint.parquet"))


Where = Callable[[Path, Table], Path]
How = Callable[[Path], Path]
# What it is done to, how, and what is said of it. Gold has no checkpoint, of which readers would begin.
DAMAGES: dict[str, tuple[Where, How, str]] = {
    "a commit cut off": (last_commit, halve, "is cut off or overwritten"),
    "a commit cut off between lines": (last_commit, cut_after_first_line, "is cut off"),
    "an empty commit": (last_commit, empty, "is empty"),
    "a commit of zeros": (last_commit, zeros, "is cut off or overwritten"),
    "an earlier commit gone": (first_commit, remove, "is missing"),
    "an earlier commit cut off": (first_commit, halve, "is cut off or overwritten"),
    "a data file gone": (_data, remove, "is missing"),
    "a data file cut off": (_data, halve, " bytes instead of "),
    "an empty data file": (_data, empty, "has 0 bytes instead of "),
    "a data file overwritten": (_data, zeros_inside, "is cut off or overwritten"),
}


def rebuilding(folder: Path, table: Table) -> str:
    return (
        f"Move the folder {folder / table.layer / table.name} away and launch the job `rebuild` with start: first, "
        "end: last: it makes the table again from bronze, nothing is fetched (docs/operations.md, Damaged tables)."
    )


def restoring(folder: Path, table: Table) -> str:
    return (
        f"Restore this file from a copy of {folder / table.layer / table.name}; bronze cannot be made again. "
        "docs/operations.md, Damaged tables, says what can be done without a copy."
    )


def rows(folder: Path, table: Table) -> list[dict[str, Any]]:
    stored = DeltaTable(str(folder / table.layer / table.name)).to_pyarrow_table().to_pylist()
    return sorted(stored, key=lambda row: tuple(row[name] for name in table.key))


def settings(folder: Path, url: str = "http://127.0.0.1:9") -> Settings:
    return Settings(warehouse=folder, fixed_now=NOW, start=START, api_url=url, _env_file=None)


def said_by(job: str, folder: Path, instance: dg.DagsterInstance, **given: Any) -> list[str]:
    """What the steps of a job that failed say."""
    result = (
        build_definitions(settings(folder, given.pop("url", "http://127.0.0.1:9")))
        .resolve_job_def(job)
        .execute_in_process(instance=instance, raise_on_error=False, **given)
    )
    errors = [e.event_specific_data.error for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    return [(e.cause or e).message.strip().split(": ", 1)[1] for e in errors]


def rebuild(folder: Path, instance: dg.DagsterInstance) -> None:
    assert said_by("rebuild", folder, instance, run_config={"start": "first", "end": "last"}) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_of_gold_is_a_sentence_from_every_door(damage: str, folder: Path, embedded: SparkSession) -> None:
    where, how, what = DAMAGES[damage]
    file = how(where(folder, GOLD))
    lakehouse = FolderLakehouse(embedded, folder)
    for door in (
        lambda: lakehouse.collect(lakehouse.scan(GOLD)),
        lambda: lakehouse.read_arrow(GOLD, Window(HELD[0].start, HELD[1].end)),
        lambda: lakehouse.maintain(GOLD, retain=timedelta(days=7)),
        lambda: features.load("GR", START, LAST.end, warehouse=folder),
    ):
        with pytest.raises(DamagedTableError) as caught:
            door()
        told = str(caught.value)
        assert told.startswith(f"gold.ml_features cannot be used: its file {file} ")
        assert what in told
        assert told.endswith(rebuilding(folder, GOLD))
        assert "\n" not in told


def test_silver_is_rebuilt_after_its_folder_was_moved_away(folder: Path, instance: dg.DagsterInstance) -> None:
    # Gold: the next test.
    before = [rows(folder, one) for one in (ENERGY_DATA, GOLD)]
    _data(folder, ENERGY_DATA).unlink()
    (folder / "silver" / "energy_data").rename(folder.parent / "away")
    rebuild(folder, instance)
    assert [rows(folder, one) for one in (ENERGY_DATA, GOLD)] == before


def test_a_folder_that_lost_its_log_is_not_taken_for_an_empty_table(
    folder: Path, embedded: SparkSession, instance: dg.DagsterInstance
) -> None:
    before = {table: rows(folder, table) for table in (POWER_DATA, ENERGY_DATA, GOLD)}
    for table, remedy in ((POWER_DATA, restoring), (GOLD, rebuilding)):
        log = log_of(folder, table)
        shutil.copytree(log, folder.parent / table.name)
        shutil.rmtree(log)
        for _ in range(2):
            with pytest.raises(DamagedTableError) as caught:
                FolderLakehouse(embedded, folder).create(table)
            assert str(caught.value) == (
                f"{table.qualified_name} cannot be used: its file {log} is missing or empty, though there are data "
                f"files. {remedy(folder, table)}"
            )
            log.mkdir(exist_ok=True)
    shutil.rmtree(log_of(folder, POWER_DATA))
    shutil.copytree(folder.parent / POWER_DATA.name, log_of(folder, POWER_DATA))
    (folder / "gold" / "ml_features").rename(folder.parent / "away")
    rebuild(folder, instance)
    assert {table: rows(folder, table) for table in before} == before


@pytest.mark.parametrize("how", [halve, zeros])
@pytest.mark.parametrize("table", [POWER_DATA, ENERGY_DATA])
def test_a_broken_checkpoint_is_removed_and_nothing_is_lost(
    table: Table, how: How, folder: Path, embedded: SparkSession
) -> None:
    before = rows(folder, table)
    file = how(checkpoint(folder, table))
    with pytest.raises(DamagedTableError) as caught:
        FolderLakehouse(embedded, folder).version(table)
    assert str(caught.value) == (
        f"{table.qualified_name} cannot be used: its file {file} is cut off or overwritten. Remove this file: the log "
        "is whole without it, nothing is lost (docs/operations.md, Damaged tables)."
    )
    file.unlink()
    assert rows(folder, table) == before


def test_a_checkpoint_that_the_log_needs_is_restored(folder: Path, embedded: SparkSession) -> None:
    file = checkpoint(folder, POWER_DATA)
    before, content = rows(folder, POWER_DATA), file.read_bytes()
    first_commit(folder, POWER_DATA).unlink()
    halve(file)
    with pytest.raises(DamagedTableError) as caught:
        FolderLakehouse(embedded, folder).version(POWER_DATA)
    assert str(caught.value).endswith(f"{file} is cut off or overwritten. {restoring(folder, POWER_DATA)}")
    file.write_bytes(content)
    assert rows(folder, POWER_DATA) == before


# --- bronze ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_of_bronze_is_mended_by_a_copy(damage: str, folder: Path, embedded: SparkSession) -> None:
    before = rows(folder, CARBON_DATA)
    where, how, what = DAMAGES[damage]
    target = where(folder, CARBON_DATA)
    content = target.read_bytes()
    file = how(target)
    lakehouse = FolderLakehouse(embedded, folder)
    with pytest.raises(DamagedTableError) as caught:
        lakehouse.collect(lakehouse.scan_responses(CARBON_DATA, HELD[1], longest=timedelta(days=12)))
    assert str(caught.value).startswith(f"bronze.carbon_data cannot be used: its file {file} ")
    assert what in str(caught.value)
    assert str(caught.value).endswith(restoring(folder, CARBON_DATA))
    file.write_bytes(content)
    assert rows(folder, CARBON_DATA) == before


@pytest.mark.parametrize("how", [halve, empty])
def test_without_a_copy_the_last_commit_is_moved_away_and_its_hours_are_run_again(
    how: How, folder: Path, embedded: SparkSession, instance: dg.DagsterInstance
) -> None:
    before = {table: rows(folder, table) for table in (ENERGY_DATA, GOLD)}
    file = how(last_commit(folder, CARBON_DATA))
    with Simulator(zones=("GR",), now=NOW) as sim:
        (told,) = said_by("hourly", folder, instance, tags=tags_of(LAST), url=sim.url)
    assert told.startswith(f"bronze.carbon_data cannot be used: its file {file} ")
    # As docs/operations.md says it.
    file.rename(folder.parent / file.name)
    evaluating.fill(embedded, folder, HELD[1:], NOW)
    assert {table: rows(folder, table) for table in before} == before
    spans = {(row["window_start"], row["window_end"]) for row in rows(folder, CARBON_DATA)}
    assert max(end for _, end in spans) >= LAST.end


@pytest.mark.parametrize("damage", ["a data file gone", "a data file overwritten"])
def test_without_a_copy_a_data_file_is_taken_out_and_its_hours_are_run_again(
    damage: str, folder: Path, embedded: SparkSession
) -> None:
    before = {table: rows(folder, table) for table in (ENERGY_DATA, GOLD)}
    where, how, _ = DAMAGES[damage]
    file = how(where(folder, CARBON_DATA))
    # As docs/operations.md says it.
    if file.exists():
        file.rename(folder.parent / file.name)
    DeltaTable(str(folder / "bronze" / "carbon_data")).repair()
    evaluating.fill(embedded, folder, [Window(START, LAST.end)], NOW)
    assert {table: rows(folder, table) for table in before} == before


# --- and no other table ---------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["a commit cut off", "an empty commit", "a data file gone"])
def test_a_damaged_table_fails_no_work_on_another(
    damage: str, folder: Path, embedded: SparkSession, instance: dg.DagsterInstance
) -> None:
    """Whether that work succeeds, finds no table yet, or fails for a reason of its own."""
    where, how, _ = DAMAGES[damage]
    how(where(folder, CARBON_DATA))
    lakehouse = FolderLakehouse(embedded, folder)
    assert lakehouse.version(REJECTED_RECORDS) is None
    assert lakehouse.collect(lakehouse.scan(POWER_DATA)).num_rows > 0
    for readable in (lakehouse.scan(GOLD), lakehouse.scan(POWER_DATA)):
        with pytest.raises(Exception, match="no_such_column") as caught:
            lakehouse.collect(readable.select("no_such_column"))
        assert not isinstance(caught.value, DamagedTableError)
    assert features.load("GR", START, LAST.end, warehouse=folder).shape[0] == 5 * 24 + 10
    with Simulator(zones=("GR",), now=NOW) as sim:
        only_power = {"asset_selection": [dg.AssetKey(POWER_DATA.asset_key)]}
        assert said_by("hourly", folder, instance, tags=tags_of(LAST), url=sim.url, **only_power) == []
    assert lakehouse.version(REJECTED_RECORDS) == 0


def test_a_damaged_table_keeps_no_missing_one_from_being_made(folder: Path, instance: dg.DagsterInstance) -> None:
    before = rows(folder, ENERGY_DATA)
    halve(last_commit(folder, GOLD))
    (folder / "silver" / "energy_data").rename(folder.parent / "away")
    (told,) = said_by(
        "rebuild", folder, instance, run_config={"start": "2024-05-04T09:00Z", "end": "2024-05-04T10:00Z"}
    )
    assert told.startswith("gold.ml_features cannot be used: ")
    assert rows(folder, ENERGY_DATA) == before[-24:]


# --- every door -----------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["a commit cut off", "an empty commit", "a data file gone"])
def test_the_sensors_skip_with_the_sentence_and_work_again_afterwards(
    damage: str, folder: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "a-token-of-these-looks"
    monkeypatch.setenv("EMAPS_API_TOKEN", token)
    evaluating.made(instance, ("GR",), Window(START, LAST.end))
    where, how, what = DAMAGES[damage]
    target = where(folder, GOLD)
    content = target.read_bytes()
    with Simulator(zones=("GR",), now=NOW, token=token) as sim:
        here = settings(folder, sim.url)
        assert look(here, "gaps", instance).skip_message == "Nothing is missing."
        file = how(target)
        told = look(here, "gaps", instance).skip_message
        assert told.startswith(f"gold.ml_features cannot be used: its file {file} ")
        assert what in told
        assert told.endswith(rebuilding(folder, GOLD))
        file.write_bytes(content)
        assert look(here, "gaps", instance).skip_message == "Nothing is missing."


def test_ticks_checks_health_rebuild_and_maintenance_say_it(folder: Path, instance: dg.DagsterInstance) -> None:
    file = halve(last_commit(folder, ENERGY_DATA))
    told = f"silver.energy_data cannot be used: its file {file} is cut off or overwritten. "
    told += rebuilding(folder, ENERGY_DATA)
    with Simulator(zones=("GR",), now=NOW) as sim:
        assert said_by("hourly", folder, instance, tags=tags_of(LAST), url=sim.url) == [told]
    assert said_by("health_report", folder, instance) == [told]
    assert said_by("rebuild", folder, instance, run_config={"start": "first", "end": "last"}) == [told]
    assert said_by("maintenance", folder, instance) == [told]
    result = (
        build_definitions(settings(folder))
        .resolve_job_def("hourly")
        .execute_in_process(
            instance=instance,
            tags=tags_of(LAST),
            raise_on_error=False,
            op_selection=["check_silver_energy_data"],
        )
    )
    judged = [e.asset_check_evaluation_data for e in result.all_events if e.event_type_value.endswith("EVALUATION")]
    assert judged
    assert all(told in str(one.description) for one in judged if not one.passed)
    assert {one.check_name for one in judged if not one.passed} >= {"silver_equals_bronze", "table_is_fresh"}


def test_an_error_that_has_another_cause_stays_as_it_is(folder: Path, embedded: SparkSession) -> None:
    lakehouse = FolderLakehouse(embedded, folder)
    with pytest.raises(Exception, match="no_such_column") as caught:
        lakehouse.collect(lakehouse.scan(GOLD).select("no_such_column"))
    assert not isinstance(caught.value, DamagedTableError)
