"""One simulated history by three roads, the change from one to another, and the hours that wait for a version."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from emaps_dagster.cli.demo import scenario
from emaps_dagster.cli.preflight.surroundings import api
from emaps_dagster.contracts.settings import Settings, read_settings
from emaps_dagster.contracts.signals import FLOWS
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, MIX_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.definitions import build_definitions
from emaps_dagster.monitoring.stored_hours import missing
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.system.test_remedies import Pipeline, findings_of
from harness.dagster_runs import quick_instance

NOW = utc(2026, 8, 22, 10, 7)
# More than a day, so that /history and past-range both take part.
LOADED = Window(utc(2026, 8, 20, 22), utc(2026, 8, 22, 10))
GOLD = ml_features(("GR",))
MIX_CHECK = "rolling_avg_24h_is_of_one_power_signal"
ROADS = {
    "v3": ("v3", "power-breakdown"),
    "v4": ("v4", "power-breakdown"),
    "mix": ("v4", "electricity-mix"),
}


@dataclass
class Road(Pipeline):
    """A warehouse that is filled by one road, or by several in turn."""

    signal: Any = "power-breakdown"
    calls: list[int] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings(
            api_url=self.sim.url,
            power_signal=self.signal,
            warehouse=self.folder,
            fixed_now=self.now,
            start=utc(2026, 8, 1),
            _env_file=None,
        )

    def run(self, window: Window, *, checks: bool = True) -> dict[str, list[str]]:
        """All layers of the hours; returns the checks that failed."""
        before = len(self.sim.requests)
        bronze = MIX_DATA if self.signal == "electricity-mix" else POWER_DATA
        result = self.materialize(window, *(() if checks else (bronze, CARBON_DATA, ENERGY_DATA, GOLD)))
        assert result.success
        self.calls.append(len(self.sim.requests) - before)
        return findings_of(result)

    def silver(self) -> dict[Any, dict[str, Any]]:
        return {row["datetime"]: row for row in self.rows(ENERGY_DATA)}


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with quick_instance() as made:
        yield made


Opening = Callable[..., AbstractContextManager[Road]]


@pytest.fixture(scope="module")
def _loaded() -> dict[str, Road]:
    return {}


@pytest.fixture
def on(
    instance: dg.DagsterInstance, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, _loaded: dict[str, Road]
) -> Opening:
    """A road by its name, with a provider and a copy of LOADED of its own, which passed its checks if it has any."""

    @contextmanager
    def begin(name: str, *, checks: bool = True) -> Iterator[Road]:
        version, signal = ROADS[name]
        with Simulator(now=NOW, zones=("GR",), version=version) as sim:  # type: ignore[arg-type]
            if name not in _loaded:
                made = Road(tmp_path_factory.mktemp("loaded") / name, sim, instance, now=NOW, signal=signal)
                assert made.run(LOADED, checks=checks) == {}, name
                _loaded[name] = made
            folder = shutil.copytree(_loaded[name].folder, tmp_path / name)
            yield replace(_loaded[name], folder=folder, sim=sim, calls=list(_loaded[name].calls))

    return begin


def same_up_to_rounding(one: Any, other: Any, within: float) -> bool:
    """Equal, or two numbers that differ by at most that much; nulls are equal to nulls only."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= within
    return bool(one == other)


