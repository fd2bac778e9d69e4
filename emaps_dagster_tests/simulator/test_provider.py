"""The simulated provider: every row balances, the last hours are estimated, later values revise earlier ones."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from statistics import fmean
from typing import Any

import pytest

from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import CARBON, FEEDS, POWER, ZONES, Feed
from emaps_dagster.simulator.provider import Provider, iso


def utc(year: int, month: int = 1, day: int = 1, hour: int = 0) -> datetime:
    return datetime(year, month, day, hour, tzinfo=timezone.utc)


def identities(row: dict[str, Any]) -> None:
    """The hourly sums that hold in the recorded rows."""
    made, used = row["powerProductionBreakdown"], row["powerConsumptionBreakdown"]
    came, left = row["powerImportTotal"] or 0, row["powerExportTotal"] or 0
    assert row["powerProductionTotal"] == sum(mw for mw in made.values() if mw and mw > 0)
    assert row["powerConsumptionTotal"] == sum(used.values()) > 0
    assert came == sum(row["powerImportBreakdown"].values())
    assert left == sum(row["powerExportBreakdown"].values())
    assert abs(row["powerConsumptionTotal"] - (sum(mw or 0 for mw in made.values()) + came - left)) <= 2
    assert min(used.values()) >= 0
    assert all(mw >= 0 for mode, mw in made.items() if mw is not None and not mode.endswith(" discharge"))
    assert 0 <= row["renewablePercentage"] <= row["fossilFreePercentage"] <= 100


@pytest.mark.parametrize("zone", [*ZONES, "DK-DK1"])
def test_energy_balances_in_every_hour_of_every_zone_whatever_is_thought_of_it(zone: str) -> None:
    chance, provider = random.Random(f"balance of {zone}"), Provider(seed=len(zone))
    for _ in range(400):
        hour = utc(2021) + chance.randrange(6 * 8766) * HOUR
        found = provider.record(POWER, zone, hour, hour + timedelta(minutes=chance.randrange(60 * 24 * 40)))
        assert found is not None
        identities(found)


def test_energy_balances_whatever_modes_and_neighbours_are_missing() -> None:
    chance = random.Random(4)
    for _ in range(300):
        provider, hour = Provider(), utc(2021) + chance.randrange(5 * 8766) * HOUR
        for mode in chance.sample(["gas", "coal", "wind", "solar", "hydro", "hydro discharge"], chance.randrange(6)):
            provider.silence("GR", mode, hour)
        for n in chance.sample(["AL", "BG", "IT-SO", "MK"], chance.randrange(4)):
            provider.drop_neighbour("GR", n, hour)
        found = provider.record(POWER, "GR", hour, hour + 72 * HOUR)
        assert found is not None
        identities(found)


@pytest.mark.parametrize("feed", FEEDS)
def test_the_last_two_to_four_hours_are_estimated(feed: Feed) -> None:
    provider, tails = Provider(), set()
    for minutes in range(0, 60 * 24 * 6, 17):
        at = utc(2024, 5, 1) + timedelta(minutes=minutes)
        rows = provider.rows(feed, "GR", Window(floor_hour(at) - 6 * HOUR, floor_hour(at) + HOUR), at)
        estimated = [row["isEstimated"] for row in rows]
        assert estimated[-2:] == [True, True]
        tails.add(sum(estimated))
        assert all((row["estimationMethod"] is None) != row["isEstimated"] for row in rows)
    assert tails == {2, 3, 4}


def test_a_row_changes_only_with_its_update_and_updates_only_move_on() -> None:
    provider = Provider()
    for hour in Window(utc(2024, 5, 1), utc(2024, 5, 2)).hours():
        before: dict[str, Any] = {}
        for minutes in [*range(0, 60 * 40, 19), *range(60 * 40, 60 * 24 * 95, 1100)]:
            at = hour + timedelta(minutes=minutes)
            row = provider.record(POWER, "GR", hour, at) or {}
            assert row["updatedAt"] < at.isoformat()
            if before and row != before:
                assert row["updatedAt"] > before["updatedAt"]
                assert not (row["isEstimated"] and not before["isEstimated"])
            before = row


def test_measured_hours_are_revised_in_their_first_day_and_refetched_later() -> None:
    provider, hours = Provider(), list(Window(utc(2024, 5, 1), utc(2024, 5, 21)).hours())

    def share(first: timedelta, last: timedelta, *, values: bool) -> float:
        """Of how many hours the row changed between two ages; with `values` not the time stamp alone."""
        pairs = [[provider.record(POWER, "GR", hour, hour + age) or {} for age in (first, last)] for hour in hours]
        names = ("powerConsumptionBreakdown",) if values else ("updatedAt",)
        return fmean(any(a[name] != b[name] for name in names) for a, b in pairs)

    assert share(4 * HOUR, 30 * HOUR, values=False) > 0.95
    assert 0.5 < share(4 * HOUR, 30 * HOUR, values=True) < 0.95
    for days in (7, 30, 90):
        assert 0.03 < share(timedelta(days=days - 1), timedelta(days=days + 2), values=True) < 0.2
    assert share(timedelta(days=95), timedelta(days=300), values=False) == 0


def test_estimates_name_fewer_neighbours_and_zero_flows_lose_their_keys_in_2026() -> None:
    everybody = {"AL", "BG", "IT-SO", "MK", "TR"}
    rows = {
        year: Provider().rows(POWER, "GR", Window(utc(year, 5, 1), utc(year, 6, 1)), utc(2027)) for year in (2024, 2026)
    }
    assert {frozenset(row["powerImportBreakdown"]) for row in rows[2024]} == {frozenset(everybody)}
    for row in rows[2026]:
        assert all(row["powerImportBreakdown"].values())
        assert not set(row["powerImportBreakdown"]) & set(row["powerExportBreakdown"])
    tails = [
        Provider().record(POWER, "GR", hour, hour) or {} for hour in Window(utc(2024, 5, 1), utc(2024, 5, 8)).hours()
    ]
    named = [set(row["powerImportBreakdown"]) for row in tails]
    assert all(names <= everybody for names in named)
    assert 3 < fmean(map(len, named)) < 4.5


@pytest.mark.parametrize("day", [utc(2024, 3, 31), utc(2024, 10, 27), utc(2024, 2, 29), utc(2024, 12, 31)])
def test_every_utc_day_has_24_hours(day: datetime) -> None:
    rows = Provider().rows(CARBON, "GR", Window(day, day + 24 * HOUR), utc(2025, 6, 1))
    assert [row["datetime"][11:13] for row in rows] == [f"{hour:02}" for hour in range(24)]


@pytest.mark.parametrize("feed", FEEDS)
def test_when_hours_were_updated_is_what_their_rows_say(feed: Feed) -> None:
    provider, window, at = Provider(), Window(utc(2024, 5, 1), utc(2024, 5, 11)), utc(2024, 5, 9, 12)
    provider.revise("GR", utc(2024, 5, 3, 7), at=utc(2024, 5, 8, 9))
    provider.withhold("GR", utc(2024, 5, 4, 7), end=utc(2024, 5, 4, 9))
    rows = provider.rows(feed, "GR", window, at)
    assert len(rows) == 8 * 24 + 13 - 2
    told = provider.updated_at(feed, "GR", window, at)
    assert {iso(hour): iso(updated) for hour, updated in told.items()} == {r["datetime"]: r["updatedAt"] for r in rows}
