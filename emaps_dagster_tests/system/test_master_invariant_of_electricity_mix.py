"""The master invariant by the long road: six signals that arrive apart, late, repeated, or killed between.

The operations are those of test_master_invariant.py, and signals that go their own way; the road itself may change.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import seed
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test
from pyspark.sql import SparkSession

from emaps_dagster.contracts.signals import MIX_SIGNALS
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import ENERGY_DATA
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.pipeline import ingest
from emaps_dagster_tests.support.mutants import Mutant, planted
from emaps_dagster_tests.support.pipeline_harness import BASE, KilledError, World, stored_rows
from emaps_dagster_tests.system.test_master_invariant import OPERATIONS, SEED, Machine, machine_settings
from harness.long_runs import LONG

SIGNAL = st.sampled_from([signal.name for signal in MIX_SIGNALS])


@pytest.fixture(autouse=True)
def each_answer_is_committed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run can be killed between two signals."""
    monkeypatch.setattr(ingest, "_BATCH", 1)


class MixMachine(Machine):
    """A world whose runs ask for electricity-mix, now and then for power-breakdown."""

    @initialize(dice=st.randoms(use_true_random=False))
    def begin(self, dice: random.Random) -> None:
        super().begin(dice)
        self.world.road = "electricity-mix"
        signal = dice.choice(MIX_SIGNALS).name
        self.provider.missing |= {(signal, self.hour(dice.randrange(1, 9)))}
        self.provider.opinions |= {(signal, self.hour(back)): dice.randrange(1, 9) for back in (1, 3)}

    @rule()
    def the_road_changes(self) -> None:
        other = {"electricity-mix": "power-breakdown", "power-breakdown": "electricity-mix"}
        self.world.road = other[self.world.road]
        self.count()

    @rule(signal=SIGNAL, back=st.integers(0, 30), hours=st.integers(1, 4), opinion=st.integers(1, 9))
    def a_signal_is_of_another_version(self, signal: str, back: int, hours: int, opinion: int) -> None:
        self.provider.opinions |= {(signal, self.hour(back + number)): opinion for number in range(hours)}
        self.count()

    @rule()
    def the_signals_are_of_one_version_again(self) -> None:
        names = {signal.name for signal in MIX_SIGNALS}
        opinions = self.provider.opinions
        self.provider.opinions = {key: opinions[key] for key in opinions if key[0] not in names}
        self.count()

    @rule(signal=SIGNAL, back=st.integers(0, 30), flaw=st.integers(0, 13))
    def a_signal_comes_with_a_flaw(self, signal: str, back: int, flaw: int) -> None:
        self.provider.flaws[signal, self.hour(back)] = flaw
        self.count()

    @rule(signal=SIGNAL)
    def a_signal_fails_once(self, signal: str) -> None:
        self.provider.down[signal] = 1
        self.count()


def test_after_every_step_the_tables_are_what_the_signals_say(spark: SparkSession) -> None:
    MixMachine.spark = spark
    run_state_machine_as_test(MixMachine, settings=machine_settings(3 if LONG else 1, 12))


@pytest.mark.skipif(not OPERATIONS, reason="the long run: EMAPS_TEST_OPERATIONS says how many operations")
@pytest.mark.timeout(0)
def test_many_operations(spark: SparkSession) -> None:
    MixMachine.spark = spark
    MixMachine.operations = MixMachine.runs = 0
    number = SEED
    while MixMachine.operations < OPERATIONS:
        run_state_machine_as_test(seed(number)(MixMachine), settings=machine_settings(20, 40, database=None))
        told = f"{MixMachine.operations} operations, {MixMachine.runs} runs of the pipeline, seeds {SEED} to {number}"
        print(f"{told}: no violation", flush=True)
        number += 1


def tick(world: World) -> None:
    world.run(Window(BASE + 29 * HOUR, BASE + 30 * HOUR))


