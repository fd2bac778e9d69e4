"""The recorded bodies of v4, byte for byte over HTTP, through the real assets by the long road.

DK-DK2 2026-08-22 20:00Z must equal the recorded power-breakdown of the same hour and version, FR its bodies hour by
hour, before and after the revision between its two recordings.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import pytest
from deltalake import DeltaTable

from emaps_dagster.contracts.errors import BadRequestError, NotInPlanError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.definitions import build_definitions
from emaps_dagster.electricity_maps.error_bodies import words_of
from emaps_dagster.electricity_maps.http_errors import error_for_status, is_passing

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "emaps_v4_fixtures"
pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recorded bodies are not beside this checkout")

HOUR = timedelta(hours=1)
PLAN = {
    "error": "Request unauthorized for zoneKey=FR,requestType=history,dataType=renewable-energy.",
    "message": "You do not have access to this specific endpoint for this specific zone.",
}
STORAGES = ("hydro", "battery")
# Signal with its breakdown type, as requested, to a body; a name is that of a recording.
Served = dict[str, "str | dict[str, Any]"]


def recording(name: str) -> Any:
    body: Any = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))
    return body


def time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@contextmanager
def serving(served: Served, asked: list[str]) -> Iterator[str]:
    """A server with these histories, and its address with the version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            signal, breakdown = parts.path.split("/")[2], parse_qs(parts.query).get("breakdownType", [""])[0]
            name = f"{signal} {breakdown}".strip()
            asked.append(name)
            body = served.get(name)
            if isinstance(body, str):
                content = (RECORDINGS / f"{body}.json").read_bytes()
            else:
                content = json.dumps(body or PLAN).encode()
            self.send_response(200 if body else 401)
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
            yield f"http://127.0.0.1:{server.server_address[1]}/v4"
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Run:
    """A run of the hourly job and the rows of silver after it, by hour."""

    result: dg.ExecuteInProcessResult
    asked: list[str]
    silver: dict[datetime, dict[str, Any]]
    bronze: list[dict[str, Any]]

    @property
    def failed_checks(self) -> list[tuple[str, str]]:
        events = [event for event in self.result.all_events if event.event_type_value == "ASSET_CHECK_EVALUATION"]
        found = [event.asset_check_evaluation_data for event in events]
        return sorted({(e.check_name, e.partition or "") for e in found if not e.passed})


def run(folder: Path, zone: str, now: datetime, served: Served) -> Run:
    """The hourly job over the hour before `now`, as the schedule starts it."""
    asked: list[str] = []
    hour = f"{now - HOUR:%Y-%m-%d-%H}:00"
    with serving(served, asked) as url, dg.DagsterInstance.ephemeral() as instance:
        settings = Settings(
            api_url=url,
            power_signal="electricity-mix",
            warehouse=folder,
            fixed_now=now,
            zones=(zone,),
            start=datetime(2026, 8, 1, tzinfo=timezone.utc),
            _env_file=None,
        )
        job = build_definitions(settings).resolve_job_def("hourly")
        result = job.execute_in_process(instance=instance, raise_on_error=False, tags={"dagster/partition": hour})
    rows = DeltaTable(str(folder / "silver" / "energy_data")).to_pyarrow_table().to_pylist()
    for row in rows:
        row |= {name: dict(row[name]) for name in ("import_by_zone", "export_by_zone") if row[name] is not None}
    bronze = DeltaTable(str(folder / "bronze" / "mix_data")).to_pyarrow_table().to_pylist()
    return Run(result, asked, {row["datetime"]: row for row in rows}, bronze)


def one_row_history(name: str) -> dict[str, Any]:
    """The recorded latest body as a history of one row; no history of a percentage was recorded."""
    row = recording(name)
    return {"zone": row["zone"], "history": [row], "temporalGranularity": "hourly"}


# --- DK-DK2 -------------------------------------------------------------------------------------------

