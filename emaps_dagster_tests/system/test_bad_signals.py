"""Electricity-mix in a bad world: each fault costs no more than its record, is reported, and ends with later data."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import dagster as dg

from emaps_dagster.contracts.signals import FLOWS, MIX, RENEWABLE, TRACED_MIX
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, MIX_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import MODE_KEYS, POWER
from emaps_dagster.monitoring.stored_hours import missing
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.system.test_roads import Road
from harness.dagster_runs import quick_instance

GOLD = ml_features(("GR",))
TABLES = (MIX_DATA, CARBON_DATA, ENERGY_DATA, GOLD)


def at(hour: int, minute: int = 0) -> datetime:
    return utc(2026, 8, 22, hour, minute)


NOW = at(10, 7)
LOADED = Window(at(1), at(10))


def later(road: Road, hours: float) -> None:
    road.now += hours * HOUR
    road.sim.set_now(road.now)


def failed(result: dg.ExecuteInProcessResult) -> dict[str, list[int]]:
    """Failed checks of hours, with the hours."""
    assert result.success
    found: dict[str, set[int]] = {}
    for event in result.all_events:
        if event.event_type_value == "ASSET_CHECK_EVALUATION" and not event.asset_check_evaluation_data.passed:
            told = event.asset_check_evaluation_data
            if told.partition is not None:
                found.setdefault(told.check_name, set()).add(int(told.partition[-5:-3]))
    return {name: sorted(hours) for name, hours in found.items()}


def values(road: Road) -> dict[datetime, dict[str, object]]:
    """Silver without the times since when rows are known."""
    rows = road.silver()
    return {hour: {k: v for k, v in row.items() if not k.startswith("ingested_at")} for hour, row in rows.items()}


def test_faults_of_single_records_cost_these_and_later_data_mend_them(tmp_path: Path) -> None:
    with quick_instance() as instance, Simulator(now=NOW, zones=("GR",), version="v4") as sim:
        provider = sim.provider
        provider.carry_flows("GR", at(2), at(3), until=NOW + 20 * HOUR)
        provider.carry_flows("GR", at(4), at(5), until=NOW + HOUR)
        provider.spoil("GR", at(5), "unknown_mode", feed=MIX, until=NOW + HOUR)
        # Flows of an older version than the mix, until the provider revises all signals.
        provider.revise("GR", at(6), at=NOW, feed=FLOWS, updated_at=at(4))
        provider.revise("GR", at(6), at=NOW + HOUR)
        provider.spoil("GR", at(7), "text_number", feed=RENEWABLE, until=NOW + HOUR)
        for mode in MODE_KEYS:
            provider.silence("GR", mode, at(8), at(9), until=NOW + HOUR)
        provider.spoil("GR", at(9), "null_record", feed=TRACED_MIX, until=NOW + HOUR)
        road = Road(tmp_path / "bad", sim, instance, now=NOW, signal="electricity-mix")
        assert failed(road.materialize(LOADED)) == {
            "flows_are_not_carried_forward": [2, 4],
            "energy_balances": [2, 4],
            "every_record_is_trusted": [5, 7, 9],
            "every_hour_is_present": [5, 6, 9],
            "values_are_reported": [8],
        }
        bad = road.silver()
        assert {hour for hour, row in bad.items() if row["is_superseded_power"]} == {at(5), at(6), at(9)}
        power = provider.record(POWER, "GR", at(7), NOW)
        assert power is not None
        assert bad[at(7)]["production_total"] == power["powerProductionTotal"]
        assert bad[at(7)]["fossil_free_percentage"] == power["fossilFreePercentage"]
        assert bad[at(7)]["renewable_percentage"] is None
        assert missing(road.folder, ("GR",), LOADED).not_fetched == {"GR": {at(5), at(6), at(9)}}
        # Half an hour later the provider says the same: nothing is written.
        versions = [road.delta(table).version() for table in (ENERGY_DATA, GOLD)]
        later(road, 0.5)
        assert road.materialize(LOADED, *TABLES).success
        assert [road.delta(table).version() for table in (ENERGY_DATA, GOLD)] == versions
        # What all the checks say: a later run reads the hours again.
        later(road, 0.5)
        whole = Window(LOADED.start, LOADED.end + HOUR)
        assert failed(road.materialize(whole)) == {"flows_are_not_carried_forward": [2], "energy_balances": [2]}
        assert missing(road.folder, ("GR",), whole).not_fetched == {}
        fresh = Road(tmp_path / "fresh", sim, instance, now=road.now, signal="electricity-mix")
        assert fresh.materialize(whole, *TABLES).success
        mended, must = values(road), values(fresh)
        assert {hour: mended[hour] for hour in must} == must
        # After a day no tick reads the hour again: it is materialized, all layers.
        later(road, 24)
        assert failed(road.materialize(Window(at(2), at(3)))) == {}