def story(world: World) -> Iterator[str]:
    """One short history in which each bug below shows; after every step the tables are checked."""
    provider = world.provider
    world.road = "electricity-mix"

    def revise(*signals: str, opinion: int) -> None:
        provider.now += timedelta(minutes=1)
        provider.opinions |= {(signal, BASE + 28 * HOUR): opinion for signal in signals}
        tick(world)

    tick(world)
    yield "six signals of one version"
    revise("mix", opinion=2)
    yield "a version of which only the mix has come"
    revise("traced_mix", "flows", opinion=2)
    yield "the rest of the version"
    revise("renewable", "carbon_free", opinion=2)
    yield "its percentages"
    revise("mix", "traced_mix", "flows", "renewable", "carbon_free", opinion=0)
    yield "an older version again"
    provider.opinions = {("power", BASE + 27 * HOUR): 4}
    provider.now += timedelta(minutes=1)

    def kill(table: Table, number: int) -> None:
        if table.layer == "bronze" and number == 2:
            raise KilledError

    world.run(Window(BASE + 29 * HOUR, BASE + 30 * HOUR), before_commit=kill)
    yield "a run killed when two of six signals were stored"
    tick(world)
    yield "the same run again"
    yield from the_road_changes_and_back(world)


def the_road_changes_and_back(world: World) -> Iterator[str]:
    world.road = "power-breakdown"
    world.provider.opinions = {("power", BASE + 26 * HOUR): 2}
    world.provider.now += timedelta(minutes=1)
    tick(world)
    yield "the other road"
    world.road = "electricity-mix"
    world.provider.now += timedelta(minutes=1)
    tick(world)
    yield "and back"


def roads_alone(world: World) -> Iterator[str]:
    """The end of the story, for a bug that no step before it shows."""
    world.road = "electricity-mix"
    tick(world)
    yield from the_road_changes_and_back(world)


def superseded(world: World) -> list[Any]:
    rows = stored_rows(world.folder, ENERGY_DATA)
    return sorted((hour - BASE) // HOUR for (_, hour), row in rows.items() if row["is_superseded_power"])


def test_a_story_of_signals_leaves_the_tables_right_and_names_the_hours_that_wait(
    spark: SparkSession, tmp_path: Path
) -> None:
    world = World(spark, tmp_path / "warehouse")
    waiting = {}
    for step in story(world):
        world.check()
        waiting[step] = superseded(world)
    assert waiting.pop("a version of which only the mix has come") == [28]
    assert set(map(tuple, waiting.values())) == {()}
    world.check_rebuild(tmp_path / "rebuilt")


BUGS = (
    Mutant(
        "signals of any version put together",
        "transforms.mix:mix_records",
        "F.col(name) for name in version)",
        'F.col(name) for name in ("datetime",))',
    ),
    Mutant(
        "a record of the mix alone",
        "transforms.mix:mix_records",
        "map(is_of_version, NEEDED_SIGNALS)",
        "map(is_of_version, NEEDED_SIGNALS[:1])",
    ),
    Mutant(
        "both roads tell a version",
        "transforms.mix:first_road_keeps_the_version",
        '.where(F.col("updated_at").isNull() | (F.col("_road") == F.col("_first_road")))',
        "",
    ),
    Mutant(
        "a storage that is not reported is 0",
        "transforms.mix:_net",
        ".when(charge != 0.0, -charge)",
        ".otherwise(-charge)",
    ),
    Mutant(
        "charging counted as production",
        "transforms.mix:_with_numbers",
        '"_given": F.concat("_plain", "_discharged")',
        '"_given": F.concat(F.col("_plain"), F.array(*net))',
    ),
)


@pytest.mark.parametrize("mutant", BUGS, ids=lambda mutant: mutant.name)
@pytest.mark.long("bugs planted in the road that is off by default")
def test_the_story_shows_every_planted_bug(spark: SparkSession, tmp_path: Path, mutant: Mutant) -> None:
    world = World(spark, tmp_path / "warehouse")
    found = None
    steps = roads_alone if mutant.name == "both roads tell a version" else story
    with planted(mutant):
        for step in steps(world):
            try:
                world.check()
            except AssertionError as violation:
                found = f"{mutant.name}: {step}: {violation}"
                break
    assert found, f"the bug {mutant.name!r} was planted and nothing noticed"
