"""One bad record costs that record: what the pipeline makes of each flaw, over HTTP, and through Dagster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deltalake import DeltaTable
from pydantic import SecretStr
from pyspark.sql import SparkSession

from emaps_dagster.contracts import zones
from emaps_dagster.contracts.errors import RejectedBodyError
from emaps_dagster.contracts.responses import AcceptedResponse
from emaps_dagster.contracts.tables import (
    CARBON_DATA,
    ENERGY_DATA,
    FEED_TABLES,
    POWER_DATA,
    REJECTED_RECORDS,
    ml_features,
)
from emaps_dagster.contracts.windows import HOUR, Window, silver_window
from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER, Feed
from emaps_dagster.defs.assets.bronze import ingest, noting
from emaps_dagster.defs.assets.health import read_health_inputs
from emaps_dagster.defs.assets.silver import merge_silver
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.fetch import FetchFailure, fetch
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.monitoring.stored_hours import missing
from emaps_dagster.pipeline.quarantine import rejected_records
from emaps_dagster.pipeline.withdraw import select, selection_of, withdraw
from emaps_dagster.simulator.perturbations import FLAWS
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster.transforms.health import health
from emaps_dagster_tests.support.builders import record, utc
from emaps_dagster_tests.support.daemon_harness import machine
from emaps_dagster_tests.support.pipeline_harness import stored_rows
from emaps_dagster_tests.system.test_pipeline import Pipeline
from harness.dagster_runs import quick_instance

NOW = utc(2024, 5, 4, 10, 7)
BAD = utc(2024, 5, 4, 4)
LAST_DAY = Window(utc(2024, 5, 3, 11), utc(2024, 5, 4, 10))
TOKEN = "a-token"


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    with Simulator(token=TOKEN, zones=("GR",), now=NOW) as simulator:
        yield simulator


@pytest.fixture
def client(sim: Simulator) -> Iterator[ElectricityMapsClient]:
    with ElectricityMapsClient(sim.url, SecretStr(TOKEN), clock=sim.now, attempts=1) as real:
        yield real


def run(lakehouse: FolderLakehouse, client: ElectricityMapsClient, window: Window, now: datetime) -> list[str]:
    """Bronze and silver as a run makes them; what was quarantined."""
    told: list[str] = []
    for feed in FEEDS:
        lakehouse.create(FEED_TABLES[feed.name][0])
        _, failures, _ = ingest(
            lakehouse, FEED_TABLES[feed.name][0], noting(fetch(client, feed, ("GR",), window, now), told)
        )
        assert failures == []
    merge_silver(lakehouse, silver_window(window))
    return told


def hours_of(lakehouse: FolderLakehouse, feed: Feed) -> set[datetime]:
    rows = stored_rows(lakehouse.warehouse, ENERGY_DATA)
    return {hour for (_, hour), row in rows.items() if row[f"ingested_at_{feed.name}"] is not None}


@pytest.mark.parametrize("flaw", FLAWS)
def test_every_other_hour_goes_on_whatever_is_wrong_with_one_and_the_mended_one_follows(
    spark: SparkSession, tmp_path: Path, sim: Simulator, client: ElectricityMapsClient, flaw: str
) -> None:
    lakehouse = FolderLakehouse(spark, tmp_path / "warehouse")
    # Another hour of each feed: what is wrong with one feed's record leaves the other's.
    bad = {POWER: BAD, CARBON: BAD + HOUR}
    for feed, hour in bad.items():
        sim.provider.spoil("GR", hour, flaw, feed=feed, until=NOW + HOUR)
    said = dict(zip(bad, run(lakehouse, client, LAST_DAY, NOW), strict=True))
    rejected = DeltaTable(lakehouse.location(REJECTED_RECORDS)).to_pyarrow_table().to_pylist()
    assert len(rejected) == len(bad)
    for feed, hour in bad.items():
        assert said[feed].startswith(f"GR {hour:%Y-%m-%dT%H:%MZ}: ")
        assert hours_of(lakehouse, feed) == set(LAST_DAY.hours()) - {hour}
        (row,) = (row for row in rejected if row["source"].endswith(f"/{feed.endpoint}/history"))
        assert (row["zone"], row["datetime"], row["position"]) == ("GR", hour, 17 + (feed == CARBON))
        assert said[feed].endswith(row["reason"])
        stored = DeltaTable(lakehouse.location(FEED_TABLES[feed.name][0])).to_pyarrow_table().to_pylist()
        assert [body["payload_sha256"] for body in stored] == [row["payload_sha256"]]
        assert row["record_json"] in stored[0]["raw_json"]
        assert row["record_json"] not in stored[0]["trusted_json"] or row["record_json"] == "null"
    sim.set_now(NOW + HOUR)
    assert run(lakehouse, client, Window(LAST_DAY.end, LAST_DAY.end + HOUR), NOW + HOUR) == []
    for feed in FEEDS:
        assert hours_of(lakehouse, feed) == {*LAST_DAY.hours(), LAST_DAY.end}


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("window", [LAST_DAY.widen(48 * HOUR, -20 * HOUR), Window(BAD, BAD + HOUR)])
def test_a_past_range_that_holds_the_hour_or_is_that_hour_is_no_failure(
    sim: Simulator, client: ElectricityMapsClient, flaw: str, window: Window
) -> None:
    later = NOW + timedelta(days=3)
    sim.set_now(later)
    bad = BAD if BAD in window else window.start + 5 * HOUR
    sim.provider.spoil("GR", bad, flaw)
    (response,) = fetch(client, CARBON, ("GR",), window, later)
    assert isinstance(response, AcceptedResponse)
    (rejected,) = response.rejected
    assert rejected.hour == bad
    assert response.window == window


def test_a_bad_record_at_the_start_of_history_is_not_requested_where_the_plan_gives_no_more() -> None:
    with (
        Simulator(token=TOKEN, now=NOW, plan="free") as sim,
        ElectricityMapsClient(sim.url, SecretStr(TOKEN), clock=sim.now) as client,
    ):
        for flaw in ("absurd_number", "null_record"):
            sim.provider.clear()
            sim.provider.spoil("GR", LAST_DAY.start, flaw)
            (response,) = fetch(client, POWER, ("GR",), LAST_DAY, NOW)
            assert isinstance(response, AcceptedResponse)
            assert response.window.start == LAST_DAY.start + HOUR


def test_an_older_good_record_stays_and_the_hour_is_reported_until_it_is_mended(
    spark: SparkSession, tmp_path: Path, sim: Simulator, client: ElectricityMapsClient
) -> None:
    lakehouse = FolderLakehouse(spark, tmp_path / "warehouse")
    assert run(lakehouse, client, LAST_DAY, NOW) == []
    before = stored_rows(lakehouse.warehouse, ENERGY_DATA)["GR", BAD]
    sim.provider.spoil("GR", BAD, "absurd_number", feed=POWER, since=NOW + HOUR, until=NOW + 2 * HOUR)
    told = []
    for hours in (1, 2):
        now = NOW + hours * HOUR
        sim.set_now(now)
        run(lakehouse, client, Window(LAST_DAY.end + (hours - 1) * HOUR, LAST_DAY.end + hours * HOUR), now)
        facts = read_health_inputs(lakehouse, ("GR",), now)
        told.append([(one.feed, one.hour) for one in facts.quarantined])
        assert any("wait" in need for need in health(facts).open_issues) is (hours == 1)
        if hours == 1:
            assert stored_rows(lakehouse.warehouse, ENERGY_DATA)["GR", BAD] == before
    assert told == [[("power", BAD)], []]
    assert missing(lakehouse.warehouse, ("GR",), Window(BAD, BAD + HOUR)).not_fetched == {}


def test_a_hole_that_is_quarantined_is_known_as_one(
    spark: SparkSession, tmp_path: Path, sim: Simulator, client: ElectricityMapsClient
) -> None:
    lakehouse = FolderLakehouse(spark, tmp_path / "warehouse")
    sim.provider.spoil("GR", BAD, "unreadable_time")
    sim.provider.withhold("GR", BAD + 2 * HOUR, BAD + 3 * HOUR)
    # No hour before it is stored, and the next tick's /history does not have it.
    sim.provider.spoil("GR", LAST_DAY.start, "unreadable_time", until=NOW + HOUR)
    run(lakehouse, client, LAST_DAY, NOW)
    found = missing(lakehouse.warehouse, ("GR",), LAST_DAY)
    assert found.not_fetched == {"GR": {LAST_DAY.start, BAD, BAD + 2 * HOUR}}
    assert found.quarantined == {"GR": {LAST_DAY.start, BAD}}
    sim.set_now(NOW + HOUR)
    assert missing(lakehouse.warehouse, ("BG",), LAST_DAY).not_fetched == {}
    # What `gaps` asks for.
    run(lakehouse, client, Window(LAST_DAY.start, LAST_DAY.start + HOUR), NOW + HOUR)
    assert missing(lakehouse.warehouse, ("GR",), LAST_DAY).quarantined == {"GR": {BAD}}


def test_a_withdrawn_response_takes_its_quarantined_records_along(
    spark: SparkSession, tmp_path: Path, sim: Simulator, client: ElectricityMapsClient
) -> None:
    lakehouse = FolderLakehouse(spark, tmp_path / "warehouse")
    sim.provider.spoil("GR", BAD, "null_record")
    run(lakehouse, client, LAST_DAY, NOW)
    (wrong,) = lakehouse.collect(lakehouse.scan(POWER_DATA).select("payload_sha256")).to_pylist()
    withdraw(lakehouse, select(lakehouse, selection_of(**wrong), NOW, "its clock was ahead"))
    assert rejected_records(lakehouse, POWER_DATA) == ()
    assert [row["datetime"] for row in rejected_records(lakehouse, CARBON_DATA)] == [BAD]


def test_a_run_killed_between_record_and_body_leaves_evidence_and_no_harm(
    spark: SparkSession, tmp_path: Path, sim: Simulator, client: ElectricityMapsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakehouse = FolderLakehouse(spark, tmp_path / "warehouse")
    sim.provider.spoil("GR", BAD, "null_record", feed=POWER)
    commit = FolderLakehouse._append

    def killed(self: FolderLakehouse, table: Any, rows: Any) -> None:
        if table == POWER_DATA:
            raise KeyboardInterrupt
        commit(self, table, rows)

    monkeypatch.setattr(FolderLakehouse, "_append", killed)
    with pytest.raises(KeyboardInterrupt):
        run(lakehouse, client, LAST_DAY, NOW)
    monkeypatch.undo()
    run(lakehouse, client, LAST_DAY, NOW)
    assert hours_of(lakehouse, POWER) == set(LAST_DAY.hours()) - {BAD}
    assert len(DeltaTable(lakehouse.location(REJECTED_RECORDS)).to_pyarrow_table()) == 2


def evaluations(result: dg.ExecuteInProcessResult, table: str) -> dict[str | None, Any]:
    """The last status of every hour that a run told of the check on a bronze table."""
    events = [
        e.asset_check_evaluation_data for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    return {
        e.partition: e
        for e in events
        if e.check_name == "every_record_is_trusted" and e.asset_key == dg.AssetKey(["bronze", table])
    }


def test_through_dagster_runs_succeed_the_hour_warns_and_is_mended(sim: Simulator, tmp_path: Path) -> None:
    sim.provider.spoil("GR", BAD, "absurd_number", feed=POWER, until=NOW + 2 * HOUR)
    with quick_instance() as instance:
        pipeline = Pipeline(sim, tmp_path / "warehouse", instance)
        first = pipeline.run("2024-05-03-11:00", "2024-05-04-09:00")
        assert first.success
        told = evaluations(first, "power_data")
        assert [hour for hour, e in told.items() if not e.passed] == ["2024-05-04-04:00"]
        warning = told["2024-05-04-04:00"]
        assert (warning.severity, warning.blocking) == (dg.AssetCheckSeverity.WARN, False)
        for part in ("GR 2024-05-04T04:00Z", "powerImportBreakdown.BG of row", "beyond 1e+09"):
            assert part in warning.description
        assert all(e.passed for e in evaluations(first, "carbon_data").values())
        made = first.asset_materializations_for_node("bronze__power_data")
        assert [m.metadata["records_quarantined"].value for m in made if "records_quarantined" in m.metadata] != []
        for number, mended in ((1, False), (2, True)):
            sim.set_now(NOW + number * HOUR)
            hour = f"2024-05-04-{9 + number:02d}:00"
            tick = pipeline.run(hour, now=NOW + number * HOUR)
            assert tick.success
            told = evaluations(tick, "power_data")
            assert {hour: e.passed for hour, e in told.items()} == {hour: True, "2024-05-04-04:00": mended}
            assert told["2024-05-04-04:00"].target_materialization_data is not None
            gold = {row["datetime"]: row for row in pipeline.rows("gold/ml_features")}
            assert gold.keys() == {*LAST_DAY.hours(), *(LAST_DAY.end + n * HOUR for n in range(number))}
            assert (gold[BAD]["production_total"] is not None) is mended


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")
def test_gaps_asks_for_the_hour_and_no_run_fails_of_it(tmp_path: Path) -> None:
    start = utc(2024, 5, 6)
    with Simulator(token=TOKEN, zones=("GR",), now=start) as sim:
        for feed in FEEDS:
            sim.provider.spoil("GR", start + 4 * HOUR, "null_record", feed=feed, until=start + 60 * HOUR)
        begin = start + 10 * HOUR + timedelta(minutes=7)
        with machine(tmp_path, sim, begin, checks=False, api_token=TOKEN, zones="GR", start="2024-05-06") as world:
            said = []
            # A tick, one a day later, from which on only past-range holds the hour, and one when it is mended.
            for hours in (0, 30, 62):
                world.set(begin + hours * HOUR)
                world.tick()
                world.look()
                said.append(world.said("gaps"))
                if hours < 60:
                    world.set(begin + hours * HOUR + timedelta(minutes=31))
                    world.look()
                    said.append(world.said("gaps"))
            world.assert_no_look_failed()
            assert [r.status for r in world.runs() if r.status != dg.DagsterRunStatus.SUCCESS] == []
            assert any("The record is quarantined" in one and "2024-05-06T04:00Z" in one for one in said[:4]), said
            assert world.rows(ENERGY_DATA)["GR", start + 4 * HOUR]["carbon_intensity"] is not None
            gold = world.rows(ml_features(("GR",)))
            assert {hour for _, hour in gold} >= set(Window(start, floor(begin + 62 * HOUR)).hours())


def floor(moment: datetime) -> datetime:
    return moment.replace(minute=0)


NEW_MODE = """
import sys
from datetime import datetime, timezone
from emaps_dagster.contracts import responses, tables, zones
from emaps_dagster.electricity_maps import admission
response = responses.RawResponse(zones.POWER, "GR", "history", "/v3", sys.argv[1], datetime.now(timezone.utc))
print([one.reason for one in admission.admitted(response).rejected])
print([name for name in tables.ENERGY_DATA.column_names if "fusion" in name])
"""


def test_a_new_mode_is_trusted_once_zones_py_has_it(tmp_path: Path) -> None:
    """The record counts, and silver and gold get columns, which their contract leads to by a rebuild."""
    shutil.copytree(Path(zones.__file__).parents[1], tmp_path / "emaps_dagster", ignore=shutil.ignore_patterns("__py*"))
    fusion = {"powerConsumptionBreakdown": {"fusion": 50}, "powerProductionBreakdown": {"fusion": 50}}
    told = []
    for mode in ("", '    "fusion",\n'):
        file = tmp_path / "emaps_dagster" / "contracts" / "zones.py"
        file.write_text(file.read_text().replace("MODE_KEYS = (\n", f"MODE_KEYS = (\n{mode}"))
        command = [sys.executable, "-c", NEW_MODE, json.dumps({"zone": "GR", "history": [record(BAD, **fusion)]})]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        told.append(done.stdout.splitlines())
    assert "the mode 'fusion', which zones.py does not know" in told[0][0]
    assert told[1] == ["[]", "['production_fusion', 'consumption_fusion']"]


def test_a_sandbox_among_good_records_is_refused_whole(sim: Simulator, client: ElectricityMapsClient) -> None:
    sim.inject(Fault("sandbox"))
    (failed,) = fetch(client, POWER, ("GR",), LAST_DAY, NOW)
    assert isinstance(failed, FetchFailure)
    assert isinstance(failed.error, RejectedBodyError)
