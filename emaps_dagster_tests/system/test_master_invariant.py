"""After any sequence of ticks, backfills, revisions, kills, races and retries the tables are what bronze says.

EMAPS_TEST_OPERATIONS=10000 runs that many operations instead of the suite's few, from seed EMAPS_TEST_SEED on.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pyspark.sql import SparkSession

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import MODE_KEYS
from emaps_dagster_tests.support.mutants import MUTANTS, Mutant, planted
from emaps_dagster_tests.support.pipeline_harness import BASE, KilledError, World
from harness.long_runs import LONG

OPERATIONS = int(os.environ.get("EMAPS_TEST_OPERATIONS", "0"))
SEED = int(os.environ.get("EMAPS_TEST_SEED", "1"))
FEED = st.sampled_from(["power", "carbon"])
BACK = st.integers(0, 50)


class Machine(RuleBasedStateMachine):
    """One world; `spark` is set by the test that runs it."""

    spark: SparkSession
    operations = 0
    runs = 0

    @initialize(dice=st.randoms(use_true_random=False))
    def begin(self, dice: random.Random) -> None:
        """A world in which some trouble has already begun; half of them have a past that no late run reaches."""
        self.folder = Path(tempfile.mkdtemp(prefix="emaps-machine-"))
        self.world = World(self.spark, self.folder / "warehouse")
        self.checked: dict[str, int | None] = {}
        age = dice.choice([31, 101])
        self.provider.now = BASE + (age - 1) * HOUR
        hours = [BASE + number * HOUR for number in range(age)]
        self.provider.missing = {(dice.choice(["power", "carbon"]), dice.choice(hours)) for _ in range(3)}
        self.provider.missing |= {(feed, hour) for hour in [dice.choice(hours)] for feed in ("power", "carbon")}
        self.provider.null_modes = {dice.choice(MODE_KEYS)}
        self.provider.repeats = {dice.choice(hours)}
        self.provider.long_numbers = dice.choice([True, False])
        self.provider.flaws = {(dice.choice(["power", "carbon"]), dice.choice(hours)): dice.randrange(8)}
        if age == 101:
            self.world.run(Window(BASE, BASE + 90 * HOUR))

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.world.check_rebuild(self.folder / "rebuilt")
                self.world.check()
        finally:
            if hasattr(self, "folder"):
                shutil.rmtree(self.folder)

    @property
    def provider(self) -> Any:
        return self.world.provider

    def hour(self, back: int) -> datetime:
        return max(BASE, floor_hour(self.provider.now) - back * HOUR)

    def window(self, back: int, hours: int) -> Window:
        end = max(BASE + HOUR, floor_hour(self.provider.now) - back * HOUR)
        return Window(max(BASE, end - hours * HOUR), end)

    def count(self, runs: int = 0) -> None:
        type(self).operations += 1
        type(self).runs += runs

    # What the world does.

    @rule(hours=st.sampled_from([0.25, 1, 1, 1, 2, 7, 26]))
    def time_passes(self, hours: float) -> None:
        self.provider.now += timedelta(hours=hours)
        self.count()

    @rule(feed=FEED, back=BACK, hours=st.integers(1, 4), opinion=st.integers(1, 9))
    def hours_are_revised(self, feed: str, back: int, hours: int, opinion: int) -> None:
        for number in range(hours):
            self.provider.opinions[feed, self.hour(back + number)] = opinion
        self.count()

    @rule(feed=FEED, back=BACK, hours=st.integers(1, 30))
    def a_feed_lacks_hours(self, feed: str, back: int, hours: int) -> None:
        self.provider.missing |= {(feed, self.hour(back) + number * HOUR) for number in range(hours)}
        self.count()

    @rule()
    def missing_hours_appear(self) -> None:
        self.provider.missing.clear()
        self.count()

    @rule(neighbour=st.sampled_from(["AL", "BG", "IT-SO", "NEW"]))
    def a_neighbour_vanishes_or_appears(self, neighbour: str) -> None:
        self.provider.gone_neighbours ^= {neighbour}
        self.count()

    @rule(mode=st.sampled_from(MODE_KEYS))
    def a_mode_is_not_reported_or_is_again(self, mode: str) -> None:
        self.provider.null_modes ^= {mode}
        self.count()

    @rule(back=BACK)
    def an_hour_comes_twice_in_a_body(self, back: int) -> None:
        self.provider.repeats ^= {self.hour(back)}
        self.count()

    @rule(feed=FEED, back=BACK, hours=st.integers(1, 3), flaw=st.integers(0, 8))
    def records_come_with_a_flaw(self, feed: str, back: int, hours: int, flaw: int) -> None:
        self.provider.flaws |= {(feed, self.hour(back + number)): flaw for number in range(hours)}
        self.count()

    @rule()
    def flaws_are_mended(self) -> None:
        self.provider.flaws.clear()
        self.count()

    @rule()
    def bodies_turn_round(self) -> None:
        self.provider.backwards ^= True
        self.count()

    @rule(feed=FEED)
    def the_provider_fails_once(self, feed: str) -> None:
        self.provider.down[feed] = 1
        self.count()

    @rule(hours=st.sampled_from([-3, -1, 0, 0]))
    def our_clock_goes_wrong_or_right(self, hours: int) -> None:
        self.provider.clock_error = timedelta(hours=hours)
        self.count()

    @rule(dice=st.randoms(use_true_random=False))
    def much_happens_before_the_next_run(self, dice: random.Random) -> None:
        """Ten of the above: between two runs of a real pipeline the provider does more than one thing."""
        for _ in range(10):
            self.something_happens(dice.randrange(51), dice.choice(["power", "carbon"]), dice)

    def something_happens(self, back: int, feed: str, dice: random.Random) -> None:
        happenings: list[Callable[[], None]] = [
            lambda: self.time_passes(0.25),
            lambda: self.hours_are_revised(feed, back, dice.randrange(1, 5), dice.randrange(1, 10)),
            lambda: self.a_feed_lacks_hours(feed, back, dice.randrange(1, 6)),
            lambda: self.a_neighbour_vanishes_or_appears(dice.choice(["AL", "BG", "IT-SO", "NEW"])),
            lambda: self.a_mode_is_not_reported_or_is_again(dice.choice(MODE_KEYS)),
            lambda: self.an_hour_comes_twice_in_a_body(back),
            lambda: self.records_come_with_a_flaw(feed, back, dice.randrange(1, 3), dice.randrange(8)),
            self.flaws_are_mended,
            self.missing_hours_appear,
            self.bodies_turn_round,
        ]
        dice.choice(happenings)()

    # What the pipeline does.

    @rule()
    def tick(self) -> None:
        self.world.run(self.window(0, 1))
        self.count(1)

    @rule(back=BACK, hours=st.integers(1, 60))
    def backfill(self, back: int, hours: int) -> None:
        self.world.run(self.window(back, hours))
        self.count(1)

    @rule(back=st.integers(0, 5))
    def a_late_tick(self, back: int) -> None:
        self.world.run(self.window(back, 1))
        self.count(1)

    @rule(back=BACK, hours=st.integers(1, 30), commits=st.integers(0, 5))
    def a_run_is_killed(self, back: int, hours: int, commits: int) -> None:
        def kill(_: Table, number: int) -> None:
            if number >= commits:
                raise KilledError

        self.world.run(self.window(back, hours), before_commit=kill)
        self.count(1)

    # Bronze commits are 0 and 1; what races for rows are silver's and gold's after them.
    @rule(
        back=st.integers(0, 9),
        hours=st.integers(1, 30),
        other=st.integers(1, 20),
        at=st.sampled_from([0, 1, 2, 2, 2, 3, 4, 5]),
    )
    def two_runs_at_once(self, back: int, hours: int, other: int, at: int) -> None:
        """The second runs as a whole just before a commit of the first, and knows more than it of an hour revised."""
        raced = []

        def revise() -> None:
            # Later than any run before: which of two tellings of one moment counts, their hashes decide.
            self.provider.now += timedelta(minutes=1)
            told = "power", self.hour(other)
            self.provider.opinions[told] = 1 + self.provider.opinions.get(told, 0)

        def race(_: Table, number: int) -> None:
            if number == at and not raced:
                raced.append(True)
                revise()
                self.world.run(self.window(other, 2))

        revise()
        self.world.run(self.window(back, hours), before_commit=race)
        self.count(2)

    @precondition(lambda self: self.world.failed)
    @rule()
    def failed_runs_are_run_again(self) -> None:
        for window in list(self.world.failed):
            self.world.run(window)
            self.count(1)

    @rule(back=st.integers(0, 30), hours=st.integers(1, 30))
    def the_same_run_twice_writes_nothing_the_second_time(self, back: int, hours: int) -> None:
        window = self.window(back, hours)
        self.world.run(window)
        if window not in self.world.failed:
            before = self.world.merged_versions()
            self.world.run(window)
            assert self.world.merged_versions() == before
        self.count(2)

    @invariant()
    def tables_are_what_bronze_says(self) -> None:
        if hasattr(self, "world") and (versions := self.world.versions()) != self.checked:
            self.world.check()
            self.checked = versions


def machine_settings(examples: int, steps: int, **more: Any) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # A step takes a second: shrinking would take hours. The steps of a failure are printed all the same.
        phases=(Phase.explicit, Phase.generate),
        report_multiple_bugs=False,
        **more,
    )


def test_after_every_step_the_tables_are_what_bronze_says(spark: SparkSession) -> None:
    Machine.spark = spark
    run_state_machine_as_test(Machine, settings=machine_settings(5 if LONG else 2, 12))


@pytest.mark.skipif(not OPERATIONS, reason="the long run: EMAPS_TEST_OPERATIONS says how many operations")
@pytest.mark.timeout(0)
def test_many_operations(spark: SparkSession) -> None:
    Machine.spark = spark
    Machine.operations = Machine.runs = 0
    number = SEED
    while Machine.operations < OPERATIONS:
        run_state_machine_as_test(seed(number)(Machine), settings=machine_settings(20, 40, database=None))
        told = f"{Machine.operations} operations, {Machine.runs} runs of the pipeline, seeds {SEED} to {number}"
        print(f"{told}: no violation", flush=True)
        number += 1


def story(world: World) -> Iterator[str]:
    """One short history in which each bug of mutants.py shows; after every step the tables are checked."""
    provider = world.provider

    def window(first: int, hours: int = 1) -> Window:
        return Window(BASE + first * HOUR, BASE + (first + hours) * HOUR)

    provider.missing = {("power", BASE + 5 * HOUR), ("carbon", BASE + 9 * HOUR)}
    provider.missing |= {(feed, BASE + 20 * HOUR) for feed in ("power", "carbon")}
    provider.null_modes = {"hydro", "wind"}
    provider.long_numbers = True
    provider.opinions["power", BASE + 70 * HOUR] = 5
    provider.flaws = {("power", BASE + 30 * HOUR): 0, ("carbon", BASE + 31 * HOUR): 4, ("power", BASE + 72 * HOUR): 0}
    provider.now = BASE + 75 * HOUR + timedelta(minutes=20)
    world.run(window(2, 73))
    yield "a backfill up to the middle of an hour, with records that cannot be trusted"
    del provider.flaws["power", BASE + 72 * HOUR]
    provider.flaws["power", BASE + 73 * HOUR] = 3
    provider.opinions["power", BASE + 40 * HOUR] = 5
    # An opinion with an older time of update than the one it replaces.
    provider.opinions["power", BASE + 70 * HOUR] = 1
    provider.now += HOUR
    world.run(window(40))
    world.run(window(75))
    yield "an old hour and a recent one revised, each run alone"
    for opinion in (3, 1, 3):
        provider.opinions["carbon", BASE + 74 * HOUR] = opinion
        provider.now += timedelta(minutes=1)
        world.run(window(75))
    yield "an opinion that comes back"
    provider.now += 12 * HOUR
    world.run(window(77))
    yield "a late run whose body holds hours on both sides"

    yield from overtaken(world)

    def kill(table: Table, _: int) -> None:
        if table.layer == "gold":
            raise KilledError

    provider.opinions["power", BASE + 86 * HOUR] = 2
    provider.now += HOUR
    world.run(window(88), before_commit=kill)
    yield "a run killed between silver and gold"
    world.run(window(88))
    assert world.failed == []
    yield "the same partition run again"


def overtaken(world: World) -> Iterator[str]:
    provider = world.provider

    def race(table: Table, _: int) -> None:
        if table.layer == "silver" and not raced:
            raced.append(True)
            provider.now += timedelta(minutes=1)
            provider.opinions["power", BASE + 85 * HOUR] = 7
            world.run(Window(BASE + 86 * HOUR, BASE + 87 * HOUR))

    raced: list[bool] = []
    provider.opinions["power", BASE + 85 * HOUR] = 8
    world.run(Window(BASE + 87 * HOUR, BASE + 88 * HOUR), before_commit=race)
    yield "a run overtaken just before it writes silver"


def race_alone(world: World) -> Iterator[str]:
    """That step of the story, for a bug that no step before it shows."""
    world.provider.now = BASE + 88 * HOUR + timedelta(minutes=20)
    world.run(Window(BASE + 77 * HOUR, BASE + 78 * HOUR))
    yield from overtaken(world)


def test_a_story_with_every_kind_of_trouble_leaves_the_tables_right(spark: SparkSession, tmp_path: Path) -> None:
    world = World(spark, tmp_path / "warehouse")
    for step in story(world):
        world.check()
        assert world.versions()["ml_features"], step
    world.check_rebuild(tmp_path / "rebuilt")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_story_shows_every_planted_bug(spark: SparkSession, tmp_path: Path, mutant: Mutant) -> None:
    world = World(spark, tmp_path / "warehouse")
    found = None
    steps = race_alone if mutant.name == "merge without a guard against other writers" else story
    with planted(mutant):
        for step in steps(world):
            try:
                world.check()
            except AssertionError as violation:
                found = f"{mutant.name}: {step}: {violation}"
                break
    assert found, f"the bug {mutant.name!r} was planted and nothing noticed"
    print(found[:300])


def test_a_known_body_delivered_in_the_same_microsecond_as_a_contradicting_one_still_counts(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Random operations, seed 7000: bronze left out what it knew, and the tie was decided without it."""
    world = World(spark, tmp_path / "warehouse")
    world.provider.repeats = {BASE + 18 * HOUR}
    for moment, backwards in ((0, False), (1, False), (1, True)):
        world.provider.now = BASE + timedelta(hours=30, minutes=moment)
        world.provider.backwards = backwards
        world.run(Window(BASE + 28 * HOUR, BASE + 30 * HOUR))
        world.check()
    world.check_rebuild(tmp_path / "rebuilt")