@pytest.mark.long("by the master invariants each road makes the tables that its bodies say")
def test_three_roads_make_the_same_tables_to_the_rounding_of_the_source(on: Opening) -> None:
    roads: dict[str, Road] = {}
    for name in ROADS:
        # What checks say of power-breakdown is judged elsewhere; both of its roads have one table.
        with on(name, checks=name != "v4") as road:
            road.sim.provider.revise("GR", utc(2026, 8, 22, 4), at=NOW + HOUR / 2)
            road.now = NOW + HOUR
            road.sim.set_now(road.now)
            assert road.run(Window(LOADED.end, LOADED.end + HOUR), checks=name == "mix") == {}, name
        roads[name] = road
    assert {name: road.calls for name, road in roads.items()} == {"v3": [4, 2], "v4": [4, 2], "mix": [12, 6]}
    silver, gold = (
        {name: sorted(road.rows(table), key=lambda row: row["datetime"]) for name, road in roads.items()}
        for table in (ENERGY_DATA, GOLD)
    )
    assert len(silver["v3"]) == len(silver["mix"]) == 37
    # The short road: equal to the last bit, but for the name of the version.
    plain = [{**row, "source_power": None} for row in silver["v3"]]
    assert [{**row, "source_power": None} for row in silver["v4"]] == plain
    assert gold["v4"] == gold["v3"]
    assert {row["source_power"] for row in silver["v4"]} == {"electricitymaps/v4/power-breakdown"}
    # The long road: every value rounds to the whole MW of v3, and every null is one.
    own = ("source_power", "is_superseded_power")
    wrong = [
        (row["datetime"], name, value, row[name])
        for row, whole in zip(silver["mix"], silver["v3"], strict=True)
        for name, value in whole.items()
        if name not in own and not same_up_to_rounding(row[name], value, 0.5)
    ]
    assert wrong == []
    decimals = sum(row["production_wind"] != round(row["production_wind"]) for row in silver["mix"])
    assert decimals > 5
    wrong = [
        (row["datetime"], name, value, row[name])
        for row, whole in zip(gold["mix"], gold["v3"], strict=True)
        for name, value in whole.items()
        if not same_up_to_rounding(row[name], value, 0.5)
    ]
    assert wrong == []
    assert {row["source_power"] for row in silver["mix"]} == {"electricitymaps/v4/electricity-mix"}
    assert {row["is_superseded_power"] for row in silver["mix"]} == {False}


def test_a_change_of_road_revises_nothing_is_reported_and_ends_where_one_road_is_withdrawn(on: Opening) -> None:
    with on("v3") as road:
        sim = road.sim
        before = road.silver()
        road.signal, sim.version = "electricity-mix", "v4"
        # The same hours again, of which the provider has nothing new to say.
        assert road.run(Window(LOADED.end - HOUR, LOADED.end)) == {}
        assert road.silver() == {
            hour: row | {"is_superseded_power": told_by_mix(road, hour)} for hour, row in before.items()
        }
        assert {row["source_power"] for row in road.silver().values()} == {"electricitymaps/v3/power-breakdown"}
        # The next hour has one road only.
        road.now += HOUR
        sim.set_now(road.now)
        new = LOADED.end
        failed = road.run(Window(new, new + HOUR))
        assert road.silver()[new]["source_power"] == "electricitymaps/v4/electricity-mix"
        [finding] = [text for text in failed.pop(MIX_CHECK) if f"{new:%Y-%m-%dT%H}" in text or "mix" in text][:1]
        assert "electricity-mix (" in finding
        assert "power-breakdown (" in finding
        assert failed == {}
        # The remedy: power-breakdown's responses are withdrawn, and their hours materialized again.
        hashes = " ".join(row["payload_sha256"] for row in road.rows(POWER_DATA))
        assert road.launch("withdraw", config={"payload_sha256": hashes}).success
        assert road.run(Window(LOADED.start, new + HOUR)) == {}
        assert {row["source_power"] for row in road.silver().values()} == {"electricitymaps/v4/electricity-mix"}


def told_by_mix(road: Road, hour: Any) -> Any:
    """False where electricity-mix has told of the hour as well, and else null."""
    spans = [(row["window_start"], row["window_end"]) for row in road.rows(MIX_DATA)]
    return False if any(start <= hour < end for start, end in spans) else None


def test_an_hour_of_which_a_version_came_in_part_is_requested_until_it_is_whole(on: Opening) -> None:
    hour = utc(2026, 8, 22, 4)
    with on("mix") as road:
        sim = road.sim
        assert missing(road.folder, ("GR",), LOADED).not_fetched == {}
        before = road.silver()[hour]
        # A revision between the calls of a run: its flows are newer than its mix.
        sim.provider.revise("GR", hour, at=NOW, feed=FLOWS)
        road.now += HOUR
        sim.set_now(road.now)
        road.run(Window(LOADED.end, LOADED.end + HOUR), checks=False)
        after = road.silver()[hour]
        assert after == before | {"is_superseded_power": True}
        found = missing(road.folder, ("GR",), LOADED)
        assert (found.not_fetched, found.not_merged) == ({"GR": {hour}}, set())
        # The provider has it all now, and the hour is requested as `gaps` does.
        sim.provider.revise("GR", hour, at=NOW)
        road.run(Window(hour, hour + HOUR), checks=False)
        whole = road.silver()[hour]
        assert whole["is_superseded_power"] is False
        assert whole["updated_at_power"] == NOW
        assert missing(road.folder, ("GR",), LOADED).not_fetched == {}


