"""The cache of rows as they were known: a shortcut that changes no answer, whatever happens to its files."""

from __future__ import annotations

import os
import shutil
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from emaps_dagster import features
from emaps_dagster.contracts.errors import SettingsError
from emaps_dagster.contracts.settings import read_settings
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import CARBON, POWER
from emaps_dagster.features import computing
from emaps_dagster.features.cache import Cache
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.pipeline.withdraw import select, selection_of, withdraw
from emaps_dagster.simulator.provider import Provider
from harness.history_builder import Past

DAY = datetime(2024, 4, 30, tzinfo=timezone.utc)
MINUTES = timedelta(minutes=7)
QUESTION: dict[str, Any] = {"known_at": "1d", "columns": ["production_total", "carbon_intensity"]}
ROWS = pa.table({"zone": ["GR"], "value": [1.5]})


@pytest.fixture
def past(spark: SparkSession, tmp_path: Path) -> Past:
    """Three hourly runs, without silver and gold."""
    past = Past(FolderLakehouse(spark, tmp_path / "warehouse"), ("GR",), Provider(7))
    past.tick(*(DAY + number * HOUR + MINUTES for number in (1, 2, 3)))
    return past


def load(past: Past, **more: Any) -> pa.Table:
    return features.load_arrow("GR", DAY, DAY + 3 * HOUR, **QUESTION | more, warehouse=past.lakehouse.warehouse)


def folder_of(past: Past) -> Path:
    return past.lakehouse.warehouse.with_name(".warehouse.features-cache")


def without_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("the engine was started")

    monkeypatch.setattr(computing, "embedded_session", refuse)


