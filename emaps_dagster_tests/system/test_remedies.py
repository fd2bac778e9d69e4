"""Every remedy that a check names, performed: break it, see the check fail, do what its text says, see it pass.

Dagster, the simulator and Delta folders are the real ones. What the provider says wrongly comes by the way that it
comes in earnest: as a response that is admitted and stored.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

from emaps_dagster.contracts import zones
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.responses import RawResponse
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, WITHDRAWN_RESPONSES, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import CARBON, POWER
from emaps_dagster.definitions import build_definitions
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster.pipeline.check_catalog import checks_of
from emaps_dagster.pipeline.ingest import rows_of
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.builders import iso, record, utc
from harness.dagster_runs import quick_instance, without_checks

TOKEN = "a-token-that-must-stay-secret"
GOLD = ml_features(("GR",))
TABLES = (POWER_DATA, CARBON_DATA, ENERGY_DATA, GOLD)
NOW = utc(2024, 5, 4, 10, 7)
LOADED = Window(utc(2024, 5, 3, 3), utc(2024, 5, 4, 10))
BROKEN = utc(2024, 5, 4, 5)
TICK = Window(utc(2024, 5, 4, 9), utc(2024, 5, 4, 10))
JUDGED = Window(BROKEN - HOUR, BROKEN + 2 * HOUR)
RANGE = {"start": "2024-05-04T05:00Z", "end": "2024-05-04T06:00Z"}
ALL = {"start": "first", "end": "last"}


@dataclass
class Pipeline:
    """A warehouse, the provider, a clock, and a person's hands in Dagster."""

    folder: Path
    sim: Simulator
    instance: dg.DagsterInstance
    now: datetime = NOW

    def launch(
        self, job: str, window: Window | None = None, *tables: Table, config: dict[str, Any] | None = None
    ) -> dg.ExecuteInProcessResult:
        """A job of the UI: with hours, and with tables those alone, without their checks where they are named."""
        definition = build_definitions(self.settings).resolve_job_def(job)
        return self._execute(without_checks(definition, tables) if tables else definition, window, run_config=config)

    def materialize(self, window: Window, *tables: Table) -> dg.ExecuteInProcessResult:
        """All layers with their checks, or some tables without them."""
        return self.launch("hourly", window, *tables)

    def tick(self, hours: int = 1, *tables: Table) -> dg.ExecuteInProcessResult:
        """The clock goes on, and the last complete hour is fetched as the schedule does."""
        self.now += hours * HOUR
        self.sim.set_now(self.now)
        end = self.now.replace(minute=0)
        return self.materialize(Window(end - HOUR, end), *tables)

    def failing(self, window: Window = JUDGED, *tables: Table) -> dict[str, list[str]]:
        """The checks that fail, with their findings; of all tables without any."""
        assets = [dg.AssetKey(table.asset_key) for table in tables or TABLES]
        only = dg.define_asset_job("only_checks", dg.AssetSelection.checks_for_assets(*assets))
        definitions = dg.Definitions.merge(build_definitions(self.settings), dg.Definitions(jobs=[only]))
        return findings_of(self._execute(definitions.resolve_job_def("only_checks"), window))

    @property
    def settings(self) -> Settings:
        return Settings(
            api_url=self.sim.url, warehouse=self.folder, fixed_now=self.now, start=utc(2024, 5, 1), _env_file=None
        )

    def _execute(self, job: dg.JobDefinition, window: Window | None, **more: Any) -> dg.ExecuteInProcessResult:
        ends = (partition_key(window.start), partition_key(window.end - HOUR)) if window else ()
        names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        tags = dict(zip(names, ends, strict=False))
        return job.execute_in_process(instance=self.instance, raise_on_error=False, tags=tags, **more)

    def delta(self, table: Table) -> DeltaTable:
        return DeltaTable(str(self.folder / table.layer / table.name))

    def rows(self, table: Table) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.delta(table).to_pyarrow_table().to_pylist()
        return rows

    def alter(self, table: Table, **columns: Any) -> None:
        """Other values in the broken hour, behind the pipeline's back."""
        self.change(table, lambda row: {**row, **columns} if row["datetime"] == BROKEN else row)

    def change(self, table: Table, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        delta = self.delta(table)
        stored = delta.to_pyarrow_table()
        rows = [changed for row in stored.to_pylist() if (changed := change(row)) is not None]
        write_deltalake(delta, pa.Table.from_pylist(rows, stored.schema), mode="overwrite")

    def add(self, table: Table, row: dict[str, Any]) -> None:
        delta = self.delta(table)
        write_deltalake(delta, pa.Table.from_pylist([row], delta.to_pyarrow_table().schema), mode="append")

    def store(self, table: Table, body: str) -> str:
        """A response of the broken hour in bronze, the latest of all; returns its payload_sha256."""
        latest = max(self.rows(table), key=lambda row: row["ingested_at"])
        changed = {
            "raw_json": body,
            "payload_sha256": hashlib.sha256(body.encode()).hexdigest(),
            "source": "electricitymaps/v3/power-breakdown/past-range",
            "ingested_at": self.now + timedelta(minutes=1),
            "window_start": BROKEN,
            "window_end": BROKEN + HOUR,
        }
        self.add(table, {**latest, **changed})
        return str(changed["payload_sha256"])


def findings_of(result: dg.ExecuteInProcessResult) -> dict[str, list[str]]:
    events = [event for event in result.all_events if event.event_type_value == "ASSET_CHECK_EVALUATION"]
    found: dict[str, list[str]] = {}
    for told in (event.asset_check_evaluation_data for event in events):
        if not told.passed:
            shown = told.metadata["findings"].records
            found.setdefault(told.check_name, []).extend(str(record.data["finding"]) for record in shown)
    return found


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with pytest.MonkeyPatch.context() as environment, quick_instance() as instance:
        environment.setenv("EMAPS_API_TOKEN", TOKEN)
        with Simulator(token=TOKEN, zones=("GR",), now=NOW) as sim:
            made = Pipeline(tmp_path_factory.mktemp("loaded") / "warehouse", sim, instance)
            assert made.materialize(LOADED).success
            assert made.failing(LOADED) == {}
            yield made


@pytest.fixture
def pipeline(loaded: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """A copy to be broken, and a provider of its own."""
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    shutil.copytree(loaded.folder, tmp_path / "warehouse")
    with Simulator(token=TOKEN, zones=("GR",), now=NOW) as sim:
        yield replace(loaded, folder=tmp_path / "warehouse", sim=sim)


Break = Callable[[Pipeline], Any]
# What is done gets what `Break` returned.
Act = Callable[[Pipeline, Any], object]


def _power(pipeline: Pipeline, **changes: Any) -> dict[str, Any]:
    """The provider's record of the broken hour, changed."""
    newest = sorted(pipeline.rows(POWER_DATA), key=lambda row: row["ingested_at"], reverse=True)
    bodies = (json.loads(row["raw_json"]) for row in newest)
    records = (record for body in bodies for record in body.get("history") or body["data"])
    found = next(record for record in records if record["datetime"] == iso(BROKEN))
    return {**found, **changes}


def _says(**changes: Any) -> Break:
    """The provider says something wrong of an hour, and silver and gold follow it."""

    def say(pipeline: Pipeline) -> None:
        said = _power(pipeline, **changes)
        pipeline.store(POWER_DATA, json.dumps({"zone": "GR", "history": [said]}))
        pipeline.materialize(JUDGED, ENERGY_DATA)

    return say


def _rebuild(hours: dict[str, str] = RANGE) -> Act:
    return lambda pipeline, _: pipeline.launch("rebuild", config=hours)


def _materialize(table: Table, hours: int = 1) -> Act:
    return lambda pipeline, _: pipeline.materialize(Window(BROKEN, BROKEN + hours * HOUR), table)


def _doubled_foreign_and_other_rows(pipeline: Pipeline) -> None:
    """In either table the broken hour twice, in silver one of a zone that bronze lacks, in gold another value."""
    silver = next(row for row in pipeline.rows(ENERGY_DATA) if row["datetime"] == BROKEN)
    pipeline.add(ENERGY_DATA, silver)
    pipeline.add(ENERGY_DATA, {**silver, "zone": "DE"})
    pipeline.alter(GOLD, production_gas=1.0)
    pipeline.add(GOLD, next(row for row in pipeline.rows(GOLD) if row["datetime"] == BROKEN))


def _another_lag_another_mean_and_no_hour_after(pipeline: Pipeline) -> None:
    pipeline.alter(GOLD, lag_production_gas_1h=0.0, rolling_avg_production_gas_24h=1.0)
    pipeline.change(GOLD, lambda row: None if row["datetime"] == BROKEN + HOUR else row)


def _withdraw_and_materialize(pipeline: Pipeline, sha: str) -> None:
    assert pipeline.launch("withdraw", config={"payload_sha256": sha}).success
    assert pipeline.materialize(JUDGED).success


def _revised(pipeline: Pipeline, _: object) -> None:
    """The next tick brings what the provider says then."""
    assert pipeline.tick().success


def _add_a_column(table: Table) -> Break:
    def add(pipeline: Pipeline) -> int:
        before = pipeline.delta(table).version()
        pipeline.delta(table).alter.add_columns([Field("mine", PrimitiveType("double"))])
        return before

    return add


def _lag_behind(pipeline: Pipeline) -> None:
    pipeline.now += 7 * HOUR
    pipeline.sim.set_now(pipeline.now)


def _backfill(pipeline: Pipeline, _: object) -> None:
    assert pipeline.materialize(Window(LOADED.end, pipeline.now.replace(minute=0))).success


SANDBOX = json.dumps({"zone": "GR", "_disclaimer": "SANDBOX MODE", "history": [record(BROKEN)]})
TRUNCATED = '{"zone": "GR", "history": ['
# What is broken, each check that sees it, and what their texts say to do: all that ask for the same at once, and each
# remedy of a check that names several.
REMEDIES: dict[str, tuple[Break, list[tuple[Table, str]], Act]] = {
    "the version before": (
        _add_a_column(POWER_DATA),
        [(POWER_DATA, "schema_matches_the_contract")],
        lambda pipeline, before: pipeline.delta(POWER_DATA).restore(before),
    ),
    "rebuild all": (
        lambda pipeline: [_add_a_column(table)(pipeline) for table in (ENERGY_DATA, GOLD)],
        [(ENERGY_DATA, "schema_matches_the_contract"), (GOLD, "schema_matches_the_contract")],
        _rebuild(ALL),
    ),
    "withdraw, materialize": (
        lambda pipeline: ", ".join(pipeline.store(POWER_DATA, body) for body in (TRUNCATED, SANDBOX)),
        [(POWER_DATA, "raw_json_parses"), (POWER_DATA, "no_sandbox_data")],
        _withdraw_and_materialize,
    ),
    "rebuild": (
        _doubled_foreign_and_other_rows,
        [
            (ENERGY_DATA, "primary_key_is_unique"),
            (ENERGY_DATA, "silver_equals_bronze"),
            (GOLD, "primary_key_is_unique"),
            (GOLD, "gold_equals_silver"),
        ],
        _rebuild(),
    ),
    "materialize silver": (
        lambda pipeline: pipeline.alter(ENERGY_DATA, consumption_oil=7.25),
        [(ENERGY_DATA, "latest_ingestion_wins")],
        _materialize(ENERGY_DATA),
    ),
    "materialize later, all layers": (
        lambda pipeline: pipeline.change(ENERGY_DATA, lambda row: None if row["datetime"] == BROKEN else row),
        [(ENERGY_DATA, "every_hour_is_present")],
        lambda pipeline, _: pipeline.materialize(Window(BROKEN, BROKEN + HOUR)),
    ),
    "wait for the revision": (
        # Parts that do not sum to their total, energy from nowhere, and more than there is in Greece.
        _says(powerProductionTotal=99_999, powerConsumptionTotal=1, powerProductionBreakdown={"gas": 5e8}),
        [(ENERGY_DATA, name) for name in ("parts_sum_to_total", "energy_balances", "values_are_plausible")],
        _revised,
    ),
    "backfill": (_lag_behind, [(ENERGY_DATA, "table_is_fresh"), (GOLD, "table_is_fresh")], _backfill),
    "materialize gold": (
        _another_lag_another_mean_and_no_hour_after,
        [
            (GOLD, "lag_1h_is_the_previous_hour"),
            (GOLD, "rolling_avg_24h_is_the_mean_of_the_window"),
            (GOLD, "gold_is_not_stale"),
        ],
        _materialize(GOLD, hours=2),
    ),
}


@pytest.mark.parametrize("remedy", REMEDIES)
def test_a_remedy_that_checks_name_makes_them_pass(pipeline: Pipeline, remedy: str) -> None:
    broken, checks, act = REMEDIES[remedy]
    made = broken(pipeline)
    for table in dict.fromkeys(table for table, _ in checks):
        failing = pipeline.failing(JUDGED, table)
        assert {check for of, check in checks if of == table} <= failing.keys()
    act(pipeline, made)
    assert pipeline.failing(Window(JUDGED.start, pipeline.now.replace(minute=0))) == {}


def test_every_check_has_a_remedy_that_is_performed() -> None:
    # Beside them one that has tests of its own below.
    performed = {(table.layer, check) for _, checks, _ in REMEDIES.values() for table, check in checks}
    performed.add(("silver", "ingestion_times_are_right"))
    # What only the provider can mend: test_quarantine.py and test_provider_faults.py wait for it.
    performed.add(("bronze", "every_record_is_trusted"))
    performed |= {("silver", name) for name in ("values_are_reported", "neighbours_have_columns", "values_change")}
    performed.add(("gold", "rolling_avg_24h_is_of_one_emission_factor_type"))
    # Of electricity-mix: test_bad_signals.py and test_roads.py.
    performed |= {("silver", "flows_are_not_carried_forward"), ("gold", "rolling_avg_24h_is_of_one_power_signal")}
    assert performed == {
        (table.layer, check.name) for table in (POWER_DATA, ENERGY_DATA, GOLD) for check in checks_of(table)
    }


def test_bronze_can_also_be_restored_from_a_copy(pipeline: Pipeline, tmp_path: Path) -> None:
    shutil.copytree(pipeline.folder / "bronze", tmp_path / "copy")
    _add_a_column(CARBON_DATA)(pipeline)
    assert "schema_matches_the_contract" in pipeline.failing(JUDGED, CARBON_DATA)
    shutil.rmtree(pipeline.folder / "bronze")
    shutil.copytree(tmp_path / "copy", pipeline.folder / "bronze")
    assert pipeline.failing(JUDGED, CARBON_DATA) == {}
    assert pipeline.tick(1, *TABLES).success


def test_a_new_limit_in_zones_py_is_what_the_check_goes_by(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    _says(powerProductionBreakdown={"gas": 20_000.0}, powerProductionTotal=20_000.0)(pipeline)
    assert "values_are_plausible" in pipeline.failing(JUDGED, ENERGY_DATA)
    limits = zones._LIMITS["GR"]
    grown = replace(limits, capacity={**limits.capacity, "gas": {2021: 30_000.0}})
    monkeypatch.setitem(zones._LIMITS, "GR", grown)
    assert "values_are_plausible" not in pipeline.failing(JUDGED, ENERGY_DATA)


def test_an_hour_that_the_provider_had_late_comes_when_it_is_materialized_later(pipeline: Pipeline) -> None:
    pipeline.now += HOUR
    pipeline.sim.set_now(pipeline.now)
    pipeline.sim.provider.withhold("GR", LOADED.end, LOADED.end + HOUR, until=pipeline.now + timedelta(minutes=30))
    tick = Window(LOADED.end, LOADED.end + HOUR)
    assert list(findings_of(pipeline.materialize(tick))) == ["every_hour_is_present"]
    pipeline.now += HOUR
    pipeline.sim.set_now(pipeline.now)
    result = pipeline.materialize(tick)
    assert (result.success, findings_of(result)) == (True, {})


# --- a clock that was wrong -----------------------------------------------------------------------


def _fetched_with_a_clock_ahead(pipeline: Pipeline, ahead: timedelta) -> None:
    """One tick of a machine whose clock is wrong, as it was stored before fetch compared clocks."""
    pipeline.now += HOUR
    pipeline.sim.set_now(pipeline.now)
    for feed, table in ((POWER, POWER_DATA), (CARBON, CARBON_DATA)):
        body = pipeline.sim.provider.body(feed, "GR", "history", pipeline.now).decode()
        path = f"/v3/{feed.endpoint}/history?zone=GR"
        stored = rows_of(table, [admit(RawResponse(feed, "GR", "history", path, body, pipeline.now + ahead))])
        write_deltalake(pipeline.delta(table), stored, mode="append")
    assert pipeline.materialize(Window(BROKEN, pipeline.now.replace(minute=0)), ENERGY_DATA, GOLD).success


REVISED = utc(2024, 5, 4, 8)


def _shown(pipeline: Pipeline, table: Table = ENERGY_DATA) -> dict[datetime, float]:
    return {row["datetime"]: row["production_total"] for row in pipeline.rows(table)}


@pytest.mark.parametrize(
    "ahead",
    [
        pytest.param(timedelta(minutes=40), marks=pytest.mark.long("another distance by the same road")),
        timedelta(days=40),
    ],
    ids=str,
)
def test_a_response_of_the_future_is_found_and_can_be_withdrawn(pipeline: Pipeline, ahead: timedelta) -> None:
    _fetched_with_a_clock_ahead(pipeline, ahead)
    pipeline.sim.provider.revise("GR", REVISED, at=pipeline.now + timedelta(minutes=1))
    known = _shown(pipeline)[REVISED]
    result = pipeline.tick() if ahead > HOUR else pipeline.materialize(TICK)
    # It warns: gold goes on.
    assert result.success
    found = findings_of(result)["ingestion_times_are_right"]
    assert any("its ingested_at is" in what and "after the present" in what for what in found)
    assert any("/v3/power-breakdown/history?zone=GR, received 2024-" in what for what in found)
    assert _shown(pipeline)[REVISED] == known, "the revision lost to the response of the future"

    health = pipeline.launch("health_report")
    (told,) = health.get_asset_check_evaluations()
    assert (told.passed, "GR: 2 responses say that they were received in the future" in str(told.metadata)) == (
        False,
        True,
    )

    assert pipeline.launch("withdraw", config={"ingested_in_the_future": True}).success
    assert pipeline.materialize(Window(BROKEN, pipeline.now.replace(minute=0))).success
    assert pipeline.failing(Window(BROKEN, pipeline.now.replace(minute=0))) == {}
    if ahead > HOUR:
        assert _shown(pipeline)[REVISED] != known
        assert _shown(pipeline) == _shown(pipeline, GOLD)
    assert "received in the future" not in str(pipeline.launch("health_report").get_asset_check_evaluations())


@pytest.mark.long("the remedy is that of the test before")
def test_it_is_still_found_when_that_time_has_come_and_its_hours_have_left_history(pipeline: Pipeline) -> None:
    _fetched_with_a_clock_ahead(pipeline, timedelta(hours=23))
    pipeline.sim.provider.revise("GR", REVISED, at=pipeline.now + timedelta(minutes=1))
    known = _shown(pipeline)[REVISED]
    pipeline.tick(6, *TABLES)
    # Nothing is in the future any more, and /history no longer brings the revised hour.
    pipeline.tick(26, *TABLES)
    assert _shown(pipeline)[REVISED] == known
    (what,) = {
        finding.split(", payload_sha256 ")[1]: finding
        for finding in pipeline.failing(TICK, ENERGY_DATA)["ingestion_times_are_right"]
        if "power-breakdown" in finding
    }.values()
    assert "it ends at 2024-05-04T12:00Z, but one that was received before it" in what
    named = what.split(", payload_sha256 ")[1]
    received = what.split(", received ")[1].split(",")[0]
    assert pipeline.launch("withdraw", config={"payload_sha256": named, "ingested_from": received}).success
    assert _shown(pipeline)[REVISED] != known
    left = pipeline.failing(TICK, ENERGY_DATA).get("ingestion_times_are_right", [])
    assert [finding for finding in left if "power-breakdown" in finding] == []


def test_a_clock_that_was_behind_is_found_as_well(pipeline: Pipeline) -> None:
    _fetched_with_a_clock_ahead(pipeline, timedelta(hours=-5))
    found = pipeline.failing(TICK, ENERGY_DATA)
    assert list(found) == ["ingestion_times_are_right"]
    assert "holds hours to 2024-05-04T12:00Z, which had not begun" in found["ingestion_times_are_right"][0]
    named = {finding.split(", payload_sha256 ")[1] for finding in found["ingestion_times_are_right"]}
    assert pipeline.launch("withdraw", config={"payload_sha256": ", ".join(named)}).success
    assert pipeline.materialize(Window(LOADED.end, LOADED.end + HOUR)).success
    assert pipeline.failing(TICK, ENERGY_DATA) == {}
    assert len(pipeline.rows(WITHDRAWN_RESPONSES)) == 2
