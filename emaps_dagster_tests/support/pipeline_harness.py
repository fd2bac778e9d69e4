"""A provider that does anything a provider may do, and a pipeline on it that may be killed anywhere or be raced.

The pipeline is the assets' own code path without Dagster: fetch, ingest, merge_silver, merge_gold.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from emaps_dagster.contracts.errors import ProviderUnavailableError
from emaps_dagster.contracts.responses import AcceptedResponse, RawResponse
from emaps_dagster.contracts.signals import CARBON_FREE, FLOWS, MIX, MIX_SIGNALS, STORAGE_KEYS, TRACED_MIX, power_feeds
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import (
    CARBON_DATA,
    ENERGY_DATA,
    POWER_DATA,
    REJECTED_RESPONSES,
    bronze_tables,
    ml_features,
)
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour, gold_window, silver_window
from emaps_dagster.contracts.zones import CARBON, FEEDS, MODE_KEYS, POWER, Feed
from emaps_dagster.defs.assets import bronze as bronze_module
from emaps_dagster.defs.assets import gold as gold_module
from emaps_dagster.defs.assets import silver as silver_module
from emaps_dagster.electricity_maps.admission import Reach
from emaps_dagster.electricity_maps.client import admit
from emaps_dagster.electricity_maps.fetch import fetch
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster_tests.support.builders import iso, record, utc
from emaps_dagster_tests.support.reference_implementation import (
    Rows,
    differences,
    gold_by_hand,
    latest_by_hand,
    silver_by_hand,
)
from emaps_dagster_tests.support.reference_mix import silver_of_both_roads

# The last days of March 2024: the end of a month, of a quarter and of winter time all lie within reach.
BASE = utc(2024, 3, 30)
GOLD = ml_features(("GR",))
FLAWS: tuple[Callable[[str], str], ...] = (
    # An absurd total or intensity; a number beyond a double; a string; an unknown mode; nothing; no time; twice a key.
    lambda text: _with(text, '"powerProductionTotal": 2147220000, "carbonIntensity": 2147220000'),
    lambda text: _with(text, '"more": -1e400'),
    lambda text: _with(text, '"powerImportTotal": "5", "carbonIntensity": "5"'),
    lambda text: _with(text, '"powerProductionBreakdown": {"fusion": 1}, "isEstimated": "no"'),
    lambda _: "null",
    lambda text: _with(text, '"datetime": "yesterday"'),
    lambda text: text[:-1] + ', "isEstimated": false}',
    lambda text: _with(text, '"zone": "BG"'),
    # As Python's own writer makes it of a number that it has not.
    lambda text: _with(text, '"powerImportTotal": NaN, "carbonIntensity": NaN'),
)


# Flaws that only records of the mix have; the others are those of FLAWS.
SIGNAL_FLAWS: tuple[Callable[[str], str], ...] = (
    lambda text: _with(text, '"mix": {"fusion": 1}'),
    lambda text: _with(text, '"mix": {"gas": 1, "hydro storage": 5}'),
    lambda text: _with(text, '"mix": {"gas": 1, "hydro storage": {"charge": -5}}'),
    lambda text: _with(text, '"breakdownType": "production"'),
    lambda text: _with(text, '"updatedAt": null'),
)


def _with(text: str, members: str) -> str:
    """A record with other values; a key that it has is taken out first."""
    old, new = json.loads(text), json.loads(f"{{{members}}}")
    return json.dumps({name: old[name] for name in old if name not in new})[:-1] + f", {members}}}"


class KilledError(Exception):
    """The process died here: what was committed is committed, nothing else was."""


class Provider:
    """Answers like the API for GR; every perturbation is a field that a test changes."""

    def __init__(self) -> None:
        self.now = BASE + 30 * HOUR
        self.opinions: dict[tuple[str, datetime], int] = {}
        self.missing: set[tuple[str, datetime]] = set()
        self.gone_neighbours: set[str] = set()
        self.null_modes: set[str] = set()
        self.repeats: set[datetime] = set()
        # Which record comes with which flaw; the number of one of FLAWS.
        self.flaws: dict[tuple[str, datetime], int] = {}
        self.backwards = False
        self.long_numbers = False
        self.down: dict[str, int] = {}
        self.clock_error = timedelta(0)

    @property
    def told_time(self) -> datetime:
        """What the pipeline's machine takes for the present."""
        return self.now + self.clock_error

    def history(self, feed: Feed, zone: str) -> AcceptedResponse:
        running = floor_hour(self.now)
        return self._answer(feed, zone, "history", "history", Window(running - 23 * HOUR, running + HOUR))

    def past_range(self, feed: Feed, zone: str, window: Window) -> AcceptedResponse:
        until = min(window.end, floor_hour(self.now) + HOUR)
        return self._answer(feed, zone, "past-range", "data", Window(window.start, until))

    def _answer(self, feed: Feed, zone: str, endpoint: str, key: str, window: Window) -> AcceptedResponse:
        if self.down.get(feed.name):
            self.down[feed.name] -= 1
            raise ProviderUnavailableError(f"{feed.endpoint} of zone {zone}, {window}: down")
        hours = [h for h in window.hours() if (feed.name, h) not in self.missing and h <= self.now]
        hours += [hour for hour in hours if hour in self.repeats]
        rows = [self._record(feed, hour, again=place >= len(set(hours))) for place, hour in enumerate(hours)]
        if self.backwards:
            rows.reverse()
        texts = ", ".join(self._written(feed, row) for row in rows)
        text = f'{{"zone": "{zone}", "{key}": [{texts}]}}'
        reach = Reach(window.start - 24 * HOUR, window.end + 24 * HOUR, "outside", (window.start, window.end))
        version = "v4" if feed in MIX_SIGNALS else "v3"
        # As the client asks: bodies of one signal are told from those of another by their request.
        asked = f"?breakdownType={feed.breakdown}" if feed.breakdown else ""
        request = f"/{version}/{feed.endpoint}/{endpoint}{asked}"
        response = RawResponse(feed, zone, endpoint, request, text, self.told_time)
        return admit(response, reach if endpoint == "past-range" else None)

    def _written(self, feed: Feed, row: dict[str, Any]) -> str:
        """A record as it stands in a body, which Python could not write for some flaws."""
        text = json.dumps(row)
        flaw = self.flaws.get((feed.name, datetime.fromisoformat(row["datetime"].replace("Z", "+00:00"))))
        known = (*SIGNAL_FLAWS, *FLAWS) if feed in (MIX, TRACED_MIX) else FLAWS
        return text if flaw is None else known[flaw % len(known)](text)

    def _record(self, feed: Feed, hour: datetime, *, again: bool) -> dict[str, Any]:
        if feed in MIX_SIGNALS:
            return self._signal(feed, hour, again=again)
        opinion = self.opinions.get((feed.name, hour), 0) + 1000 * again

        def number(name: str) -> float | None:
            draw = int(hashlib.md5(f"{feed.name}{hour}{opinion}{name}".encode()).hexdigest()[:8], 16)
            if draw % 23 == 0:
                return None
            value = [0, draw % 9000, (draw % 90_000) / 10, (draw % 10**7) / 1000][draw % 4]
            # As a sum or a product of doubles is written: 16 or 17 digits.
            return value * 1.1 if self.long_numbers and draw % 3 else value

        stamps: dict[str, Any] = {"isEstimated": [True, False, None][opinion % 3]}
        if opinion % 4:
            # Some opinions share their time of update, and some have none.
            stamps["updatedAt"] = iso(hour + (opinion // 2 % 5) * HOUR)
        if feed == CARBON:
            return record(hour, zone="GR", carbonIntensity=number("ci"), emissionFactorType="lifecycle", **stamps)
        flows = {n: number(f"import{n}") for n in ("AL", "BG", "IT-SO", "NEW") if n not in self.gone_neighbours}
        return record(
            hour,
            powerProductionBreakdown={m: None if m in self.null_modes else number(m) for m in MODE_KEYS[3:]},
            powerConsumptionBreakdown={m: number(f"c{m}") for m in MODE_KEYS[:5]},
            powerImportBreakdown=flows if len(flows) > 1 else None,
            powerExportBreakdown={n: mw for n, mw in flows.items() if mw},
            powerProductionTotal=number("total"),
            powerConsumptionTotal=number("load"),
            powerImportTotal=number("import"),
            **stamps,
        )

    def _signal(self, feed: Feed, hour: datetime, *, again: bool) -> dict[str, Any]:
        """A row of a signal of v4. A signal may be ahead of the others, which show the power feed's opinion."""
        opinion = self.opinions.get((feed.name, hour), self.opinions.get(("power", hour), 0)) + 1000 * again

        def number(name: str) -> float | None:
            draw = int(hashlib.md5(f"{hour}{opinion}{name}".encode()).hexdigest()[:8], 16)
            if draw % 19 == 0:
                return None
            value = [0, draw % 9000, (draw % 90_000) / 100, (draw % 10**6) / 100][draw % 4]
            return value * 1.1 if self.long_numbers and draw % 3 else value

        # Several opinions share a version; what a signal says of it may change without its time of update.
        row = record(hour, updatedAt=iso(hour + (opinion // 2 % 4) * HOUR))
        if feed == FLOWS:
            maps = {n: number(f"import{n}") for n in ("AL", "BG", "IT-SO", "NEW") if n not in self.gone_neighbours}
            return {**row, "import": maps, "export": {n: mw for n, mw in maps.items() if mw}}
        if feed in (MIX, TRACED_MIX):
            row |= {"isEstimated": True, "estimationMethod": "ESTIMATED_X"} if opinion % 2 else {}
            mix: dict[str, Any] = {
                m: None if m in self.null_modes else number(f"{feed.name}{m}") for m in MODE_KEYS[2:10]
            }
            for key in STORAGE_KEYS:
                mix[key] = {"discharge": number(f"{feed.name}{key}")}
                if feed == MIX:
                    mix[key]["charge"] = number(f"charge{key}")
            mix["flows"] = {"imports": number("imports"), "exports": number("exports")}
            row.setdefault("estimationMethod", "MEASURED")
            return {**row, "breakdownType": feed.breakdown, "mix": mix}
        # Equal in every hour: the bodies of both percentages then have one hash.
        return {**row, "createdAt": iso(hour - 72 * HOUR), "value": 50 if feed == CARBON_FREE else 50 + opinion % 2}


class _Listener:
    """A client of one run that remembers what it received; runs that race each other have one each."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.answers: list[AcceptedResponse] = []

    def history(self, feed: Feed, zone: str) -> AcceptedResponse:
        self.answers.append(self._provider.history(feed, zone))
        return self.answers[-1]

    def past_range(self, feed: Feed, zone: str, window: Window) -> AcceptedResponse:
        self.answers.append(self._provider.past_range(feed, zone, window))
        return self.answers[-1]


def stored_rows(folder: Path, table: Table) -> Rows:
    """The rows of silver or gold by key; a key that is there twice is an error."""
    rows: Rows = {}
    for row in DeltaTable(str(folder / table.layer / table.name)).to_pyarrow_table().to_pylist():
        key = row["zone"], row["datetime"]
        assert key not in rows, f"{key} twice in {table.qualified_name}"
        rows[key] = {name: dict(v) if name.endswith("_by_zone") and v is not None else v for name, v in row.items()}
    return rows


class World:
    """Provider, tables, the runs that failed, and what must be true of the tables."""

    def __init__(
        self, spark: SparkSession, folder: Path, kind: Callable[[SparkSession, Path], Lakehouse] = FolderLakehouse
    ) -> None:
        self.spark = spark
        self.folder = folder
        self.kind = kind
        self.provider = Provider()
        self.failed: list[Window] = []
        # Which signals the next runs ask for the power feed; a test may change it.
        self.road = "power-breakdown"
        feeds = (*FEEDS, *MIX_SIGNALS)
        self.told: dict[str, list[tuple[str, dict[str, Any], datetime, str]]] = {feed.name: [] for feed in feeds}
        lakehouse = kind(spark, folder)
        for table in (POWER_DATA, CARBON_DATA, REJECTED_RESPONSES, ENERGY_DATA, GOLD):
            lakehouse.create(table)

    def run(self, window: Window, *, before_commit: Callable[[Table, int], None] | None = None) -> None:
        """One run as Dagster makes it: a failed bronze feed keeps silver and gold from running.

        Args:
            window: its partitions.
            before_commit: called before every commit with the table and how many came before; it may raise.
        """
        lakehouse: Any = self.kind(self.spark, self.folder)
        _watch(lakehouse, before_commit)
        failures: list[object] = []
        try:
            for feeds, table in zip((power_feeds(self.road), (CARBON,)), bronze_tables(self.road), strict=True):
                now = self.provider.told_time
                client: Any = _Listener(self.provider)
                lakehouse.create(table)
                outcomes = fetch(client, feeds, ("GR",), window, now)
                heard = client.answers
                try:
                    failures += bronze_module.ingest(lakehouse, table, outcomes)[1]
                except KilledError:
                    # Batches that were committed before count.
                    heard = heard[: lakehouse.responses[table.name]]
                    raise
                finally:
                    for a in heard:
                        self.told[a.feed.name].append((a.zone, json.loads(a.body), a.received_at, a.body))
            if not failures:
                silver_module.merge_silver(lakehouse, silver_window(window))
                gold_module.merge_gold(lakehouse, ("GR",), gold_window(window))
        except KilledError:
            failures = ["killed"]
        self.failed = [other for other in self.failed if other != window] + [window] * bool(failures)

    def versions(self) -> dict[str, int | None]:
        lakehouse = self.kind(self.spark, self.folder)
        return {table.name: lakehouse.version(table) for table in (POWER_DATA, CARBON_DATA, ENERGY_DATA, GOLD)}

    def merged_versions(self) -> dict[str, int | None]:
        """Of silver and gold: fetching again may append to bronze again."""
        versions = self.versions()
        return {table.name: versions[table.name] for table in (ENERGY_DATA, GOLD)}

    def check(self) -> None:
        """Silver and gold are what the provider's answers say, bit for bit, wherever no failed run waits.

        Not what bronze says: an answer that bronze left out must not be missed.
        """
        carbon = latest_by_hand(self.told[CARBON.name])
        if any(self.told[signal.name] for signal in MIX_SIGNALS):
            mix = {signal.name: self.told[signal.name] for signal in MIX_SIGNALS}
            silver = silver_of_both_roads(self.told[POWER.name], carbon, mix)
        else:
            silver = silver_by_hand(latest_by_hand(self.told[POWER.name]), carbon)
        self._equal(ENERGY_DATA, silver, [silver_window(window) for window in self.failed])
        self._equal(GOLD, gold_by_hand(silver), [gold_window(window) for window in self.failed])

    def _equal(self, table: Table, expected: Rows, waiting: list[Window]) -> None:
        wrong = differences(stored_rows(self.folder, table), expected, lambda hour: any(hour in w for w in waiting))
        assert not wrong, f"{table.qualified_name}: {wrong[0]} (and {len(wrong) - 1} more)"

    def check_rebuild(self, folder: Path) -> None:
        """The tables equal those that the same code makes from bronze alone, all at once, in an empty place."""
        # What failed is run again when the provider is well, and an hour later, as a person would.
        self.provider.down.clear()
        self.provider.missing.clear()
        self.provider.flaws.clear()
        self.provider.clock_error = timedelta(0)
        self.provider.now += HOUR
        for window in list(self.failed):
            self.run(window)
        assert self.failed == []
        shutil.copytree(self.folder / "bronze", folder / "bronze")
        lakehouse = FolderLakehouse(self.spark, folder)
        everything = Window(BASE - 96 * HOUR, floor_hour(self.provider.now) + 96 * HOUR)
        silver_module.merge_silver(lakehouse, everything)
        gold_module.merge_gold(lakehouse, ("GR",), everything)
        for table in (ENERGY_DATA, GOLD):
            self._equal(table, stored_rows(folder, table), [])


def _watch(lakehouse: Any, before: Callable[[Table, int], None] | None) -> None:
    """Have this lakehouse tell of every commit before it is made; `responses` counts the rows appended to a table."""
    commits = 0
    append, insert, merge = lakehouse._append, lakehouse._insert, lakehouse._merge
    lakehouse.responses = Counter()

    def tell(table: Table) -> None:
        nonlocal commits
        if before:
            before(table, commits)
        commits += 1

    def told_append(table: Table, rows: pa.Table) -> None:
        tell(table)
        append(table, rows)
        lakehouse.responses[table.name] += rows.num_rows

    def told_insert(table: Table, months: list[str], rows: DataFrame, version: int) -> pa.Table:
        tell(table)
        return insert(table, months, rows, version)

    def told_merge(table: Table, months: list[str], rows: pa.Table, version: int, stored: pa.Table) -> None:
        tell(table)
        merge(table, months, rows, version, stored)

    lakehouse._append, lakehouse._insert, lakehouse._merge = told_append, told_insert, told_merge
