"""Which hours a run may have: full ones, over, from the first partition on; all others are refused by a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from emaps_dagster.cli.task import Task
from emaps_dagster.cli.task import run as run_task
from emaps_dagster.contracts.errors import PartitionError
from emaps_dagster.contracts.partition_keys import refuse_hours_not_over
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.definitions import build_definitions
from emaps_dagster.defs.partitions import complete_window, hourly_partitions, partition_hour
from emaps_dagster.simulator.server import Simulator
from emaps_dagster_tests.support.builders import utc
from emaps_dagster_tests.support.command_line import run_hourly_job
from harness.dagster_runs import quick_instance

NOW = utc(2024, 5, 4, 10, 7)
FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
NOT_OVER = (
    "are not all over: it is 2024-05-04T10:07Z, and the last complete hour is 2024-05-04-09:00. {} after {}. "
    "Nothing was read or written."
)


def refusals(tags: dict[str, str], folder: Path, assets: list[str] | None = None) -> tuple[list[str], int]:
    """What the steps that failed say, and how many calls were made."""
    with Simulator(zones=("GR",), now=NOW) as sim, quick_instance() as instance:
        settings = Settings(
            api_url=sim.url, warehouse=folder / "warehouse", fixed_now=NOW, start=utc(2024, 5, 1), _env_file=None
        )
        result = (
            build_definitions(settings)
            .resolve_job_def("hourly")
            .execute_in_process(
                instance=instance,
                tags=tags,
                raise_on_error=False,
                asset_selection=[dg.AssetKey(name.split(".")) for name in assets] if assets else None,
            )
        )
        assert not result.success
        errors = [e.event_specific_data.error for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
        return [(e.cause or e).message.strip().split(": ", 1)[1] for e in errors], len(sim.requests)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        (
            {"dagster/partition": "2024-05-04-09:30"},
            "The partition '2024-05-04-09:30' is no full UTC hour: give one such as 2024-05-04-09:00. "
            "Nothing was read or written.",
        ),
        (
            {"dagster/partition": "2024-05-04-9:00"},
            "The partition '2024-05-04-9:00' is no full UTC hour: give one such as 2024-05-04-09:00. "
            "Nothing was read or written.",
        ),
        (
            {"dagster/partition": "2024-05-04-10:00"},
            "The hours [2024-05-04T10:00Z, 2024-05-04T11:00Z) "
            + NOT_OVER.format("Take an earlier hour, or run this one", "2024-05-04T11:00Z"),
        ),
        (
            {FIRST: "2024-05-04-07:00", LAST: "2024-05-04-11:00"},
            "The hours [2024-05-04T07:00Z, 2024-05-04T12:00Z) "
            + NOT_OVER.format("End the range with 2024-05-04-09:00, or run it", "2024-05-04T12:00Z"),
        ),
        (
            {FIRST: "2024-05-04-09:00", LAST: "2024-05-04-07:00"},
            "The range of partitions 2024-05-04-09:00 to 2024-05-04-07:00 ends before it starts: exchange them. "
            "Nothing was read or written.",
        ),
        (
            {"dagster/partition": "2024-04-30-23:00"},
            "The hours [2024-04-30T23:00Z, 2024-05-01T00:00Z) begin before the first partition, 2024-05-01-00:00 "
            "(EMAPS_START): begin there, or set EMAPS_START to an earlier hour. Nothing was read or written.",
        ),
        (
            {},
            "The run names no hours: give it one partition (tag dagster/partition, such as 2024-05-01-06:00) or the "
            "first and the last of a range (dagster/asset_partition_range_start and ..._end). Nothing was read or "
            "written.",
        ),
    ],
)
def test_hours_that_cannot_be_made_are_refused_before_anything_is_asked_or_written(
    tags: dict[str, str], told: str, tmp_path: Path
) -> None:
    assert refusals(tags, tmp_path) == ([told, told], 0)
    assert not (tmp_path / "warehouse").exists()


@pytest.mark.parametrize("asset", ["silver.energy_data", "gold.ml_features"])
def test_an_asset_alone_refuses_them_as_well(asset: str, tmp_path: Path) -> None:
    (told,), calls = refusals({"dagster/partition": "2024-05-04-10:00"}, tmp_path, [asset])
    assert told.startswith("The hours [2024-05-04T10:00Z, 2024-05-04T11:00Z) are not all over")
    assert calls == 0
    assert not (tmp_path / "warehouse").exists()


def test_the_command_line_refuses_them_with_the_sentence(tmp_path: Path) -> None:
    with Simulator(zones=("GR",), now=NOW) as sim:
        process = run_hourly_job(
            tmp_path / "home",
            "2024-05-04-09:30",
            api_url=sim.url,
            warehouse=tmp_path / "warehouse",
            fixed_now=NOW.isoformat(),
            start="2024-05-01",
        )
        assert process.returncode != 0
        told = b"The partition '2024-05-04-09:30' is no full UTC hour: give one such as"
        assert told in process.stdout + process.stderr
        assert sim.requests == []
    assert not (tmp_path / "warehouse").exists()


def test_the_last_complete_hour_may_be_made_and_no_later_one() -> None:
    for now in (utc(2024, 5, 4, 10), NOW, utc(2024, 5, 4, 10, 59)):
        refuse_hours_not_over(Window(utc(2024, 5, 1), utc(2024, 5, 4, 10)), now)
        with pytest.raises(PartitionError):
            refuse_hours_not_over(Window(utc(2024, 5, 1), utc(2024, 5, 4, 11)), now)
    assert partition_hour("2024-05-04-09:00") == utc(2024, 5, 4, 9)
    for text in ("2024-05-04", "2024-05-04-09:00:00", "2024-05-04-09:01", "2024-13-04-09:00", ""):
        with pytest.raises(PartitionError, match="is no full UTC hour"):
            partition_hour(text)


@pytest.mark.parametrize("layer", ["bronze", "silver", "gold"])
def test_a_task_of_the_native_job_refuses_hours_that_are_not_over(layer: str) -> None:
    hours = Window(utc(2024, 5, 4, 9), utc(2024, 5, 4, 9) + 2 * HOUR)
    task = Task(None, Settings(fixed_now=NOW, _env_file=None), hours, lambda: NOW)  # type: ignore[arg-type]  # not opened
    with pytest.raises(PartitionError, match=r"End the range with 2024-05-04-09:00, or run it after 2024-05-04T11:00Z"):
        run_task(layer, task)


def test_the_cost_of_hours_that_are_not_over_is_not_reported() -> None:
    with quick_instance() as instance:
        job = build_definitions(Settings(fixed_now=NOW, _env_file=None)).resolve_job_def("backfill_cost")
        end = NOW + timedelta(days=1)
        with pytest.raises(PartitionError, match="End the range with 2024-05-04-09:00"):
            job.execute_in_process(
                instance=instance, run_config={"start": "2024-05-01", "end": f"{end:%Y-%m-%dT%H:00Z}"}
            )


@dataclass(frozen=True)
class Named:
    """A run by the keys that it names."""

    first: str
    last: str

    @property
    def partition_key_range(self) -> dg.PartitionKeyRange:
        return dg.PartitionKeyRange(self.first, self.last)


@pytest.mark.parametrize(
    ("refused", "start", "now", "mended"),
    [
        # A full hour; an earlier hour, or this one later; the end that is named, or later; exchanged; EMAPS_START.
        (("09:30", "09:30"), 1, NOW, {"keys": ("09:00", "09:00")}),
        (("10:00", "10:00"), 1, NOW, {"keys": ("09:00", "09:00")}),
        (("10:00", "10:00"), 1, NOW, {"now": NOW.replace(hour=11, minute=0)}),
        (("07:00", "11:00"), 1, NOW, {"keys": ("07:00", "09:00")}),
        (("07:00", "11:00"), 1, NOW, {"now": NOW.replace(hour=12, minute=0)}),
        (("09:00", "07:00"), 1, NOW, {"keys": ("07:00", "09:00")}),
        (("01:00", "02:00"), 5, NOW.replace(day=9), {"keys": ("00:00", "02:00"), "day": 5}),
        (("01:00", "02:00"), 5, NOW.replace(day=9), {"start": 4}),
    ],
)
def test_what_a_refusal_names_is_taken(
    refused: tuple[str, str], start: int, now: datetime, mended: dict[str, Any]
) -> None:
    def window(keys: tuple[str, str], start: int, now: datetime, day: int = 4) -> Window:
        named = Named(*(f"2024-05-{day:02}-{key}" for key in keys))
        return complete_window(named, hourly_partitions(utc(2024, 5, start)), now)

    with pytest.raises(PartitionError) as caught:
        window(refused, start, now)
    keys = mended.get("keys", refused)
    later = mended.get("now", now)
    if "keys" in mended and refused != ("09:00", "07:00"):
        assert {f"-{key}" in str(caught.value) for key in set(keys) - set(refused)} == {True}
    if "now" in mended:
        assert f"after {later:%Y-%m-%dT%H:%MZ}" in str(caught.value)
    taken = window(keys, mended.get("start", start), later, mended.get("day", 4))
    assert [f"{hour:%H:%M}" for hour in (taken.start, taken.end - HOUR)] == list(keys)