def test_a_second_call_needs_no_engine_and_says_the_same(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(past)
    assert len(list(folder_of(past).glob("*.arrow"))) == 1
    without_engine(monkeypatch)
    assert load(past).equals(first)
    for other in ({"known_at": "2h"}, {"columns": ["production_total"]}, {"known_at": None, "as_of": DAY + 9 * HOUR}):
        with pytest.raises(AssertionError, match="the engine was started"):
            load(past, **other)


def test_an_answer_is_computed_again_after_every_write_to_bronze(past: Past) -> None:
    before = load(past)
    # The same hours told otherwise, within the day.
    for number in range(3):
        past.provider.revise("GR", DAY + number * HOUR, at=DAY + 4 * HOUR)
    past.tick(DAY + 4 * HOUR + MINUTES, feeds=[CARBON])
    carbon = load(past)
    assert carbon["carbon_intensity"].to_pylist() != before["carbon_intensity"].to_pylist()
    assert carbon["production_total"].equals(before["production_total"])
    past.tick(DAY + 4 * HOUR + MINUTES, feeds=[POWER])
    power = load(past)
    assert power["production_total"].to_pylist() != before["production_total"].to_pylist()


def test_an_answer_is_computed_again_after_a_withdrawal(past: Past) -> None:
    before = load(past)
    for number in range(3):
        past.provider.revise("GR", DAY + number * HOUR, at=DAY + 4 * HOUR)
    past.tick(DAY + 4 * HOUR + MINUTES)
    assert not load(past).equals(before)
    last = select(
        past.lakehouse,
        selection_of(ingested_from="2024-04-30T04:00Z", ingested_until="2024-04-30T05:00Z"),
        DAY + 9 * HOUR,
    )
    withdraw(past.lakehouse, last)
    assert load(past).equals(before)


def test_a_restored_folder_that_counts_the_same_versions_is_another_one(past: Past) -> None:
    warehouse = past.lakehouse.warehouse
    copy = warehouse.with_name("copy")
    shutil.copytree(warehouse, copy)
    for number in range(3):
        past.provider.revise("GR", DAY + number * HOUR, at=DAY + 4 * HOUR)
    past.tick(DAY + 4 * HOUR + MINUTES)
    revised = load(past)
    version = DeltaTable(str(warehouse / "bronze" / "power_data")).version()
    shutil.rmtree(warehouse)
    shutil.copytree(copy, warehouse)
    restored = Past(FolderLakehouse(past.lakehouse.spark, warehouse), ("GR",), Provider(7))
    restored.tick(DAY + 4 * HOUR + MINUTES)
    assert DeltaTable(str(warehouse / "bronze" / "power_data")).version() == version
    assert not load(restored).equals(revised)


def test_months_of_one_plan_are_cached_each_by_itself(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = DAY + timedelta(days=1)
    past.tick(*(turn + number * HOUR + MINUTES for number in range(-2, 3)))

    def of(start: datetime, end: datetime) -> pa.Table:
        return features.load_arrow("GR", start, end, **QUESTION, allow="missing", warehouse=past.lakehouse.warehouse)

    whole = of(turn - 3 * HOUR, turn + 2 * HOUR)
    assert whole.num_rows == 5
    files = sorted(folder_of(past).glob("*.arrow"))
    assert len(files) == 2
    with monkeypatch.context() as patched:
        without_engine(patched)
        april, may = of(turn - 3 * HOUR, turn), of(turn, turn + 2 * HOUR)
    assert pa.concat_tables([april, may]).equals(whole)
    for file in files:
        file.unlink()
        assert of(turn - 3 * HOUR, turn + 2 * HOUR).equals(whole)
    # Months on both sides of a cached one are two plans; what lies between them is not computed again.
    shutil.rmtree(folder_of(past))
    of(turn, turn + timedelta(days=31))
    june = turn + timedelta(days=33)
    assert of(turn - 3 * HOUR, june).slice(0, 5).equals(whole)


def test_other_months_of_bronze_leave_the_answer_in_the_cache(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(past)
    past.tick(DAY + timedelta(days=40))
    without_engine(monkeypatch)
    assert load(past).equals(first)


def test_a_month_that_is_written_meanwhile_is_not_kept(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    collect = computing.Computing.collect

    def and_write(self: Any, *arguments: Any) -> list[pa.Table]:
        rows = list(collect(self, *arguments))
        past.tick(DAY + 4 * HOUR + MINUTES)
        return rows

    monkeypatch.setattr(computing.Computing, "collect", and_write)
    load(past)
    assert not folder_of(past).exists()


@pytest.mark.parametrize("harm", ["deleted", "empty", "cut", "flipped", "folder"])
def test_files_that_are_lost_or_torn_are_computed_again(past: Past, harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(past)
    (file,) = folder_of(past).glob("*.arrow")
    content = file.read_bytes()
    if harm == "deleted":
        shutil.rmtree(folder_of(past))
    elif harm == "folder":
        file.unlink()
        file.mkdir()
    else:
        changed = bytes([content[-1] ^ 1])
        file.write_bytes({"empty": b"", "cut": content[:-9], "flipped": content[:-1] + changed}[harm])
    assert load(past).equals(first)
    if harm != "folder":
        # The file is whole again.
        without_engine(monkeypatch)
        assert load(past).equals(first)


def test_a_place_that_cannot_be_written_costs_the_cache_and_not_the_answer(past: Past) -> None:
    folder_of(past).write_text("a file where the folder would be")
    assert load(past).num_rows == 3
    assert folder_of(past).read_text() == "a file where the folder would be"
    # No process can make a folder there.
    nowhere = Cache(Path("/proc/emaps-cache"), 10_000)
    nowhere.put("a", ROWS)
    assert nowhere.get("a") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere; the test above covers a place that refuses")
def test_a_read_only_folder_is_read_and_not_written(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10_000)
    cache.put("a", ROWS)
    cache.folder.chmod(0o500)
    cache.put("b", ROWS)
    assert cache.get("a") == ROWS
    assert cache.get("b") is None
    cache.folder.chmod(0o700)


def test_the_setting_turns_it_off(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_FEATURES_CACHE_MB", "0")
    assert load(past).num_rows == 3
    assert not folder_of(past).exists()


def test_a_wrong_setting_is_named_and_a_query_with_its_folder_goes_without_cache(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without gold the zones are those of the settings, which cannot be read then.
    past.merge(Window(DAY, DAY + 3 * HOUR))
    for wrong in ("much", "-1", "1.5"):
        monkeypatch.setenv("EMAPS_FEATURES_CACHE_MB", wrong)
        with pytest.raises(SettingsError, match=f"EMAPS_FEATURES_CACHE_MB is '{wrong}'.* 0 for no cache"):
            read_settings()
    assert load(past).num_rows == 3
    assert not folder_of(past).exists()


def test_the_least_recently_used_goes_when_the_limit_is_reached(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10_000)
    cache.put("a", ROWS)
    size = (cache.folder / "a.arrow").stat().st_size
    cache.limit = 2 * size
    cache.put("b", ROWS)
    for age, key in ((20, "a"), (10, "b")):
        moment = (cache.folder / f"{key}.arrow").stat().st_mtime - age
        os.utime(cache.folder / f"{key}.arrow", (moment, moment))
    assert cache.get("a") == ROWS
    cache.put("c", ROWS)
    assert sorted(path.name for path in cache.folder.iterdir()) == ["a.arrow", "c.arrow"]
    cache.limit = size - 1
    cache.put("d", ROWS)
    assert cache.get("d") is None


def test_what_a_killed_writer_left_goes_after_an_hour(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10_000)
    cache.folder.mkdir()
    for name, age in (("old.part", 3700), ("new.part", 60)):
        path = cache.folder / name
        path.write_bytes(b"half")
        moment = path.stat().st_mtime - age
        os.utime(path, (moment, moment))
    cache.put("a", ROWS)
    assert sorted(path.name for path in cache.folder.iterdir()) == ["a.arrow", "new.part"]


def test_two_writers_at_once_leave_whole_files(tmp_path: Path) -> None:
    tables = [pa.table({"value": [float(number)] * 5000}) for number in range(2)]
    caches = [Cache(tmp_path / "cache", 100_000) for _ in tables]
    read: list[pa.Table | None] = []

    def write(cache: Cache, rows: pa.Table) -> None:
        for _ in range(50):
            cache.put("same", rows)
            read.append(cache.get("same"))

    writers = [threading.Thread(target=write, args=pair) for pair in zip(caches, tables, strict=True)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read) == 100
    assert all(rows in tables for rows in read)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["same.arrow"]
