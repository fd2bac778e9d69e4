"""The latest materialization of each hour: the same by the columns of a database and by Dagster's events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from emaps_dagster.defs.instance import materializations
from emaps_dagster.defs.instance.materializations import (
    _by_columns,
    _by_events,
    _of_run_by_events,
    latest_materializations,
    materializations_of_run,
)

KEY, OTHER = dg.AssetKey(["gold", "ml_features"]), dg.AssetKey(["silver", "energy_data"])
HOURS = [f"2024-05-01-{number:02}:00" for number in range(5)]


@pytest.fixture(params=["SQLite, as Dagster comes", "in memory"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    if request.param == "in memory":
        with dg.DagsterInstance.ephemeral() as one:
            yield one
    else:
        (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        with dg.DagsterInstance.from_config(str(tmp_path)) as one:
            yield one


def materialize(instance: dg.DagsterInstance, key: dg.AssetKey, hours: list[str]) -> None:
    for hour in hours:
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=hour))


def test_the_latest_of_each_hour_is_found_by_columns_as_by_events(instance: dg.DagsterInstance) -> None:
    materialize(instance, KEY, HOURS[:3])
    materialize(instance, OTHER, HOURS[:2])
    materialize(instance, KEY, [HOURS[1]])
    found = dict(_by_columns(instance.event_log_storage, KEY, HOURS))  # type: ignore[arg-type]  # it is one
    expected = dict(_by_events(instance, KEY, HOURS))
    assert found.keys() == set(HOURS[:3])
    for hour, target in expected.items():
        assert (found[hour].storage_id, found[hour].run_id) == (target.storage_id, target.run_id)
        assert found[hour].timestamp == pytest.approx(target.timestamp, abs=1e-5)
    assert found[HOURS[1]].storage_id == max(target.storage_id for target in found.values())


def test_hours_without_one_have_none_and_so_have_those_that_were_wiped(instance: dg.DagsterInstance) -> None:
    assert latest_materializations(instance, KEY, HOURS[:2]) == {}
    assert dict(_by_events(instance, KEY, HOURS[:2])) == {}
    materialize(instance, KEY, HOURS[:2])
    instance.wipe_assets([KEY])
    assert latest_materializations(instance, KEY, HOURS[:2]) == {}


@dg.asset(key=KEY, partitions_def=dg.HourlyPartitionsDefinition("2024-05-01-00:00"))
def gold() -> None:
    pass


def test_those_of_one_run_are_found_by_columns_as_by_events(instance: dg.DagsterInstance) -> None:
    runs = [
        dg.materialize([gold], instance=instance, partition_key=hour).run_id for hour in (HOURS[0], HOURS[1], HOURS[0])
    ]
    records = {record.run_id: record for record in instance.fetch_materializations(KEY, limit=10).records}
    for run_id, hour in ((runs[0], HOURS[0]), (runs[1], HOURS[1]), (runs[2], HOURS[0])):
        storage_id = records[run_id].storage_id
        for found in (
            materializations_of_run(instance, KEY, run_id, 0),
            _of_run_by_events(instance, KEY, run_id, storage_id - 1),
        ):
            assert {key: (target.storage_id, target.run_id) for key, target in found.items()} == {
                hour: (storage_id, run_id)
            }
            assert found[hour].timestamp == pytest.approx(records[run_id].timestamp, abs=1e-5)
        assert materializations_of_run(instance, KEY, run_id, storage_id) == {}
        assert _of_run_by_events(instance, KEY, run_id, storage_id) == {}


def test_more_hours_than_one_query_takes(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materializations, "_LOOKED_UP_AT_ONCE", 2)
    materialize(instance, KEY, HOURS)
    assert set(latest_materializations(instance, KEY, HOURS)) == set(HOURS)
