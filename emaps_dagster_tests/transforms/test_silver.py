"""Bodies to silver rows: what is parsed, what stays null, which record of an hour wins, and since when."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from emaps_dagster.contracts.tables import ENERGY_DATA
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.silver import energy_data
from emaps_dagster_tests.support.builders import as_rows, body, bronze, iso, record, utc
from emaps_dagster_tests.support.reference_implementation import latest_by_hand

pytestmark = pytest.mark.both_engines

T = utc(2024, 5, 4, 6)
DAY = (utc(2024, 5, 4), utc(2024, 5, 5))
LATER = utc(2024, 5, 4, 12, 7)
MODES = (
    "nuclear",
    "geothermal",
    "biomass",
    "coal",
    "wind",
    "solar",
    "hydro",
    "gas",
    "oil",
    "unknown",
    "hydro discharge",
    "battery discharge",
)


def of(spark: SparkSession, *power: tuple[str, datetime], carbon: tuple[tuple[str, datetime], ...] = ()) -> list[dict]:
    return as_rows(energy_data(bronze(spark, *power), bronze(spark, *carbon), *DAY))


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_of_a_body_with_quarantined_records_the_others_are_read(spark: SparkSession) -> None:
    good = record(T, powerProductionTotal=7, powerProductionBreakdown={"coal": 7})
    raw = body(good, record(T + HOUR, powerProductionTotal="no number")).replace('"no number"', "1e400")
    rows = bronze(spark, (raw, LATER)).withColumn("trusted_json", F.lit(body(good)))
    (row,) = as_rows(energy_data(rows, bronze(spark), *DAY))
    assert (row["datetime"], row["production_total"], row["production_coal"]) == (T, 7.0, 7.0)
    nothing = bronze(spark, (raw, LATER)).withColumn("trusted_json", F.lit('{"zone":"GR","history":[]}'))
    assert as_rows(energy_data(nothing, bronze(spark), *DAY)) == []


def test_a_whole_record_of_both_feeds_becomes_one_row(spark: SparkSession) -> None:
    power = record(
        T,
        zone="GR",
        updatedAt="2024-05-04T08:48:27.926Z",
        createdAt="2024-05-01T07:46:59.534Z",
        powerConsumptionBreakdown={mode: 10 * place for place, mode in enumerate(MODES)},
        powerProductionBreakdown={
            **{mode: place for place, mode in enumerate(MODES)},
            "nuclear": None,
            "solar": 306.5,
            "hydro discharge": -1219,
        },
        powerImportBreakdown={"AL": 244, "IT-SO": 0, "XX-NEW": 3},
        powerExportBreakdown={"TR": 12.25},
        fossilFreePercentage=34,
        renewablePercentage=33,
        powerConsumptionTotal=660,
        powerProductionTotal=350,
        powerImportTotal=247,
        powerExportTotal=12,
        isEstimated=True,
        estimationMethod="TIME_SLICER_AVERAGE",
        somethingNew={"flowTraced": True},
    )
    carbon = record(
        T,
        zone="GR",
        carbonIntensity=599,
        updatedAt="2024-05-04T09:48:54.012Z",
        createdAt="2024-05-01T07:47:49.346Z",
        emissionFactorType="lifecycle",
        isEstimated=False,
        estimationMethod=None,
    )
    rows = of(spark, (body(power), LATER), carbon=((body(carbon), LATER + timedelta(seconds=1)),))
    assert rows == [
        {
            "zone": "GR",
            "datetime": T,
            "production_nuclear": None,
            "production_geothermal": 1.0,
            "production_biomass": 2.0,
            "production_coal": 3.0,
            "production_wind": 4.0,
            "production_solar": 306.5,
            "production_hydro": 6.0,
            "production_gas": 7.0,
            "production_oil": 8.0,
            "production_unknown": 9.0,
            "production_hydro_discharge": -1219.0,
            "production_battery_discharge": 11.0,
            "consumption_nuclear": 0.0,
            "consumption_geothermal": 10.0,
            "consumption_biomass": 20.0,
            "consumption_coal": 30.0,
            "consumption_wind": 40.0,
            "consumption_solar": 50.0,
            "consumption_hydro": 60.0,
            "consumption_gas": 70.0,
            "consumption_oil": 80.0,
            "consumption_unknown": 90.0,
            "consumption_hydro_discharge": 100.0,
            "consumption_battery_discharge": 110.0,
            "production_total": 350.0,
            "consumption_total": 660.0,
            "import_total": 247.0,
            "export_total": 12.0,
            "import_by_zone": {"AL": 244.0, "IT-SO": 0.0, "XX-NEW": 3.0},
            "export_by_zone": {"TR": 12.25},
            "fossil_free_percentage": 34.0,
            "renewable_percentage": 33.0,
            "carbon_intensity": 599.0,
            "emission_factor_type": "lifecycle",
            "is_estimated_power": True,
            "estimation_method_power": "TIME_SLICER_AVERAGE",
            "updated_at_power": datetime.fromisoformat("2024-05-04T08:48:27.926+00:00"),
            "created_at_power": datetime.fromisoformat("2024-05-01T07:46:59.534+00:00"),
            "source_power": "electricitymaps/v3/test",
            "is_superseded_power": None,
            "ingested_at_power": LATER,
            "is_estimated_carbon": False,
            "estimation_method_carbon": None,
            "updated_at_carbon": datetime.fromisoformat("2024-05-04T09:48:54.012+00:00"),
            "created_at_carbon": datetime.fromisoformat("2024-05-01T07:47:49.346+00:00"),
            "ingested_at_carbon": LATER + timedelta(seconds=1),
            "year_month": "2024-05",
        }
    ]
    assert list(rows[0]) == ENERGY_DATA.column_names


def test_zero_null_and_absent_are_not_confused_in_a_mode(spark: SparkSession) -> None:
    cases = [
        ({"wind": 0}, 0.0),
        ({"wind": None}, None),
        ({}, None),
        (None, None),
        ({"wind": -0.5}, -0.5),
        ({"wind": 1e9}, 1e9),
        ({"wind": -0.0}, 0.0),
    ]
    records = [
        record(DAY[0] + number * HOUR, powerProductionBreakdown=production, powerProductionTotal=5)
        for number, (production, _) in enumerate(cases)
    ]
    rows = of(spark, (body(*records), LATER))
    # By repr: -0.0 would differ from engine to engine.
    assert [repr(row["production_wind"]) for row in rows] == [repr(value) for _, value in cases]
    assert {(row["production_coal"], row["production_total"]) for row in rows} == {(None, 5.0)}


def test_minus_zero_is_zero_in_a_map_too(spark: SparkSession) -> None:
    (row,) = of(spark, (body(record(T, powerImportBreakdown={"AL": -0.0})), LATER))
    assert repr(row["import_by_zone"]["AL"]) == "0.0"


def test_flows_keep_every_neighbour_null_zero_and_emptiness(spark: SparkSession) -> None:
    cases: list[Any] = [{"AL": 0.0}, {"AL": None}, {"AL": 1.5, "BG": 2.0}, {}, None]
    records = [
        record(DAY[0] + number * HOUR, powerImportBreakdown=flows, powerExportTotal=1)
        for number, flows in enumerate(cases)
    ]
    rows = of(spark, (body(*records), LATER))
    assert [row["import_by_zone"] for row in rows] == cases
    assert [row["export_by_zone"] for row in rows] == [None] * len(cases)


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_an_hour_of_one_feed_alone_is_kept(spark: SparkSession) -> None:
    rows = of(
        spark,
        (body(record(T, powerProductionTotal=1), record(T + HOUR, powerProductionTotal=2)), LATER),
        carbon=((body(record(T + HOUR, carbonIntensity=300), record(T + 2 * HOUR, carbonIntensity=400)), LATER),),
    )
    seen = [(row["datetime"], row["production_total"], row["carbon_intensity"]) for row in rows]
    assert seen == [(T, 1.0, None), (T + HOUR, 2.0, 300.0), (T + 2 * HOUR, None, 400.0)]
    assert rows[0]["ingested_at_carbon"] is None
    assert rows[2]["ingested_at_power"] is None


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_history_and_data_are_the_same_rows_under_another_name(spark: SparkSession) -> None:
    one = of(spark, (body(record(T, powerProductionTotal=1), key="history"), LATER))
    other = of(spark, (body(record(T, powerProductionTotal=1), key="data"), LATER))
    assert one == other
    assert len(one) == 1


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_only_hours_of_the_half_open_window_are_computed(spark: SparkSession) -> None:
    hours = [DAY[0] - HOUR, DAY[0], DAY[1] - HOUR, DAY[1]]
    rows = of(spark, (body(*(record(hour, powerProductionTotal=1) for hour in hours)), DAY[1] + 9 * HOUR))
    assert [row["datetime"] for row in rows] == hours[1:3]


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_an_hour_that_was_still_running_is_not_taken(spark: SparkSession) -> None:
    minutes = {T: -1, T + HOUR: 0, T + 2 * HOUR: 7}
    responses = [
        (body(record(hour, powerProductionTotal=1)), hour + HOUR + timedelta(minutes=after))
        for hour, after in minutes.items()
    ]
    assert [row["datetime"] for row in of(spark, *responses)] == [T + HOUR, T + 2 * HOUR]


def test_the_running_hour_is_taken_from_a_later_reading(spark: SparkSession) -> None:
    text = body(record(T, powerProductionTotal=1))
    (row,) = of(spark, (text, T + timedelta(minutes=30)), (text, T + 90 * timedelta(minutes=1)))
    assert row["ingested_at_power"] == T + timedelta(minutes=90)


def test_every_day_has_24_utc_hours_also_when_clocks_change(spark: SparkSession) -> None:
    days = [utc(2024, 2, 29), utc(2024, 3, 31), utc(2024, 10, 27), utc(2024, 12, 31)]
    hours = [day + number * HOUR for day in days for number in range(24)]
    texts = [
        body(*(record(hour, powerProductionTotal=hour.hour) for hour in hours if hour.date() == day.date()))
        for day in days
    ]
    bodies = [(text, day + 30 * HOUR) for text, day in zip(texts, days, strict=True)]
    rows = as_rows(energy_data(bronze(spark, *bodies), bronze(spark), days[0], days[-1] + 24 * HOUR))
    assert [(row["datetime"], row["production_total"]) for row in rows] == [(hour, float(hour.hour)) for hour in hours]


def total(value: float | None, **more: Any) -> str:
    return body(record(T, powerProductionTotal=value, **more))


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_the_latest_ingestion_wins_even_with_an_older_update_time(spark: SparkSession) -> None:
    (row,) = of(
        spark,
        (total(1, updatedAt=iso(T + 5 * HOUR)), LATER),
        (total(2, updatedAt=iso(T + 2 * HOUR)), LATER + HOUR),
    )
    assert (row["production_total"], row["ingested_at_power"]) == (2.0, LATER + HOUR)


def test_a_tie_goes_to_the_providers_later_update_and_null_is_earliest(spark: SparkSession) -> None:
    (row,) = of(
        spark,
        (total(1, updatedAt=iso(T + 2 * HOUR)), LATER),
        (total(2, updatedAt=iso(T + 3 * HOUR)), LATER),
        (total(3), LATER),
    )
    assert row["production_total"] == 2.0


def test_a_full_tie_goes_to_the_greatest_payload_hash_whatever_the_order(spark: SparkSession) -> None:
    one, two = (total(1), LATER), (total(2), LATER)
    assert of(spark, one, two) == of(spark, two, one)


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_of_two_records_in_one_body_the_last_wins(spark: SparkSession) -> None:
    (row,) = of(spark, (body(record(T, powerProductionTotal=1), record(T, powerProductionTotal=2)), LATER))
    assert row["production_total"] == 2.0


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_a_body_with_an_hour_twice_read_again_reports_nothing_new(spark: SparkSession) -> None:
    text = body(
        record(T, powerProductionTotal=1, updatedAt=iso(T + HOUR)),
        record(T, powerProductionTotal=2, updatedAt=iso(T + 2 * HOUR)),
    )
    (row,) = of(spark, (text, LATER), (text, LATER + HOUR))
    assert (row["production_total"], row["ingested_at_power"]) == (2.0, LATER)


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_a_missing_value_read_later_is_a_change_too(spark: SparkSession) -> None:
    (row,) = of(spark, (total(1), LATER), (total(None), LATER + HOUR))
    assert (row["production_total"], row["ingested_at_power"]) == (None, LATER + HOUR)


@pytest.mark.jvm_long("test_engines_agree.py compares random histories of both engines")
def test_the_same_content_read_again_keeps_its_first_time(spark: SparkSession) -> None:
    # What was read of an hour, one letter a content, and which reading it is known since.
    cases = {"AAA": 0, "ABB": 1, "ABA": 2, "ABAA": 2, "AABBB": 2, "A": 0, "ABCABC": 5}
    hours = {DAY[0] + number * HOUR: contents for number, contents in enumerate(cases)}

    def reading(place: int) -> str:
        told = {hour: contents[place] for hour, contents in hours.items() if place < len(contents)}
        return body(*(record(hour, powerProductionTotal=ord(letter)) for hour, letter in told.items()))

    rows = of(spark, *((reading(place), LATER + place * HOUR) for place in range(max(map(len, cases)))))
    assert {row["datetime"]: (row["production_total"], row["ingested_at_power"]) for row in rows} == {
        hour: (float(ord(contents[-1])), LATER + cases[contents] * HOUR) for hour, contents in hours.items()
    }


def test_content_is_compared_map_by_map_whatever_the_order_of_keys(spark: SparkSession) -> None:
    one = total(1, powerImportBreakdown={"AL": 1, "BG": 2})
    other = total(1, powerImportBreakdown={"BG": 2, "AL": 1})
    (row,) = of(spark, (one, LATER), (other, LATER + HOUR))
    assert row["ingested_at_power"] == LATER


VALUES = st.sampled_from([None, 0, 1, 2.5])
READINGS = st.lists(
    st.tuples(
        st.integers(0, 3),  # ingested so many half hours after the end of the first hour
        st.lists(st.tuples(st.integers(0, 2), VALUES, st.sampled_from([None, 1, 2])), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.embedded_alone("its many examples take minutes on the JVM")
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(READINGS, min_size=8, max_size=8), st.randoms(use_true_random=False))
def test_any_history_gives_what_reading_it_by_hand_gives(spark: SparkSession, histories: Any, shuffle: Any) -> None:
    # Each history is of a zone of its own, so that one plan reads eight of them.
    told = []
    for number, readings in enumerate(histories):
        for after, records in readings:
            rows = [
                record(T + hour * HOUR, carbonIntensity=value, updatedAt=iso(T + update * HOUR) if update else None)
                for hour, value, update in records
            ]
            told.append((f"Z{number}", body(*rows), T + HOUR + after * HOUR / 2))
    expected = latest_by_hand([(zone, json.loads(text), at, text) for zone, text, at in told])
    shuffled = list(told)
    shuffle.shuffle(shuffled)
    zones = sorted({zone for zone, _, _ in told})
    frames = [bronze(spark, *((text, at) for of, text, at in shuffled if of == zone), zone=zone) for zone in zones]
    stored = reduce(lambda one, other: one.union(other), frames)
    rows = as_rows(energy_data(bronze(spark), stored, *DAY))
    got = {(row["zone"], row["datetime"]): (row["carbon_intensity"], row["ingested_at_carbon"]) for row in rows}
    assert got == {key: (found["carbonIntensity"], since) for key, (found, since) in expected.items()}
