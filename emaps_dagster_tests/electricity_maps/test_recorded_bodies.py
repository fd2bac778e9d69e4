"""A recorded day of Germany, byte for byte over HTTP, through the real assets by the `dagster` command.

Silver must hold every number of the recording, gold what pandas makes of them.
"""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from deltalake import DeltaTable

from emaps_dagster_tests.support.command_line import check_evaluations, run_hourly_job

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "emaps_v3_fixtures"
pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recorded bodies are not beside this checkout")

HISTORY = {
    "/v3/power-breakdown/history?zone=DE": "aioem_power_breakdown_history.json",
    "/v3/carbon-intensity/history?zone=DE": "aioem_carbon_intensity_history.json",
}
# The recording was made in the hour of its last row, which was not over.
NOW = datetime(2024, 3, 6, 19, 20, tzinfo=timezone.utc)
FIRST = datetime(2024, 3, 5, 20, tzinfo=timezone.utc)
COMPLETE = [FIRST + timedelta(hours=number) for number in range(23)]
NEIGHBOURS = ["AT", "BE", "CH", "CZ", "DK-DK1", "DK-DK2", "FR", "LU", "NL", "NO-NO2", "PL", "SE-SE4"]

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Recorded:
    """The run by the command line and what it left."""

    process: subprocess.CompletedProcess[bytes]
    asked: list[str]
    home: Path
    warehouse: Path

    def rows(self, table: str) -> Rows:
        rows = DeltaTable(str(self.warehouse / table)).to_pyarrow_table().to_pylist()
        return sorted(rows, key=lambda row: row["datetime"])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("recorded")
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            name = HISTORY.get(self.path)
            content = (RECORDINGS / name).read_bytes() if name else b'{"error":"not recorded"}'
            self.send_response(200 if name else 404)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing: the requests are in `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            process = run_hourly_job(
                folder / "home",
                "2024-03-06-18:00",
                zones="DE",
                fixed_now=NOW.isoformat(),
                start="2024-03-05",
                api_url=f"http://127.0.0.1:{server.server_address[1]}/v3",
                warehouse=folder / "warehouse",
            )
        finally:
            server.shutdown()
            thread.join()
    return Recorded(process, asked, folder / "home", folder / "warehouse")


def recording(feed: str) -> Rows:
    name = HISTORY[f"/v3/{feed}/history?zone=DE"]
    history = json.loads((RECORDINGS / name).read_text(encoding="utf-8"))["history"]
    return [row for row in history if time(row["datetime"]) in COMPLETE]


def time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def silver_of_the_recording() -> Rows:
    """What silver must hold, column by column, as a person reads the bodies."""
    rows = []
    for power, carbon in zip(recording("power-breakdown"), recording("carbon-intensity"), strict=True):
        assert power["datetime"] == carbon["datetime"]
        row = {
            "zone": "DE",
            "datetime": time(power["datetime"]),
            "year_month": "2024-03",
            "consumption_total": power["powerConsumptionTotal"],
            "production_total": power["powerProductionTotal"],
            "import_total": power["powerImportTotal"],
            "export_total": power["powerExportTotal"],
            "import_by_zone": power["powerImportBreakdown"],
            "export_by_zone": power["powerExportBreakdown"],
            "fossil_free_percentage": power["fossilFreePercentage"],
            "renewable_percentage": power["renewablePercentage"],
            "carbon_intensity": carbon["carbonIntensity"],
            "emission_factor_type": carbon["emissionFactorType"],
        }
        for mode, mw in power["powerProductionBreakdown"].items():
            row["production_" + mode.replace(" ", "_")] = mw
        for mode, mw in power["powerConsumptionBreakdown"].items():
            row["consumption_" + mode.replace(" ", "_")] = mw
        for feed, record in (("power", power), ("carbon", carbon)):
            row[f"is_estimated_{feed}"] = record["isEstimated"]
            row[f"estimation_method_{feed}"] = record["estimationMethod"]
            row[f"updated_at_{feed}"] = time(record["updatedAt"])
            row[f"created_at_{feed}"] = time(record["createdAt"])
            row[f"ingested_at_{feed}"] = NOW
        row |= {"source_power": "electricitymaps/v3/power-breakdown", "is_superseded_power": None}
        rows.append(row)
    return rows


def values_of_the_recording() -> pd.DataFrame:
    """Every key column of gold for DE, indexed by hour; NaN where the recording has null or no such neighbour."""
    rows = []
    for row in silver_of_the_recording():
        values = {name: value for name, value in row.items() if name.startswith(("production_", "consumption_"))}
        values |= {name: row[name] for name in ("import_total", "export_total", "carbon_intensity")}
        for way in ("import", "export"):
            values |= {f"{way}_{n.replace('-', '_')}": row[f"{way}_by_zone"].get(n) for n in NEIGHBOURS}
        rows.append(values)
    return pd.DataFrame(rows, index=pd.DatetimeIndex(COMPLETE), dtype="float64")


def test_the_command_succeeds_asking_once_for_each_feed(recorded: Recorded) -> None:
    assert recorded.process.returncode == 0, recorded.process.stderr.decode()
    assert sorted(recorded.asked) == sorted(HISTORY)


@pytest.mark.parametrize(("table", "feed"), [("power_data", "power-breakdown"), ("carbon_data", "carbon-intensity")])
def test_bronze_holds_the_body_byte_for_byte(recorded: Recorded, table: str, feed: str) -> None:
    rows = DeltaTable(str(recorded.warehouse / "bronze" / table)).to_pyarrow_table().to_pylist()
    sent = (RECORDINGS / HISTORY[f"/v3/{feed}/history?zone=DE"]).read_bytes()
    assert [row["raw_json"].encode() for row in rows] == [sent]


def test_silver_holds_the_23_hours_that_were_over(recorded: Recorded) -> None:
    assert [row["datetime"] for row in recorded.rows("silver/energy_data")] == COMPLETE


def test_every_number_null_map_flag_and_time_of_the_recording_is_in_silver(recorded: Recorded) -> None:
    expected = silver_of_the_recording()
    stored = recorded.rows("silver/energy_data")
    assert all(row.keys() == wanted.keys() for row, wanted in zip(stored, expected, strict=True))
    for row in stored:
        for way in ("import_by_zone", "export_by_zone"):
            row[way] = dict(row[way])
    # None equals neither 0 nor False.
    different = [
        (row["datetime"], name, row[name], value)
        for row, wanted in zip(stored, expected, strict=True)
        for name, value in wanted.items()
        if row[name] != value
    ]
    assert different == []


def test_the_recording_has_what_is_easily_lost(recorded: Recorded) -> None:
    silver = recorded.rows("silver/energy_data")
    # Storage that charges, modes that Germany does not report, and all twelve neighbours.
    assert min(row["production_hydro_discharge"] for row in silver) == -4073
    assert {row["production_nuclear"] for row in silver} == {None}
    assert {row["production_battery_discharge"] for row in silver} == {None}
    assert {row["consumption_battery_discharge"] for row in silver} == {0}
    assert sorted({name for row in silver for name, _ in row["import_by_zone"]}) == NEIGHBOURS
    assert {len(row["export_by_zone"]) for row in silver} == {9, 12}
    assert [row["is_estimated_power"] for row in silver].count(True) == 1


def test_lags_and_means_of_gold_equal_pandas(recorded: Recorded) -> None:
    values = values_of_the_recording()
    gold = pd.DataFrame(recorded.rows("gold/ml_features")).set_index("datetime")
    assert list(gold.index) == COMPLETE
    assert len(values.columns) == 24 + 4 + 1 + 24
    # A frame by time, not by row: shift(freq) and rolling("24h").
    lags = values.shift(freq="1h").reindex(values.index).add_prefix("lag_").add_suffix("_1h")
    means = values.rolling("24h").mean().add_prefix("rolling_avg_").add_suffix("_24h")
    counts = values.rolling("24h", min_periods=0).count().add_prefix("rolling_count_").add_suffix("_24h")
    expected = pd.concat([values, lags, means, counts], axis="columns")
    got = gold[list(expected.columns)].astype("float64")
    pd.testing.assert_frame_equal(got, expected, check_exact=True, check_names=False, check_freq=False)
    assert {name for name in gold.columns if name.startswith(("lag_", "rolling_"))} <= set(expected.columns)
    assert list(gold["hours_observed_24h"]) == list(range(1, 24))


def test_an_hour_of_gold_is_dated_in_utc_and_in_german_time(recorded: Recorded) -> None:
    evening = recorded.rows("gold/ml_features")[-1]
    names = ("hour", "day_of_week", "month", "local_hour", "local_day_of_week", "is_weekend", "is_holiday")
    # Wednesday the 6th of March 2024, 18:00 UTC.
    assert [evening[name] for name in names] == [18, 4, 3, 19, 4, False, False]


def test_every_check_passes_on_the_recording(recorded: Recorded) -> None:
    evaluations = check_evaluations(recorded.home)
    assert [(e.check_name, e.description) for e in evaluations if not e.passed] == []
    assert {e.asset_key.to_user_string() for e in evaluations} == {
        "bronze/power_data",
        "bronze/carbon_data",
        "silver/energy_data",
        "gold/ml_features",
    }
