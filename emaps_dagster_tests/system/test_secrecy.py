"""The token is nowhere: not in tables, not in Dagster's storage and logs, not on the screen, whatever goes wrong.

Runs are by the `dagster` command against a simulator that demands the token.
"""

from __future__ import annotations

import base64
import gzip
import sqlite3
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.support.command_line import run_hourly_job
from emaps_dagster_tests.support.secret_scanner import forms_in, traces

# Characters that encodings change.
TOKEN = 'a+token/that="must"&stay%secret<>?'
WRONG = 'another+token/that="nobody"&knows%<>?'
NOW = datetime(2024, 5, 4, 10, 7, tzinfo=timezone.utc)


def test_the_token_is_in_nothing_that_runs_write_whatever_goes_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "everything"
    screens = []
    codes = []
    statuses = []
    with Simulator(token=TOKEN, zones=("GR",), now=NOW) as sim:

        def run(token: str, *faults: Fault) -> None:
            for fault in faults:
                sim.inject(fault)
            process = run_hourly_job(
                folder / "home",
                "2024-05-04-09:00",
                # Whatever any library logs while a run lasts is stored, too.
                log_level="DEBUG",
                api_token=token,
                api_url=sim.url,
                fixed_now=NOW.isoformat(),
                start="2024-05-01",
                warehouse=folder / "warehouse",
            )
            screens.append(process.stdout + process.stderr)
            codes.append(process.returncode)
            statuses.append(sorted(request.status for request in sim.requests))
            sim.requests.clear()

        run(TOKEN, Fault("echo_token", feed="power-breakdown"), Fault("html", feed="carbon-intensity"))
        run(WRONG)
        # Each is tried again and succeeds: a retry is logged, too.
        run(TOKEN, Fault("server_error", feed="power-breakdown"), Fault("reset", feed="carbon-intensity"))
    # Every run went the way it was meant to, with the token that it was given.
    # A refused power-breakdown asks carbon-intensity once, whether it alone is withdrawn.
    assert statuses == [[200, 400], [401, 401, 401], [200, 200, 200, 503]]
    assert [code == 0 for code in codes] == [False, False, True]
    assert b"cannot use auth-token [token]" in screens[0]
    assert b"EMAPS_API_TOKEN" in screens[1]
    assert DeltaTable(str(folder / "warehouse/gold/ml_features")).to_pyarrow_table().num_rows == 23
    assert DeltaTable(str(folder / "warehouse/bronze/rejected_responses")).to_pyarrow_table().num_rows == 1

    # What is searched is all there: data, transactions, Dagster's databases and what the steps printed.
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds >= {".parquet", ".json", ".db", ".err", ".out"}
    for token in (TOKEN, WRONG):
        assert [forms_in(screen, token) for screen in screens] == [[], [], []]
        assert traces(folder, token) == []
    (folder / "home" / "planted.err").write_text(f"sending {TOKEN} now")
    assert ("home/planted.err", "plain") in traces(folder, TOKEN)


def _into_parquet(folder: Path, text: str) -> None:
    table = pa.table({"raw_json": [text]})
    pq.write_table(table, folder / "hiding", compression="gzip", write_statistics=False)


def _into_sqlite(folder: Path, text: str) -> None:
    # A value of this length lies on its table's page with 485 bytes, then on pages of its own: they cut the token.
    connection = sqlite3.connect(folder / "hiding")
    connection.execute("PRAGMA page_size = 4096")
    connection.execute("CREATE TABLE event_logs (event TEXT)")
    connection.execute("INSERT INTO event_logs VALUES (?)", (text.rjust(500, ".").ljust(12761, "."),))
    connection.commit()
    connection.close()


def _into_gzip(folder: Path, text: str) -> None:
    (folder / "hiding.gz").write_bytes(gzip.compress(text.encode()))


@pytest.mark.parametrize("plant", [_into_parquet, _into_sqlite, _into_gzip])
def test_the_search_finds_a_token_in_a_file_whose_bytes_hide_it(
    tmp_path: Path, plant: Callable[[Path, str], None]
) -> None:
    plant(tmp_path, f"a token is {TOKEN}")
    (hiding,) = tmp_path.iterdir()
    assert forms_in(hiding.read_bytes(), TOKEN) == []
    assert traces(tmp_path, TOKEN) == [(hiding.name, "plain")]
    assert traces(tmp_path, WRONG) == []


@pytest.mark.parametrize(
    "written",
    [
        TOKEN.encode(),
        quote(TOKEN, safe="").encode(),
        quote(TOKEN, safe="").lower().encode(),
        TOKEN.replace('"', '\\"').encode(),
        TOKEN.encode().hex().upper().encode(),
        base64.b64encode(f"{TOKEN}:".encode()),
        base64.b64encode(f"u:{TOKEN}".encode()),
        base64.urlsafe_b64encode(f"user {TOKEN} and more".encode()),
    ],
)
def test_the_search_knows_the_forms_in_which_a_token_is_written(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "some.log").write_bytes(b"auth: " + written + b"\n")
    assert [place for place, _ in traces(tmp_path, TOKEN)][:1] == ["some.log"]
    (tmp_path / "some.log").write_bytes(b"auth: " + written[:20] + b"\n")
    assert traces(tmp_path, TOKEN) == []
