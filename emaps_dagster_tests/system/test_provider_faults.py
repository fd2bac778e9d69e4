"""A provider that leaves out, repeats, renames and mixes values, through real runs: each hour warns, nothing blocks.

The simulator answers over HTTP; what a test changes in its records is `Odd.edit`. Each remedy is performed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deltalake import DeltaTable, write_deltalake

from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import ZONES, Zone
from emaps_dagster.definitions import build_definitions
from emaps_dagster.defs.names import HEALTH
from emaps_dagster.monitoring.gaps import GapsCursor, IncompleteHours, decide
from emaps_dagster.monitoring.stored_hours import missing
from emaps_dagster.simulator import api
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.pipeline.test_checks import Warehouse, evaluations_of
from emaps_dagster_tests.support.builders import utc
from harness.dagster_runs import quick_instance

TOKEN = "a-token-of-an-odd-provider"
NOW = utc(2024, 5, 4, 10, 7)
MINUTE = timedelta(minutes=1)
HOURS = Window(utc(2024, 5, 3, 11), utc(2024, 5, 4, 10))
GR = ("GR",)
Edit = Callable[[dict[str, Any], datetime], None]


class Odd(Simulator):
    """A simulator whose records are changed by `edit` before they are sent."""

    edit: Edit | None = None

    def answer(self, target: str, token: str | None) -> tuple[api.Answer, Fault | None]:
        (status, headers, content), fault = super().answer(target, token)
        body = json.loads(content)
        if status == 200 and self.edit is not None:
            for row in body.get("history") or body.get("data") or ():
                self.edit(row, datetime.fromisoformat(row["datetime"].replace("Z", "+00:00")))
            return api.json_answer(200, body), fault
        return (status, headers, content), fault


@pytest.fixture
def odd() -> Iterator[Odd]:
    with Odd(token=TOKEN, zones=GR, now=NOW) as sim:
        yield sim


@pytest.fixture
def warehouse(tmp_path: Path, odd: Odd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    monkeypatch.setenv("EMAPS_API_TOKEN", TOKEN)
    with quick_instance() as instance:
        yield Warehouse(tmp_path / "warehouse", instance, odd.url)


def warned(result: Any) -> dict[str, list[str]]:
    """The checks that did not pass, with the hours; all of them only warn, and gold was made."""
    assert result.success
    wrong = [one for one in evaluations_of(result) if not one.passed]
    assert {(one.severity, one.blocking) for one in wrong} <= {(dg.AssetCheckSeverity.WARN, False)}
    found: dict[str, list[str]] = {}
    for one in sorted(wrong, key=lambda one: (one.check_name, one.partition or "")):
        found.setdefault(one.check_name, []).append(one.partition or "")
        assert one.metadata["remediation"].value
    return found


def keys(start: datetime, hours: int) -> list[str]:
    return [partition_key(start + number * HOUR) for number in range(hours)]


def job_of(warehouse: Warehouse, name: str) -> dg.JobDefinition:
    settings = Settings(
        api_url=warehouse.url,
        warehouse=warehouse.folder,
        fixed_now=NOW,
        zones=GR,
        start=utc(2024, 5, 1),
        _env_file=None,
    )
    return build_definitions(settings).resolve_job_def(name)


def status_of(warehouse: Warehouse) -> str:
    """The sentence of the page `health`."""
    result = job_of(warehouse, HEALTH).execute_in_process(instance=warehouse.instance)
    (made,) = result.asset_materializations_for_node("health")
    return str(made.metadata["status"].value)


def silence(row: dict[str, Any], *starts: str) -> None:
    for name, value in row.items():
        if name.startswith(starts):
            row[name] = dict.fromkeys(value) if isinstance(value, dict) else None


def test_hours_of_nulls_warn_each_on_the_page_and_in_gaps_until_values_come(warehouse: Warehouse, odd: Odd) -> None:
    since, carbon_only = utc(2024, 5, 4, 4), utc(2024, 5, 4, 2)

    def nulls(row: dict[str, Any], hour: datetime) -> None:
        if hour >= since:
            silence(row, "power", "fossil", "renewable")
        if hour == carbon_only:
            silence(row, "carbon")

    assert warned(warehouse.run(HOURS, zones=GR)) == {}
    assert status_of(warehouse).startswith("**All is well.**")
    odd.edit = nulls
    # Real values are replaced: all hours of the day come again.
    result = warehouse.run(HOURS, zones=GR, now=NOW + MINUTE)
    assert warned(result) == {"values_are_reported": [*keys(carbon_only, 1), *keys(since, 6)]}
    (first, *_) = [one for one in evaluations_of(result) if one.partition == partition_key(since) and not one.passed]
    assert "every power value is null; " in str(first.description)
    assert "values were replaced by null in the response of 2024-05-04T10:08:00Z: " in str(first.description)

    status = status_of(warehouse)
    assert "GR: every power value is null, in 6 hours (`[2024-05-04-04:00...2024-05-04-09:00]`); 6 of them" in status
    assert "GR: carbon_intensity is null, in 1 hour (`2024-05-04-02:00`); 1 of them had values before" in status
    found = missing(warehouse.folder, GR, HOURS)
    assert found.silent == {"GR": {carbon_only, *(since + number * HOUR for number in range(6))}}
    later = NOW + timedelta(days=2)
    holes = IncompleteHours(found.not_fetched, found.not_merged, silent=found.silent)
    decision = decide(later, holes, {"GR": utc(2024, 1, 1)}, GapsCursor())
    assert decision.fetch == [Window(carbon_only, HOURS.end)]
    assert decision.sentences == [
        "The provider answered with nulls only: GR [2024-05-04T02:00Z, 2024-05-04T03:00Z), "
        "[2024-05-04T04:00Z, 2024-05-04T10:00Z)."
    ]

    gold = {row["datetime"]: row for row in _rows(warehouse, "gold/ml_features")}
    last = gold[HOURS.end - HOUR]
    # The mean is of what was reported in the hours before.
    assert (last["hours_observed_24h"], last["rolling_count_consumption_total_24h"]) == (23, 17)
    assert last["rolling_count_carbon_intensity_24h"] == 22

    # The remedy: materialize the partitions again, all layers.
    odd.edit = None
    assert warned(warehouse.run(HOURS, zones=GR, now=NOW + 2 * MINUTE)) == {}
    assert status_of(warehouse).startswith("**All is well.**")
    assert missing(warehouse.folder, GR, HOURS).silent == {}


def test_a_stuck_provider_and_two_kinds_of_factors_warn_in_their_hours(warehouse: Warehouse, odd: Odd) -> None:
    stuck, direct = Window(utc(2024, 5, 3, 14), utc(2024, 5, 4, 4)), utc(2024, 5, 4, 7)
    kept: dict[str, Any] = {}

    def repeat(row: dict[str, Any], hour: datetime) -> None:
        if "powerProductionBreakdown" in row and hour in stuck:
            kept.update({} if kept else {name: row[name] for name in row if name.startswith("power")})
            row.update(kept)
        if hour == direct and "emissionFactorType" in row:
            row["emissionFactorType"] = "direct"

    odd.edit = repeat
    assert warned(warehouse.run(HOURS, zones=GR)) == {
        "values_change": keys(stuck.start, 14),
        "rolling_avg_24h_is_of_one_emission_factor_type": keys(direct, 3),
    }
    types = {row["datetime"]: row["emission_factor_type"] for row in _rows(warehouse, "gold/ml_features")}
    assert [types[direct - HOUR], types[direct]] == ["lifecycle", "direct"]
    status = status_of(warehouse)
    assert "kept their values since 2024-05-03T14:00Z or earlier, for 14 hours" in status
    assert "mixes direct and lifecycle in 3 hours (`[2024-05-04-07:00...2024-05-04-09:00]`)" in status

    # The remedy of both: once the provider has corrected them, materialize the hours again.
    odd.edit = None
    assert warned(warehouse.run(HOURS, zones=GR, now=NOW + 2 * MINUTE)) == {}
    assert status_of(warehouse).startswith("**All is well.**")


@pytest.fixture
def zones_py() -> Iterator[Callable[[Zone], None]]:
    """Edits zones.py, as a person does, until the test ends; the contract of gold follows."""
    before = dict(ZONES)

    def edit(zone: Zone) -> None:
        ZONES[zone.key] = zone
        ml_features.cache_clear()

    yield edit
    ZONES.clear()
    ZONES.update(before)
    ml_features.cache_clear()


def test_a_renamed_neighbour_warns_and_the_remedy_gives_gold_its_columns(
    warehouse: Warehouse, odd: Odd, zones_py: Callable[[Zone], None]
) -> None:
    since = utc(2024, 5, 4, 5)
    odd.provider.drop_neighbour("GR", "MK", since)
    odd.provider.add_neighbour("GR", "MK-N", since)
    result = warehouse.run(HOURS, zones=GR)
    assert warned(result) == {"neighbours_have_columns": keys(since, 5)}
    said = {str(one.description) for one in evaluations_of(result) if not one.passed}
    assert all("MK, which it lists, has no flow in these hours: perhaps renamed" in one for one in said)
    assert "GR: 5 hours with a flow of MK-N (`[2024-05-04-05:00...2024-05-04-09:00]`)" in status_of(warehouse)

    known = ZONES["GR"]
    zones_py(Zone(known.key, known.name, known.time_zone, known.country, (*known.neighbours, "MK-N")))
    assert job_of(warehouse, "rebuild").execute_in_process(instance=warehouse.instance, run_config={}).success
    assert warned(warehouse.run(HOURS, zones=GR)) == {}
    gold = {row["datetime"]: row for row in _rows(warehouse, "gold/ml_features")}
    silver = {row["datetime"]: dict(row["import_by_zone"]) for row in _rows(warehouse, "silver/energy_data")}
    assert gold[since - HOUR]["import_MK_N"] is None
    assert gold[since]["import_MK_N"] == silver[since]["MK-N"]


def test_a_table_from_before_the_counts_leads_to_the_rebuild(warehouse: Warehouse) -> None:
    warehouse.run(HOURS, zones=GR)
    whole = _rows(warehouse, "gold/ml_features")
    delta = DeltaTable(str(warehouse.folder / "gold/ml_features"))
    stored = delta.to_pyarrow_table()
    new = [name for name in stored.column_names if name.startswith("rolling_count_") or name == "emission_factor_type"]
    assert len(new) == 40
    write_deltalake(delta, stored.drop_columns(new), mode="overwrite", schema_mode="overwrite")
    failed = warehouse.run(HOURS, zones=GR)
    assert not failed.success
    (error,) = [event.step_failure_data.error for event in failed.all_events if event.is_step_failure]
    assert "rolling_count_production_nuclear_24h is missing" in str(error)
    assert "-j rebuild" in str(error)
    assert job_of(warehouse, "rebuild").execute_in_process(instance=warehouse.instance, run_config={}).success
    assert _rows(warehouse, "gold/ml_features") == whole


def _rows(warehouse: Warehouse, table: str) -> list[dict[str, Any]]:
    rows = DeltaTable(str(warehouse.folder / table)).to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: (row["zone"], row["datetime"]))