def test_a_known_body_delivered_again_counts_against_one_of_a_late_clock(spark: SparkSession, tmp_path: Path) -> None:
    """Random operations, seed 5003: bronze left out the second delivery, and a clock that went back won."""
    world = World(spark, tmp_path / "warehouse")
    provider, hour = world.provider, BASE + 29 * HOUR
    for minute, opinion, clock_error in ((0, 0, 0), (30, 0, 0), (40, 4, -25)):
        provider.now = BASE + timedelta(hours=31, minutes=minute)
        provider.clock_error = timedelta(minutes=clock_error)
        provider.opinions["carbon", hour] = opinion
        world.run(Window(hour, hour + HOUR))
        world.check()
    world.check_rebuild(tmp_path / "rebuilt")


@pytest.mark.skipif(not OPERATIONS, reason="the long run: EMAPS_TEST_OPERATIONS says how many operations")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_random_operations_find_a_planted_bug(spark: SparkSession, mutant: Mutant) -> None:
    Machine.spark = spark
    Machine.operations = 0
    with planted(mutant), pytest.raises(AssertionError):
        run_state_machine_as_test(seed(SEED)(Machine), settings=machine_settings(100, 20, database=None))
    print(f"{mutant.name}: found after {Machine.operations} operations, seed {SEED}", flush=True)
