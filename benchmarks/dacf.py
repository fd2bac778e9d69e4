"""The hourly generation of the public table `dacf_2020_2021` as bodies of the API, each received when its hours ended.

carbonfirst/DACF (Apache-2.0), of the paper "DACF: Day-ahead Carbon Intensity Forecasting of Power Grids using Machine
Learning", e-Energy 2022. The folder's README has units, factors and protocol. The files are read where they are.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from emaps_dagster.contracts.responses import AcceptedResponse, RawResponse
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA
from emaps_dagster.contracts.windows import HOUR, Window, gold_window, silver_window
from emaps_dagster.contracts.zones import CARBON, FEEDS, MODE_KEYS, POWER, Feed
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.ingest import ingest
from emaps_dagster.pipeline.silver import merge_silver

# The grids of the paper's table and the provider's keys of their zones.
ZONE_OF = {"CISO": "US-CAL-CISO", "PJM": "US-MIDA-PJM", "ERCO": "US-TEX-ERCO"}
# The table's sources as the provider's modes.
MODE_OF = {
    "coal": "coal",
    "nat_gas": "gas",
    "nuclear": "nuclear",
    "oil": "oil",
    "hydro": "hydro",
    "solar": "solar",
    "wind": "wind",
    "other": "unknown",
}
# A run a day, five minutes after midnight UTC: what a forecast at ten past midnight needs to have been known in time.
EVERY = 24 * HOUR
RECEIVED_AFTER = timedelta(minutes=5)
_FOSSIL = ("coal", "gas", "oil", "unknown")


@dataclass(frozen=True)
class Hour:
    """A row of the table: generation by mode in MWh, the true intensity in gCO2/kWh, the paper's forecast of it."""

    start: datetime
    generation: dict[str, float]
    intensity: float
    paper: float | None


def hours_of(folder: Path, grid: str) -> list[Hour]:
    """The rows of a grid's file, in order."""
    with gzip.open(folder / f"{grid}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return [_hour(row) for row in csv.DictReader(file)]


def _hour(row: dict[str, str]) -> Hour:
    return Hour(
        datetime.fromisoformat(row["UTC time"]).replace(tzinfo=timezone.utc),
        {mode: float(row[source]) for source, mode in MODE_OF.items() if source in row},
        float(row["carbon_intensity"]),
        float(row["paper_forecast"]) if row["paper_forecast"] else None,
    )


def write(lakehouse: Lakehouse, grids: dict[str, list[Hour]]) -> None:
    """Admission, bronze, silver and gold of the hours of some grids; their hours must be the same."""
    hours = next(iter(grids.values()))
    window = Window(hours[0].start, hours[-1].start + HOUR)
    for feed, table in ((POWER, POWER_DATA), (CARBON, CARBON_DATA)):
        lakehouse.create(table)
        for grid, of_grid in grids.items():
            _, failures, _ = ingest(lakehouse, table, responses_of(ZONE_OF[grid], feed, of_grid))
            assert not failures, failures
    merge_silver(lakehouse, silver_window(window))
    merge_gold(lakehouse, tuple(ZONE_OF[grid] for grid in grids), gold_window(window))


def responses_of(zone: str, feed: Feed, hours: list[Hour]) -> Iterator[AcceptedResponse]:
    """What daily runs received, each with the hours since the run before."""
    assert feed in FEEDS
    size = EVERY // HOUR
    for first in range(0, len(hours), size):
        part = hours[first : first + size]
        end = part[-1].start + HOUR
        now = end + RECEIVED_AFTER
        body = {"zone": zone, "data": [_record(feed, zone, hour, now) for hour in part]}
        request = f"/v3/{feed.endpoint}/past-range?zone={zone}&start={_iso(part[0].start)}&end={_iso(end)}"
        text = json.dumps({**body, "temporalGranularity": "hourly"}, separators=(",", ":"))
        yield admit(RawResponse(feed, zone, "past-range", request, text, now))


def _record(feed: Feed, zone: str, hour: Hour, now: datetime) -> dict[str, Any]:
    stamp = {"datetime": _iso(hour.start), "updatedAt": _iso(now), "createdAt": _iso(hour.start)}
    measured = {"isEstimated": False, "estimationMethod": None}
    if feed == CARBON:
        return {
            "zone": zone,
            "carbonIntensity": hour.intensity,
            **stamp,
            "emissionFactorType": "direct",
            **measured,
        }
    # The table has no flows: consumption is production, and the totals of flows are null, as without known borders.
    modes = {mode: hour.generation.get(mode) for mode in MODE_KEYS}
    total = sum(hour.generation.values())
    fossil = sum(hour.generation.get(mode, 0.0) for mode in _FOSSIL)
    renewable = total - fossil - hour.generation.get("nuclear", 0.0)
    return {
        "zone": zone,
        **stamp,
        "powerConsumptionBreakdown": modes,
        "powerProductionBreakdown": modes,
        "powerImportBreakdown": {},
        "powerExportBreakdown": {},
        "fossilFreePercentage": round(100 * (1 - fossil / total)) if total else None,
        "renewablePercentage": round(100 * renewable / total) if total else None,
        "powerConsumptionTotal": total,
        "powerProductionTotal": total,
        "powerImportTotal": None,
        "powerExportTotal": None,
        **measured,
    }


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.000Z}"