DK = "DK-DK2_20260822T2003Z"
DK_HOUR = datetime(2026, 8, 22, 20, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def dk(tmp_path_factory: pytest.TempPathFactory) -> Run:
    served: Served = {
        "electricity-mix normal": f"electricity-mix_history_normal_{DK}",
        "electricity-mix flow-traced": f"electricity-mix_history_flow-traced_{DK}",
        "electricity-flows": f"electricity-flows_history_{DK}",
        "carbon-intensity": f"carbon-intensity_history_{DK}",
        "renewable-energy": one_row_history(f"renewable-energy_latest_{DK}"),
        "carbon-free-energy": one_row_history(f"carbon-free-energy_latest_{DK}"),
    }
    # The recorded last hour is complete an hour after the recording.
    return run(tmp_path_factory.mktemp("dk"), "DK-DK2", DK_HOUR + timedelta(minutes=63), served)


def test_six_requests_a_zone_and_each_body_byte_for_byte_in_bronze(dk: Run) -> None:
    assert dk.result.success
    assert sorted(dk.asked) == [
        "carbon-free-energy",
        "carbon-intensity",
        "electricity-flows",
        "electricity-mix flow-traced",
        "electricity-mix normal",
        "renewable-energy",
    ]
    stored = {row["signal"]: row for row in dk.bronze}
    names = {
        "mix": f"electricity-mix_history_normal_{DK}",
        "traced_mix": f"electricity-mix_history_flow-traced_{DK}",
        "flows": f"electricity-flows_history_{DK}",
    }
    for signal, name in names.items():
        assert stored[signal]["raw_json"].encode() == (RECORDINGS / f"{name}.json").read_bytes()
        assert stored[signal]["trusted_json"] is None
    assert stored["traced_mix"]["source"] == "electricitymaps/v4/electricity-mix/history"
    assert stored["traced_mix"]["request"] == "/v4/electricity-mix/history?zone=DK-DK2&breakdownType=flow-traced"
    assert sorted(stored) == ["carbon_free", "flows", "mix", "renewable", "traced_mix"]


def test_the_long_road_equals_the_recorded_power_breakdown_of_the_same_hour_and_version(dk: Run) -> None:
    power = recording(f"power-breakdown_latest_{DK}")
    row = dk.silver[DK_HOUR]
    assert time(power["datetime"]) == DK_HOUR
    differences = []
    for side in ("production", "consumption"):
        for mode, whole in power[f"power{side.title()}Breakdown"].items():
            value = row[f"{side}_{mode.replace(' ', '_')}"]
            # A null of v3 is a null here; a number rounds to it.
            if (value is None) != (whole is None) or (whole is not None and round(value) != whole):
                differences.append((side, mode, value, whole))
    assert differences == []
    for what in ("production", "consumption", "import", "export"):
        assert round(row[f"{what}_total"]) == power[f"power{what.title()}Total"]
    exact = {
        "import_by_zone": power["powerImportBreakdown"],
        "export_by_zone": power["powerExportBreakdown"],
        "fossil_free_percentage": power["fossilFreePercentage"],
        "renewable_percentage": power["renewablePercentage"],
        "is_estimated_power": power["isEstimated"],
        "estimation_method_power": power["estimationMethod"],
        "updated_at_power": time(power["updatedAt"]),
        "created_at_power": time(power["createdAt"]),
        "source_power": "electricitymaps/v4/electricity-mix",
        "is_superseded_power": False,
    }
    assert {name: row[name] for name in exact} == exact
    # The decimals are kept, and the sums have no more of them than their parts.
    assert (row["production_total"], row["consumption_total"]) == (1163.6, 1393.63)
    assert row["consumption_hydro_discharge"] == 1.69


def test_every_hour_of_the_mix_is_in_silver_with_percentages_null_where_no_body_came(dk: Run) -> None:
    mix = recording(f"electricity-mix_history_normal_{DK}")["history"]
    assert sorted(dk.silver) == [time(row["datetime"]) for row in mix]
    for row in mix[:-1]:
        hour = dk.silver[time(row["datetime"])]
        assert (hour["renewable_percentage"], hour["fossil_free_percentage"], hour["created_at_power"]) == (None,) * 3
        assert hour["production_wind"] == row["mix"]["wind"]
        assert hour["production_hydro_discharge"] is None
        assert hour["is_estimated_power"] is row.get("isEstimated", False)


def test_flow_maps_that_disagree_with_the_totals_are_flagged_and_not_repaired(dk: Run) -> None:
    # All hours of DK-DK2: the maps have the directions of two neighbours exchanged.
    assert ("parts_sum_to_total", "2026-08-22-20:00") in dk.failed_checks
    assert dk.silver[DK_HOUR]["import_by_zone"] == {"DE": 665.0, "SE-SE4": 421.0}
    assert dk.silver[DK_HOUR]["import_total"] == 895.0
    blocking = {"silver_equals_bronze", "latest_ingestion_wins", "raw_json_parses", "rolling_avg_24h_is_the_mean"}
    assert not blocking & {name for name, _ in dk.failed_checks}


# --- FR -----------------------------------------------------------------------------------------------


def fr(recorded_at: str) -> Served:
    """The bodies recorded at a time; flow-traced and carbon-intensity were not recorded and are made of the same hours.

    A percentage is not served: as with the trial key of the recording.
    """
    mix = recording(f"electricity-mix_history_normal_FR_{recorded_at}")

    def traced(row: dict[str, Any]) -> dict[str, Any]:
        modes = {key: value or 0 for key, value in row["mix"].items() if not isinstance(value, dict)}
        storages = {
            key: {"discharge": row["mix"][key]["discharge"] or 0} for key in ("hydro storage", "battery storage")
        }
        # As the API may add for other zones.
        added = {"tidal": 0, "heat storage": {"discharge": 0}}
        return {**row, "breakdownType": "flow-traced", "mix": {**modes, **storages, **added}}

    def carbon(row: dict[str, Any]) -> dict[str, Any]:
        times = {name: row[name] for name in ("datetime", "updatedAt")}
        return {"zone": "FR", "carbonIntensity": 30, **times, "emissionFactorType": "lifecycle"}

    return {
        "electricity-mix normal": f"electricity-mix_history_normal_FR_{recorded_at}",
        "electricity-flows": f"electricity-flows_history_FR_{recorded_at}",
        "electricity-mix flow-traced": {**mix, "history": [traced(row) for row in mix["history"]]},
        "carbon-intensity": {"zone": "FR", "history": [carbon(row) for row in mix["history"]]},
    }


def hours_of(recorded_at: str) -> Iterator[tuple[datetime, dict[str, Any], dict[str, Any]]]:
    """Hour, mix row and flows row of each recorded hour."""
    mix, flows = (
        recording(f"{signal}_FR_{recorded_at}")["history"]
        for signal in ("electricity-mix_history_normal", "electricity-flows_history")
    )
    for of_mix, of_flows in zip(mix, flows, strict=True):
        assert (of_mix["datetime"], of_mix["updatedAt"]) == (of_flows["datetime"], of_flows["updatedAt"])
        yield time(of_mix["datetime"]), of_mix, of_flows


def expected(mix: dict[str, Any], flows: dict[str, Any]) -> dict[str, Any]:
    """The columns that the two bodies give, as a person reads them."""
    row: dict[str, Any] = {}
    positive = 0
    for key, value in mix["mix"].items():
        if key.endswith(" storage"):
            charge, discharge = value["charge"], value["discharge"]
            row["production_" + key.replace("storage", "discharge").replace(" ", "_")] = (
                discharge if discharge is not None else -charge if charge else None
            )
            positive += 100 * (discharge or 0)
        elif key != "flows":
            row[f"production_{key}"] = value
            positive += 100 * (value or 0)
    return {
        **row,
        "production_total": round(positive) / 100,
        "import_total": mix["mix"]["flows"]["imports"],
        "export_total": mix["mix"]["flows"]["exports"],
        "import_by_zone": flows["import"],
        "export_by_zone": flows["export"],
        "is_estimated_power": mix.get("isEstimated", False),
        "estimation_method_power": {"MEASURED": None}.get(
            mix["estimationMethod"], mix["estimationMethod"].removeprefix("ESTIMATED_")
        ),
        "updated_at_power": time(mix["updatedAt"]),
        "renewable_percentage": None,
    }


def differing(run: Run, recorded_at: str, over: Callable[[datetime], bool]) -> list[tuple[datetime, str, Any, Any]]:
    return [
        (hour, name, run.silver[hour][name], must)
        for hour, mix, flows in hours_of(recorded_at)
        if over(hour)
        for name, must in expected(mix, flows).items()
        if run.silver[hour][name] != must
    ]


def test_every_hour_of_france_equals_its_bodies_and_a_revised_one_is_taken_over(tmp_path: Path) -> None:
    first_at, second_at = (datetime(2026, 10, 3, *at, tzinfo=timezone.utc) for at in ((8, 26), (10, 4)))
    first = run(tmp_path, "FR", first_at, fr("20261003T0826Z"))
    assert first.result.success
    assert "silver_equals_bronze" not in dict(first.failed_checks)
    assert len(first.silver) == 23
    assert differing(first, "20261003T0826Z", lambda hour: hour + HOUR <= first_at) == []
    second = run(tmp_path, "FR", second_at, fr("20261003T1004Z"))
    assert differing(second, "20261003T1004Z", lambda hour: hour + HOUR <= second_at) == []
    # 06:00 kept its modes while its flows fell: carried forward before.
    six = datetime(2026, 10, 3, 6, tzinfo=timezone.utc)
    before, after = (one.silver[six] for one in (first, second))
    assert (before["export_by_zone"]["CH"], after["export_by_zone"]["CH"]) == (1946.0, 1103.0)
    assert (before["export_total"], after["export_total"]) == (6589.0, 5725.0)
    assert before["production_nuclear"] == after["production_nuclear"] == 31613.0
    assert (before["ingested_at_power"], after["ingested_at_power"]) == (first_at, second_at)
    # An hour that was not revised is known since the first run.
    assert second.silver[six - HOUR]["ingested_at_power"] == first_at
    # The plan lacks the percentages: a warning, and null columns.
    assert {"renewable-energy", "carbon-free-energy"} <= set(first.asked)
    assert {row["signal"] for row in second.bronze} == {"mix", "traced_mix", "flows"}


# --- errors -------------------------------------------------------------------------------------------


def test_recorded_refusals_are_of_the_plan_or_of_the_request_and_are_not_repeated() -> None:
    told = [error for error in recording("errors_v4") if error["body"] or error.get("text")]
    found = []
    for error in told:
        # Of some only the text was recorded: as the API's other errors, and as plain text.
        bodies = [json.dumps(error["body"] or {"error": error["text"]}), error.get("text") or ""]
        status = error["status"] if isinstance(error["status"], int) else 400
        for body in filter(None, bodies):
            words = words_of(body.encode())
            assert not is_passing(status, words), body
            found.append((status, type(error_for_status(status, "a request", words, words.text))))
    assert {(401, NotInPlanError), (400, BadRequestError)} == set(found)
    assert len(told) == 8
