"""Responses withdrawn: bronze keeps them, no reader sees them, silver and gold are as if they had never come."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from emaps_dagster.cli import task as native_job
from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.errors import EmapsError, WithdrawalError
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, WITHDRAWN_RESPONSES, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.features import load_arrow
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.monitoring.stored_hours import missing
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.health import read_health_inputs
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster.pipeline.withdraw import (
    Selected,
    Selection,
    gold_without,
    select,
    selection_of,
    silver_without,
    withdraw,
)
from emaps_dagster_tests.support.builders import as_rows, body, bronze, record, utc

pytestmark = pytest.mark.both_engines
# Selecting and withdrawing run on both engines here, and what follows, the rebuild, in lakehouse/test_merge.
EMBEDDED = pytest.mark.embedded_alone(reason="its reads and writes run on both engines elsewhere")

GR = ("GR",)
GOLD = ml_features(GR)
# In the middle of a month: a rebuild of hours at its turn computes two.
H = utc(2024, 5, 15, 6)
HELD = Window(H, H + 3 * HOUR)
NOW = utc(2024, 5, 15, 9, 7)
AHEAD = NOW + 23 * HOUR


def carbon(value: float, *hours: datetime) -> str:
    return body(*(record(hour, carbonIntensity=value) for hour in hours))


RIGHT = carbon(300, *HELD.hours())
# An older answer, and the only one that holds the hour after.
WRONG = carbon(100, H, H + HOUR, H + 3 * HOUR)
SHA = hashlib.sha256(WRONG.encode()).hexdigest()


def answer(lakehouse: Lakehouse, spark: SparkSession) -> None:
    """Three hours whose last record is of the future."""
    for table in (POWER_DATA, CARBON_DATA):
        lakehouse.create(table)
    lakehouse.append(CARBON_DATA, bronze(spark, (RIGHT, NOW), (WRONG, AHEAD)))


def make(lakehouse: Lakehouse, spark: SparkSession) -> None:
    """Silver shows what the record of the future says."""
    answer(lakehouse, spark)
    merge_silver(lakehouse, HELD.widen(HOUR, HOUR))
    merge_gold(lakehouse, GR, HELD.widen(HOUR, HOUR))


@pytest.fixture
def held(begun_with: Any) -> Lakehouse:
    lakehouse: Lakehouse = begun_with(make)
    assert shown(lakehouse) == {H: 100.0, H + HOUR: 100.0, H + 2 * HOUR: 300.0, H + 3 * HOUR: 100.0}
    return lakehouse


def shown(lakehouse: Lakehouse, table: Any = ENERGY_DATA) -> dict[datetime, float]:
    return {
        r["datetime"]: r["carbon_intensity"] for r in as_rows(lakehouse.scan(table), "datetime", "carbon_intensity")
    }


def chosen(lakehouse: Lakehouse, now: datetime = NOW, **config: Any) -> Selected:
    return select(lakehouse, selection_of(**config), now)


def do(lakehouse: Lakehouse, now: datetime = NOW, *, dry_run: bool = False, **config: Any) -> tuple[int, int, int]:
    """Responses withdrawn, and rows of silver and gold that differed."""
    selected = chosen(lakehouse, now, **config)
    if not dry_run:
        withdraw(lakehouse, selected)
    silver = silver_without(lakehouse, selected, dry_run=dry_run)
    gold = gold_without(lakehouse, GR, selected, dry_run=dry_run)
    return selected.fresh.num_rows, silver.differences.total.differing, gold.differences.total.differing


AS_IF_IT_HAD_NEVER_COME = dict.fromkeys(HELD.hours(), 300.0)


@pytest.mark.jvm_long("what follows, the rebuild, runs there in lakehouse/test_merge.py")
def test_without_it_silver_and_gold_are_what_the_others_say_and_bronze_keeps_it(held: Lakehouse) -> None:
    before = held.scan(CARBON_DATA).count()
    # Two hours show the other record, and the one that only this response held is gone.
    assert do(held, ingested_in_the_future=True) == (1, 3, 4)
    assert shown(held) == shown(held, GOLD) == AS_IF_IT_HAD_NEVER_COME
    assert held.scan(CARBON_DATA).count() == before
    (row,) = as_rows(held.scan(WITHDRAWN_RESPONSES))
    assert {name: row[name] for name in ("bronze_table", "zone", "payload_sha256", "ingested_at", "window_end")} == {
        "bronze_table": "carbon_data",
        "zone": "GR",
        "payload_sha256": SHA,
        "ingested_at": AHEAD,
        "window_end": H + 4 * HOUR,
    }
    assert (row["reason"], row["withdrawn_at"]) == ("selected by ingested_in_the_future", NOW)


@EMBEDDED
def test_a_dry_run_counts_the_same_and_writes_nothing(held: Lakehouse) -> None:
    assert do(held, ingested_in_the_future=True, dry_run=True) == (1, 3, 4)
    assert held.version(WITHDRAWN_RESPONSES) is None
    assert shown(held)[H] == 100.0


@EMBEDDED
def test_a_launch_can_be_repeated_also_when_that_time_has_come(held: Lakehouse) -> None:
    do(held, ingested_in_the_future=True)
    versions = [held.version(table) for table in (WITHDRAWN_RESPONSES, ENERGY_DATA, GOLD)]
    for now in (NOW, AHEAD + timedelta(days=9)):
        assert do(held, now, ingested_in_the_future=True) == (0, 0, 0)
        assert do(held, now, payload_sha256=SHA) == (0, 0, 0)
    assert [held.version(table) for table in (WITHDRAWN_RESPONSES, ENERGY_DATA, GOLD)] == versions


@EMBEDDED
def test_a_launch_that_ended_before_the_rebuild_is_finished_by_the_next(held: Lakehouse) -> None:
    withdraw(held, chosen(held, payload_sha256=SHA))
    assert shown(held)[H] == 100.0
    assert do(held, payload_sha256=SHA) == (0, 3, 4)
    assert shown(held) == shown(held, GOLD) == AS_IF_IT_HAD_NEVER_COME


@EMBEDDED
def test_the_next_answer_of_these_hours_counts_and_a_later_same_body_does_too(
    held: Lakehouse, spark: SparkSession
) -> None:
    do(held, ingested_in_the_future=True)
    held.append(CARBON_DATA, bronze(spark, (WRONG, NOW + timedelta(minutes=60))))
    merge_silver(held, HELD.widen(HOUR, HOUR))
    assert shown(held)[H + HOUR] == 100.0, "withdrawn is the response, not what it says"


def test_responses_are_selected_by_body_time_zone_and_clock(begun_with: Any) -> None:
    answered = begun_with(answer)
    cases: list[tuple[dict[str, Any], int]] = [
        ({"payload_sha256": SHA}, 1),
        ({"payload_sha256": f"{SHA.upper()}, {hashlib.sha256(RIGHT.encode()).hexdigest()}"}, 2),
        ({"payload_sha256": SHA, "ingested_from": "2024-05-16T08:07:00Z"}, 1),
        ({"ingested_from": "2024-05-15T09:07:00Z", "ingested_until": "2024-05-15T09:07:01Z"}, 1),
        ({"ingested_from": "2024-05-15", "ingested_until": "2024-05-17", "zone": "GR"}, 2),
        ({"ingested_in_the_future": True, "zone": "GR"}, 1),
    ]
    assert [chosen(answered, **config).fresh.num_rows for config, _ in cases] == [responses for _, responses in cases]
    withdraw(answered, chosen(answered, payload_sha256=SHA))
    assert chosen(answered, ingested_in_the_future=True).fresh.num_rows == 0


@EMBEDDED
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "Nothing says which responses to withdraw: give payload_sha256"),
        ({"zone": "GR"}, "Nothing says which responses to withdraw"),
        ({"payload_sha256": "abc"}, "payload_sha256 is 'abc'; give all 64 hexadecimal digits"),
        ({"ingested_from": "2024-05-15"}, "both ingested_from and ingested_until are needed"),
        ({"ingested_from": "2024-05-16", "ingested_until": "2024-05-15"}, "is not before ingested_until"),
        ({"ingested_from": "yesterday", "ingested_until": "2024-05-15"}, "ingested_from is 'yesterday', not an ISO"),
        ({"ingested_from": "2024-05-15T06:00", "ingested_until": "2024-05-15"}, "has no time zone"),
        ({"payload_sha256": "0" * 64}, "No response of bronze matches payload_sha256 0000"),
        ({"ingested_in_the_future": True, "zone": "FR"}, "matches ingested_in_the_future, zone FR, so nothing was"),
    ],
)
def test_what_selects_nothing_or_everything_is_refused_with_a_sentence(
    held: Lakehouse, config: dict[str, Any], says: str
) -> None:
    with pytest.raises(EmapsError, match=says):
        chosen(held, **config)
    assert held.version(WITHDRAWN_RESPONSES) is None


@EMBEDDED
def test_without_any_bronze_there_is_nothing_to_withdraw(lakehouse: Lakehouse) -> None:
    with pytest.raises(WithdrawalError, match="No response of bronze matches ingested_in_the_future"):
        select(lakehouse, Selection((), in_the_future=True, since=None, until=None, zone=""), NOW)


@EMBEDDED
def test_a_response_stored_twice_is_withdrawn_once_and_leaves_both(held: Lakehouse, spark: SparkSession) -> None:
    held.append(CARBON_DATA, bronze(spark, (WRONG, AHEAD)))
    assert do(held, payload_sha256=SHA) == (1, 3, 4)
    assert shown(held) == AS_IF_IT_HAD_NEVER_COME


@EMBEDDED
def test_the_same_body_of_the_other_feed_or_zone_stays(held: Lakehouse, spark: SparkSession) -> None:
    held.append(POWER_DATA, bronze(spark, (WRONG, AHEAD)))
    held.append(CARBON_DATA, bronze(spark, (WRONG, AHEAD), zone="BG"))
    only = chosen(held, payload_sha256=SHA, zone="GR").fresh
    keys = only.filter(pa.compute.equal(only["bronze_table"], "carbon_data"))
    held.create(WITHDRAWN_RESPONSES)
    held.append(WITHDRAWN_RESPONSES, keys)
    read = {t.name: held.scan_responses(t, HELD, longest=LONGEST_BODY) for t in (POWER_DATA, CARBON_DATA)}
    found = [(name, row["zone"], row["payload_sha256"] == SHA) for name, rows in read.items() for row in rows.collect()]
    assert sorted(found) == [("carbon_data", "BG", True), ("carbon_data", "GR", False), ("power_data", "GR", True)]


@EMBEDDED
def test_hours_far_apart_are_made_again_apart(held: Lakehouse, spark: SparkSession) -> None:
    year = timedelta(days=365)
    held.append(CARBON_DATA, bronze(spark, (carbon(1, H + year), AHEAD + year)))
    found = chosen(held, ingested_in_the_future=True)
    assert [str(hours) for hours in found.hours] == [
        "[2024-05-15T06:00Z, 2024-05-15T10:00Z)",
        "[2025-05-15T06:00Z, 2025-05-15T07:00Z)",
    ]


@EMBEDDED
def test_the_health_report_does_not_count_it_any_more(held: Lakehouse) -> None:
    assert max(answer.ingested_at for answer in read_health_inputs(held, GR, NOW).answers) == AHEAD
    do(held, ingested_in_the_future=True)
    assert [answer.ingested_at for answer in read_health_inputs(held, GR, NOW).answers] == [NOW]


@pytest.mark.embedded_alone(reason="these readers use no engine, or their own")
def test_the_sensors_and_as_of_reads_do_not_see_it_either(held: Lakehouse, warehouse: Any) -> None:
    moment = AHEAD + HOUR
    asked = {"end": H + 4 * HOUR, "warehouse": warehouse, "columns": ["carbon_intensity"], "allow": "missing"}
    assert load_arrow("GR", H, as_of=moment, **asked)["carbon_intensity"].to_pylist() == [100.0, 100.0, 300.0, 100.0]
    watched = Window(H, H + 4 * HOUR)
    gone = held.scan(ENERGY_DATA).where("carbon_intensity < 0")
    assert gone.count() == 0
    do(held, ingested_in_the_future=True)
    assert load_arrow("GR", H, as_of=moment, **asked)["carbon_intensity"].to_pylist() == [300.0] * 3
    # Power was never there; of carbon the hour that only the withdrawn response held is to be asked for.
    assert missing(warehouse, GR, watched).not_fetched["GR"] >= {H + 3 * HOUR}
    assert H + 3 * HOUR not in missing(warehouse, GR, watched).not_merged


@pytest.mark.embedded_alone(reason="the command takes whatever lakehouse it is given")
def test_the_native_job_has_both_remedies(
    held: Lakehouse, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The command sets it itself; so it is gone again after the test.
    monkeypatch.setenv("EMAPS_DEPLOYMENT", "databricks")
    monkeypatch.setattr(native_job, "_lakehouse", lambda _settings: held)
    monkeypatch.setattr(native_job, "_clock", lambda _settings: lambda: NOW)
    native_job.main(["withdraw", "--ingested-in-the-future", "--dry-run"])
    assert "1 response would be withdrawn; nothing is written; they hold hours of [2024-05-15T06:00Z" in (
        capsys.readouterr().out
    )
    native_job.main(["withdraw", "--payload-sha256", SHA, "--reason", "the clock was ahead"])
    assert "silver.energy_data: 3 rows differ from the 3 that bronze gives (0 missing, 2 wrong, 1 surplus, 0" in (
        capsys.readouterr().out
    )
    assert as_rows(held.scan(WITHDRAWN_RESPONSES))[0]["reason"] == "the clock was ahead"
    assert shown(held) == shown(held, GOLD) == AS_IF_IT_HAD_NEVER_COME
    held.append(ENERGY_DATA, held.scan(ENERGY_DATA))
    native_job.main(["rebuild", "--start", "2024-05-15", "--end", "2024-05-16"])
    assert "silver.energy_data: 3 rows differ" in capsys.readouterr().out
    assert len(as_rows(held.scan(ENERGY_DATA))) == 3
    with pytest.raises(SystemExit, match=r"^emaps-task withdraw: Nothing says which responses to withdraw"):
        native_job.main(["withdraw"])