def test_a_backfill_by_electricity_mix_costs_six_calls_for_each_ten_days(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Simulator(now=NOW, version="v4") as sim, dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setenv("EMAPS_CALLS_PER_MINUTE", "60")
        settings = Settings(api_url=sim.url, power_signal="electricity-mix", fixed_now=NOW, _env_file=None)
        job = build_definitions(settings).resolve_job_def("backfill_cost")
        result = job.execute_in_process(run_config={"start": "2025-01-01", "end": "2026-01-01"}, instance=instance)
        said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("8760 hours: 222 calls (1 zone, 6 signals, 37 each), 0:03:42 at" in text for text in said)


@pytest.mark.parametrize(
    ("version", "signal", "gone", "level", "says"),
    [
        ("v3", "power-breakdown", None, "ok", "power-breakdown of v3 is served for zone GR; runs take it."),
        ("v3", "power-breakdown", None, "ok", "electricity-mix of v4 is served for zone GR."),
        (
            "v3",
            "power-breakdown",
            "power-breakdown",
            "warning",
            "power-breakdown of v3, which runs take, is not served for zone GR (power-breakdown: NotInPlanError). Set "
            "EMAPS_API_URL={root}/v4 and EMAPS_POWER_SIGNAL=electricity-mix, which is served.",
        ),
        (
            "v4",
            "electricity-mix",
            "electricity-flows",
            "warning",
            "electricity-mix of v4, which runs take, is not served for zone GR (electricity-flows: NotInPlanError). "
            "Set EMAPS_API_URL={root}/v4 and EMAPS_POWER_SIGNAL=power-breakdown, which is served.",
        ),
        (
            "v4",
            "electricity-mix",
            "renewable-energy",
            "ok",
            "electricity-mix of v4 is served for zone GR, without renewable-energy, so that their columns are null; "
            "runs take it.",
        ),
    ],
)
def test_the_start_up_check_names_the_roads_that_are_served_and_its_remedy_is_right(
    monkeypatch: pytest.MonkeyPatch, version: Any, signal: str, gone: str | None, level: str, says: str
) -> None:
    with Simulator(zones=("GR",), token="a-token", version=version) as sim:
        monkeypatch.setenv("EMAPS_API_URL", sim.url)
        monkeypatch.setenv("EMAPS_API_TOKEN", "a-token")
        monkeypatch.setenv("EMAPS_POWER_SIGNAL", signal)
        if gone:
            sim.inject(Fault("not_in_plan", feed=gone, times=None))
        said = says.format(root=sim.url.rpartition("/")[0])
        assert said in [finding.text for finding in api(read_settings()) if finding.level == level]
        # The list of zones, the health of the host, and at most nine signals.
        assert len(sim.requests) <= 11
        if level == "warning":
            for setting in said.partition("Set ")[2].partition(", which is served")[0].split(" and "):
                monkeypatch.setenv(*setting.split("="))
            assert [finding.text for finding in api(read_settings()) if finding.level == "warning"] == []


@pytest.mark.parametrize(
    ("given", "option"), [([], ""), (["ROAD=v4"], "--road v4"), (["ROAD=v4-mix"], "--road v4-mix")]
)
def test_make_demo_takes_a_road_that_the_demo_knows(given: list[str], option: str) -> None:
    root = Path(__file__).resolve().parents[2]
    said = subprocess.run(["make", "-n", "demo", *given], cwd=root, capture_output=True, text=True, check=True).stdout
    assert f".venv/bin/python -m emaps_dagster.cli.demo {option}" in said
    assert option.removeprefix("--road ") in {"", *scenario.ROADS}
