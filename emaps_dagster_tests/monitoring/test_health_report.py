"""The health report: what it says of literal facts, and the asset on real tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pyspark.sql import SparkSession

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.defs.assets.health import health_asset
from emaps_dagster.defs.resources.deployments import resources
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.reports import Size
from emaps_dagster.monitoring.health_report import numbers, page, status
from emaps_dagster.transforms.health import DAY, HealthInputs, Quarantined, StoredResponse, health, revisions
from emaps_dagster.transforms.provider_health import VALUE_COLUMNS, reported_once
from emaps_dagster_tests.support.builders import as_rows, body, bronze, record, silver, utc

NOW = utc(2024, 5, 4, 12, 17)
LAST = utc(2024, 5, 4, 11)


def hour_of(hour: datetime, zone: str = "GR", **values: Any) -> dict[str, Any]:
    known = {f"ingested_at_{feed}": hour + HOUR for feed in ("power", "carbon")}
    # Values that are right, and change.
    right = {"production_gas": 900.0 + hour.hour, "production_wind": 300.0, "consumption_total": 1200.0 + hour.hour}
    right["production_total"] = right["consumption_total"]
    right |= {"carbon_intensity": 300.0, "emission_factor_type": "lifecycle"}
    flags = {"is_estimated_power": False, "is_estimated_carbon": None}
    return {**dict.fromkeys(VALUE_COLUMNS), "zone": zone, "datetime": hour, **flags, **known, **right, **values}


def answers(at: datetime = NOW, end: datetime = LAST + 2 * HOUR, zone: str = "GR") -> tuple[StoredResponse, ...]:
    return tuple(StoredResponse(feed, zone, at, end) for feed in ("power", "carbon"))


def facts(rows: list[dict[str, Any]], **changes: Any) -> HealthInputs:
    """Facts in which all is well, but for what a test changes."""
    in_gold = frozenset((row["zone"], row["datetime"]) for row in rows)
    well = {
        "now": NOW,
        "zones": ("GR",),
        "silver": tuple(rows),
        "gold_hours": in_gold,
        "answers": answers(),
        "rejected_at": (),
        "revised_at": (),
    }
    return HealthInputs(**{**well, **changes})


FIVE_HOURS = [hour_of(LAST - number * HOUR) for number in range(5)]


def test_all_is_well_when_each_zone_is_complete_up_to_the_hour_that_has_ended() -> None:
    report = health(facts(FIVE_HOURS))
    (zone,) = report.zones
    assert (zone.last_complete_hour, zone.hours_behind, zone.provider_lag_hours) == (LAST, 0, 0)
    assert (zone.gaps, zone.not_in_gold, zone.estimated_share_24h) == ((), (), 0.0)
    assert report.open_issues == ()
    assert status(report) == "**All is well.** Complete: GR to 2024-05-04 12:00 UTC."


def test_one_hour_behind_is_the_time_before_the_tick_and_needs_no_action() -> None:
    report = health(facts(FIVE_HOURS[1:]))
    assert report.zones[0].hours_behind == 1
    assert report.open_issues == ()


@pytest.mark.parametrize(
    ("changes", "open_issues"),
    [
        (
            {"silver": (), "gold_hours": frozenset(), "answers": ()},
            "GR: silver has no complete hour of the last 7 days. Materialize the last 24 hours of all layers; the "
            "run's error says what is wrong.",
        ),
        (
            {"silver": tuple(FIVE_HOURS[2:]), "answers": answers(NOW - 3 * HOUR)},
            "GR: 2 hours behind, and no answer has been stored for as long: see that the schedule hourly_tick is on "
            "and why its last runs failed. After a day a plan without past-range cannot get these hours any more.",
        ),
        (
            {"silver": tuple(FIVE_HOURS[2:]), "answers": answers(end=LAST - HOUR)},
            "GR: 2 hours behind, although it was requested: the provider is late. Wait; later ticks take the hours in.",
        ),
        (
            {"silver": (FIVE_HOURS[0], FIVE_HOURS[3], FIVE_HOURS[4])},
            "GR: 2 hours are missing or known from one feed only. Materialize all layers for "
            "`[2024-05-04-09:00...2024-05-04-10:00]`; if they stay missing, the provider has none.",
        ),
        (
            {"silver": (FIVE_HOURS[0], {**FIVE_HOURS[1], "ingested_at_carbon": None}, FIVE_HOURS[2])},
            "GR: 1 hour is missing or known from one feed only. Materialize all layers for `2024-05-04-10:00`; if they "
            "stay missing, the provider has none.",
        ),
        (
            {"gold_hours": frozenset(("GR", LAST - number * HOUR) for number in (0, 2, 3))},
            "GR: gold lacks 2 hours that silver holds. Materialize gold for `2024-05-04-07:00, 2024-05-04-10:00`.",
        ),
        (
            {"rejected_at": (NOW - HOUR, NOW - 2 * DAY)},
            "1 body was rejected in the last 24 hours: `reason` in bronze.rejected_responses says why. If silver has "
            "those hours, nothing is lost.",
        ),
        (
            {
                "quarantined": tuple(
                    Quarantined("GR", "power", LAST - n * HOUR, "gas of it is beyond 1e+09") for n in (3, 2)
                )
            },
            "GR: 2 hours wait for the provider, since the newest record is quarantined: "
            "`[2024-05-04-08:00...2024-05-04-09:00]`; the first of power: gas of it is beyond 1e+09. Runs request it "
            "again by themselves; report it to the provider if it stays so. bronze.rejected_records has the records.",
        ),
        (
            {"without_hour_at": (NOW - HOUR, NOW - 2 * DAY)},
            "1 record of which no hour can be read was quarantined in the last 24 hours: `reason` in "
            "bronze.rejected_records says why.",
        ),
        (
            {"answers": (*answers(), *answers(NOW + 23 * HOUR))},
            "GR: 2 responses say that they were received in the future, up to 2024-05-05 11:17 UTC, and win over right "
            "ones: the machine's clock was ahead. Set it, launch the job `withdraw` with `ingested_in_the_future: "
            "true`, then materialize the last 24 hours, all layers.",
        ),
    ],
    ids=[
        "nothing",
        "nobody asked",
        "provider late",
        "hole",
        "half an hour",
        "gold lacks",
        "rejected",
        "quarantined",
        "without an hour",
        "future",
    ],
)
def test_what_is_wrong_is_one_sentence_with_what_to_do(changes: dict[str, Any], open_issues: str) -> None:
    report = health(facts(FIVE_HOURS, **changes))
    assert report.open_issues == (open_issues,)
    assert status(report) == f"**1 to look at:**\n\n- {open_issues}"


NO_POWER = dict.fromkeys(("production_gas", "production_wind", "production_total", "consumption_total"))
HOURS = [hour_of(LAST - number * HOUR) for number in range(30)]
OTHERS = dict.fromkeys(("AL", "BG", "IT-SO", "TR"), 1.0)
IF_NULL = (
    "Materialize all layers for them; if they stay null, the provider has no values: rolling_count_* in gold shows how "
    "many each mean has."
)


@pytest.mark.parametrize(
    ("rows", "changes", "open_issues"),
    [
        (
            [hour_of(LAST - number * HOUR, **(NO_POWER if number < 26 else {})) for number in range(30)],
            {},
            "GR: every power value is null, in 26 hours (`[2024-05-03-10:00...2024-05-04-11:00]`). " + IF_NULL,
        ),
        (
            [*HOURS[:2], hour_of(LAST - 2 * HOUR, carbon_intensity=None)],
            {"reported_once": ({**HOURS[2], "carbon_intensity": 280.0},)},
            "GR: carbon_intensity is null, in 1 hour (`2024-05-04-09:00`); 1 of them had values before. " + IF_NULL,
        ),
        (
            [hour_of(LAST), hour_of(LAST - HOUR, production_wind=None), *HOURS[2:]],
            {"reported_once": tuple(HOURS[:3])},
            "GR: values of 1 hour (`2024-05-04-10:00`) were replaced by nulls: production_wind. bronze keeps the "
            "earlier responses; wait for the provider's revision.",
        ),
        (
            [hour_of(LAST, carbon_intensity=9999.0), hour_of(LAST - HOUR, carbon_intensity=1e5), *HOURS[2:]],
            {},
            "GR: 2 hours with values that cannot be (`[2024-05-04-10:00...2024-05-04-11:00]`), the first: "
            "carbon_intensity is 100000 gCO2eq/kWh, beyond 10.7 to 918 (hydro, lifecycle, electricitymaps-contrib "
            "config/zones/GR.yaml; hourly GR export of 2022, Electricity Maps). "
            "See the check values_are_plausible of silver for what to do.",
        ),
        (
            [hour_of(LAST - number * HOUR, production_gas=900.0) for number in range(106)],
            {},
            "GR: all 2 reported production modes have kept their values since 2024-04-30T02:00Z or earlier, for 106 "
            "hours. Leave these hours out of training and tell the provider; materialize all layers for them once it "
            "has corrected them.",
        ),
        (
            [
                hour_of(LAST - number * HOUR, import_by_zone={**OTHERS, name: 5.0}, import_total=9.0)
                for number, name in enumerate(["MK-N", "MK-N", "MK"])
            ],
            {},
            "GR: 2 hours with a flow of MK-N (`[2024-05-04-10:00...2024-05-04-11:00]`), and gold has no column for it: "
            "zones.py does not list it as a neighbour of GR; MK, which it lists, has no flow in these hours: perhaps "
            "renamed. Add it there, restart Dagster, and launch the job `rebuild` over all hours of gold.",
        ),
        (
            [hour_of(LAST, emission_factor_type="direct"), *HOURS[1:]],
            {},
            "GR: the 24-hour mean of carbon_intensity mixes direct and lifecycle in 1 hour (`2024-05-04-11:00`). Leave "
            "them out of training; gold's emission_factor_type has the type of each hour.",
        ),
    ],
    ids=["nulls", "replaced by nulls", "a mode replaced by null", "absurd", "stuck", "renamed", "two quantities"],
)
def test_what_the_provider_gets_wrong_is_one_sentence_a_zone_with_its_hours(
    rows: list[dict[str, Any]], changes: dict[str, Any], open_issues: str
) -> None:
    report = health(facts(rows, **changes))
    assert report.open_issues == (open_issues,)
    assert "All is well" not in status(report)
    # Another zone's hours say nothing of this one.
    beside = facts([hour_of(LAST, "BG"), *rows], **changes)
    assert health(replace(beside, zones=("BG",))).open_issues == ()


def test_what_any_ingestion_reported_is_read_from_bronze(spark: SparkSession) -> None:
    def power(gas: int | None, wind: int | None, hours: int = 2) -> str:
        modes = {"gas": gas, "wind": wind}
        return body(*(record(LAST - n * HOUR, powerProductionBreakdown=modes) for n in range(hours)))

    bodies = [(power(5, 7, 1), NOW), (power(None, 7), NOW + HOUR), (power(None, None), NOW + 2 * HOUR)]
    carbon = [(body(record(LAST, carbonIntensity=None)), NOW)]
    rows = as_rows(reported_once(bronze(spark, *bodies), bronze(spark, *carbon), LAST - HOUR, LAST + HOUR))
    names = ("production_gas", "production_wind", "production_oil", "carbon_intensity")
    assert [(row["datetime"], *(row[name] is not None for name in names)) for row in rows] == [
        (LAST - HOUR, False, True, False, False),
        (LAST, True, True, False, False),
    ]


def test_the_providers_lag_is_that_of_the_newest_answer_of_the_slower_feed() -> None:
    told = (
        # Both answers hold the running hour; the carbon feed's newest lacks two hours that had ended.
        StoredResponse("power", "GR", NOW, LAST + 2 * HOUR),
        StoredResponse("carbon", "GR", NOW - HOUR, LAST + HOUR),
        StoredResponse("carbon", "GR", NOW, LAST - HOUR),
        StoredResponse("carbon", "BG", NOW, LAST - 9 * HOUR),
    )
    assert health(facts(FIVE_HOURS, answers=told)).zones[0].provider_lag_hours == 2


def test_an_answer_about_last_month_says_nothing_of_the_providers_lag_or_of_whether_it_was_asked_lately() -> None:
    backfill = tuple(StoredResponse(feed, "GR", NOW, LAST - 30 * DAY, up_to_now=False) for feed in ("power", "carbon"))
    assert health(facts(FIVE_HOURS, answers=(*answers(), *backfill))).zones[0].provider_lag_hours == 0
    report = health(facts(FIVE_HOURS[3:], answers=(*answers(NOW - 4 * HOUR), *backfill)))
    assert "no answer has been stored for as long" in report.open_issues[0]
    # Its calls are counted nevertheless.
    assert sum(day.calls for day in report.days) == 4


def test_an_answer_of_the_future_does_not_hide_that_nothing_was_requested() -> None:
    report = health(facts(FIVE_HOURS[3:], answers=(*answers(NOW - 4 * HOUR), *answers(NOW + 23 * HOUR))))
    assert "no answer has been stored for as long" in report.open_issues[0]
    assert "received in the future" in report.open_issues[1]


def test_the_share_of_estimates_is_that_of_the_last_24_hours() -> None:
    rows = [hour_of(LAST), hour_of(LAST - HOUR, is_estimated_carbon=True), hour_of(LAST - 30 * HOUR)]
    assert health(facts(rows)).zones[0].estimated_share_24h == 0.5


def test_days_count_calls_rejections_and_revisions_in_utc() -> None:
    midnight = utc(2024, 5, 4)
    report = health(
        facts(
            FIVE_HOURS,
            answers=answers(midnight) + answers(midnight - timedelta(seconds=1)),
            rejected_at=(midnight - DAY,),
            revised_at=(midnight, NOW),
        )
    )
    days = [(day.day.day, day.calls, day.rejected, day.revisions) for day in report.days]
    assert days[:3] == [(4, 2, 0, 2), (3, 3, 1, 0), (2, 0, 0, 0)]
    assert len(days) == 7


def test_the_page_has_a_row_for_each_zone_day_and_table_and_the_numbers_are_plain() -> None:
    report = health(facts([*FIVE_HOURS, hour_of(LAST - 2 * HOUR, zone="BG")], zones=("GR", "BG", "MK")))
    sizes = {"bronze.power_data": Size(3, 2_500_000), "gold.ml_features": None}
    text = page(report, sizes)
    assert "| GR | 2024-05-04 12:00 | 0 | 0 h | 0% | 0 | 0 |" in text
    assert "| BG | 2024-05-04 10:00 | 2 |  | 0% | 0 | 0 |" in text
    assert "| MK | nothing in 7 days |  |  |  | 0 | 0 |" in text
    assert "| 2024-05-04 | 2 | 0 | 0 |" in text
    assert "| bronze.power_data | 3 | 2.5 |\n| gold.ml_features | does not exist | |" in text
    assert numbers(report, sizes) == {
        "open_issues": 2,
        "hours_behind": 2,
        "provider_lag_hours": 0,
        "estimated_share_24h": 0.0,
        "hours_missing_7d": 0,
        "calls_today": 2,
        "revisions_today": 0,
        "files": 3,
        "megabytes": 2.5,
    }


def test_the_page_lists_the_hours_that_wait_with_their_reasons() -> None:
    waiting = tuple(Quarantined("GR", "carbon", LAST - n * HOUR, "a|b") for n in range(101))
    report = health(facts(FIVE_HOURS, quarantined=waiting))
    text = page(report, {})
    assert "#### Quarantined records\n\n| zone | hour (UTC) | feed | reason |" in text
    assert "| GR | 2024-05-04 11:00 | carbon | a/b |" in text
    assert text.count("a/b") == 100
    assert "And 1 more." in text
    assert numbers(report, {})["hours_quarantined"] == 101


def test_many_needs_stay_short_enough_to_be_shown_in_place() -> None:
    zones = tuple(f"Z{number}" for number in range(30))
    told = status(health(facts([], zones=zones)))
    assert len(told) < 1000
    assert told.splitlines()[0] == "**30 to look at:**"
    assert told.splitlines()[-1].endswith("more: see `page`")


def test_an_hour_is_revised_once_for_each_new_content_of_a_feed(spark: SparkSession) -> None:
    def carbon(value: int, at: datetime) -> tuple[str, datetime]:
        return body(record(LAST, carbonIntensity=value), record(LAST - HOUR, carbonIntensity=1)), at

    seen = [NOW + number * HOUR for number in range(5)]
    bodies = [carbon(value, at) for value, at in zip((300, 300, 310, 300, 300), seen, strict=True)]
    empty = bronze(spark)
    rows = as_rows(revisions(empty, bronze(spark, *bodies), LAST - HOUR, LAST + HOUR))
    # Said again is nothing new; back to what it was is news.
    assert [(row["datetime"], row["ingested_at"]) for row in rows] == [(LAST, seen[2]), (LAST, seen[3])]


def _report(warehouse: Path, now: datetime) -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
    settings = Settings(warehouse=warehouse, fixed_now=now, _env_file=None)
    with dg.DagsterInstance.ephemeral() as instance:
        asset = health_asset(settings.zones)
        result = dg.materialize([asset], resources=resources(settings), instance=instance)
        (made,) = result.asset_materializations_for_node("health")
        (check,) = result.get_asset_check_evaluations()
    return {name: value.value for name, value in made.metadata.items()}, check


def test_the_asset_reads_the_tables_and_its_check_warns(spark: SparkSession, tmp_path: Path) -> None:
    lakehouse = FolderLakehouse(spark, tmp_path / "warehouse")
    metadata, check = _report(tmp_path / "warehouse", NOW)
    assert metadata["status"].startswith("**1 to look at:**\n\n- GR: silver has no complete hour")
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN

    for table in (POWER_DATA, CARBON_DATA):
        lakehouse.create(table)
        first = body(record(LAST, carbonIntensity=300), record(LAST - HOUR, carbonIntensity=200))
        again = body(record(LAST, carbonIntensity=310), record(LAST - HOUR, carbonIntensity=200))
        old = body(record(LAST - 9 * DAY, carbonIntensity=100), key="data")
        lakehouse.append(
            table, bronze(spark, (first, NOW - timedelta(minutes=9)), (again, NOW - timedelta(minutes=1)), (old, NOW))
        )
    lakehouse.create(ENERGY_DATA)
    lakehouse.append(ENERGY_DATA, silver(spark, [hour_of(LAST), hour_of(LAST - HOUR)]))
    metadata, check = _report(tmp_path / "warehouse", NOW)
    assert metadata["status"] == (
        "**1 to look at:**\n\n- GR: gold lacks 2 hours that silver holds. Materialize gold for "
        "`[2024-05-04-10:00...2024-05-04-11:00]`."
    )
    # The power body has no power in it: only carbon intensity was revised.
    assert (metadata["calls_today"], metadata["revisions_today"], metadata["hours_behind"]) == (6, 1, 0)
    assert metadata["files"] == 5
    # The answers about older hours do not make the provider late.
    assert metadata["provider_lag_hours"] == 0
    assert metadata["megabytes"] > 0
    assert "| gold.ml_features | does not exist | |" in metadata["page"]
