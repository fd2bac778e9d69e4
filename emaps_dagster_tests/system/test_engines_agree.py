"""Both engines on one history of a provider: the same tables to the last bit, and each continues the other's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from emaps_dagster.contracts.signals import power_feeds
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import ENERGY_DATA, REJECTED_RESPONSES, RESPONSE_TABLES, bronze_tables
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, gold_window, silver_window
from emaps_dagster.contracts.zones import CARBON, MODE_KEYS
from emaps_dagster.electricity_maps.fetch import fetch
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.ingest import ingest
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster_tests.support.engines import is_jvm, jvm_functions, open_folders
from emaps_dagster_tests.support.pipeline_harness import BASE, GOLD, Provider, stored_rows
from emaps_dagster_tests.support.reference_implementation import differences


def history(seed: int) -> Iterator[tuple[Provider, Window, str]]:
    """Three runs of a provider that has holes, nulls, repeats and neighbours that go, and revises what it said.

    The later runs ask for electricity-mix, of which one signal is a version ahead of the others.
    """
    dice = random.Random(seed)
    provider = Provider()
    hours = [BASE + number * HOUR for number in range(31)]
    provider.missing = {(dice.choice(["power", "carbon"]), dice.choice(hours)) for _ in range(4)}
    provider.null_modes = set(dice.sample(MODE_KEYS, 2))
    provider.repeats = {dice.choice(hours)}
    provider.long_numbers = True
    # Back over the turn of a quarter, a month and to summer time.
    yield provider, Window(BASE, floor_hour(provider.now)), "power-breakdown"
    provider.opinions["flows", floor_hour(provider.now) - 2 * HOUR] = 3
    for passed in (1, 20):
        provider.now += passed * HOUR
        provider.missing.pop()
        provider.gone_neighbours ^= {dice.choice(["AL", "BG", "IT-SO"])}
        for feed in ("power", "carbon"):
            for _ in range(3):
                provider.opinions[feed, floor_hour(provider.now) - dice.randrange(1, 22) * HOUR] = dice.randrange(1, 9)
        end = floor_hour(provider.now)
        yield provider, Window(end - HOUR, end), "electricity-mix"


def run(spark: SparkSession, warehouse: Path, provider: Provider, window: Window, road: str) -> None:
    """What the assets do, on the engine of the session."""
    lakehouse = open_folders(spark, warehouse)
    functions: AbstractContextManager[None] = jvm_functions() if is_jvm(spark) else nullcontext()
    with functions:
        for feeds, of_feed in zip((power_feeds(road), (CARBON,)), bronze_tables(road), strict=True):
            for table in (of_feed, REJECTED_RESPONSES):
                lakehouse.create(table)
            client: Any = provider
            _, failures, _ = ingest(lakehouse, of_feed, fetch(client, feeds, ("GR",), window, provider.now))
            assert failures == []
        merge_silver(lakehouse, silver_window(window))
        merge_gold(lakehouse, ("GR",), gold_window(window))


def assert_equal(one: Path, other: Path, *tables: Table) -> None:
    for table in tables:
        rows = stored_rows(one, table)
        assert rows
        assert differences(stored_rows(other, table), rows) == [], table.qualified_name


def schema(warehouse: Path, table: Table) -> Any:
    return DeltaTable(str(warehouse / table.layer / table.name)).schema()


@pytest.mark.parametrize("seed", [5])
def test_tables_made_by_one_and_by_both_alternately_are_equal_bit_for_bit(
    embedded: SparkSession, jvm: SparkSession, tmp_path: Path, seed: int
) -> None:
    # The JVM begins, and goes on with what the embedded engine made; test_gold.py and its like are of one engine.
    turns = {"embedded": [embedded] * 3, "by turns": [jvm, embedded, jvm]}
    for name, sessions in turns.items():
        for session, (provider, window, road) in zip(sessions, history(seed), strict=True):
            run(session, tmp_path / name, provider, window, road)
    silver = stored_rows(tmp_path / "embedded", ENERGY_DATA).values()
    assert len({row["source_power"] for row in silver if row["source_power"]}) == 2
    assert {None, False} <= {row["is_superseded_power"] for row in silver}
    assert len(stored_rows(tmp_path / "embedded", GOLD)) > 40
    assert_equal(tmp_path / "embedded", tmp_path / "by turns", ENERGY_DATA, GOLD)
    for table in (*RESPONSE_TABLES, ENERGY_DATA, GOLD):
        assert schema(tmp_path / "by turns", table) == schema(tmp_path / "embedded", table)
