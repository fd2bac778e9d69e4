"""Numbers of a body are Python's floats in silver, on both engines, however many digits they are written with."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import timedelta

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.health import revisions
from emaps_dagster.transforms.numbers import number, parsed_exactly, with_numbers_as_strings
from emaps_dagster.transforms.silver import energy_data
from emaps_dagster_tests.support.builders import as_rows, body, bronze, record, utc

pytestmark = pytest.mark.both_engines

T = utc(2024, 5, 4, 6)
DAY = (utc(2024, 5, 4), utc(2024, 5, 5))
LATER = utc(2024, 5, 4, 12, 7)

# As it is written, and the double: what Sail's from_json reads one or two units in the last place off comes first.
WRITTEN = {
    "-1217.5900000000001": -1217.5900000000001,
    "62.929999999999836": 62.929999999999836,
    "120.60000000000001": 120.60000000000001,
    "11.442524948121413": 11.442524948121413,
    "-222.72000000000006": -222.72000000000006,
    "0.30000000000000004": 0.30000000000000004,
    "-4.0552573439213345e-20": -4.0552573439213345e-20,
    "70338312.9038598802365080695781351181": 70338312.90385988,
    "123456789012.34567": 123456789012.34567,
    "100000000000000000000000": 1e23,
    "1234567890123456789012345": 1.2345678901234568e24,
    # Halfway between two doubles the even one is nearest, just above it the next one.
    "9007199254740993": 9007199254740992.0,
    "9007199254740993.0": 9007199254740992.0,
    "9007199254740993.00000000000000000001": 9007199254740994.0,
    "18446744073709551615": 18446744073709551616.0,
    "-9223372036854775809": -9223372036854775808.0,
    "1e23": 1e23,
    "8.5E+22": 8.5e22,
    "1.7976931348623157e308": 1.7976931348623157e308,
    "2.2250738585072011e-308": 2.2250738585072011e-308,
    "4.9e-324": 5e-324,
    "1e-400": 0.0,
    "-1e-400": 0.0,
    "-0": 0.0,
    "-0.0": 0.0,
    "-0E-5": 0.0,
    "0": 0.0,
    "0.1e1": 1.0,
    "3e2": 300.0,
    "1000000000.0000001": 1000000000.0000001,
    "123456789.123456": 123456789.123456,
    "-123456789012345": -123456789012345.0,
    "1234567890123456": 1234567890123456.0,
    "0.000001": 0.000001,
    "706.2849": 706.2849,
    "-1219": -1219.0,
    "1e9": 1e9,
}


def random_numbers(count: int, seed: int) -> Iterator[str]:
    """Short and long ones as they are met: rounded, sums and products of rounded, any double, too many digits."""
    dice = random.Random(seed)
    kinds: list[Callable[[], str]] = [
        lambda: f"{dice.uniform(-5000, 5000):.{dice.randint(0, 6)}f}",
        lambda: repr(sum(round(dice.uniform(-300, 300), 2) for _ in range(dice.randint(2, 9)))),
        lambda: repr(round(dice.uniform(-2000, 2000), 2) * 1.1),
        lambda: repr(dice.uniform(-1, 1) * 10.0 ** dice.randint(-300, 300)),
        lambda: f"{dice.uniform(-10, 10):.{dice.randint(1, 17)}{dice.choice('eE')}}",
        lambda: f"{dice.uniform(1, 9e8):.{dice.randint(7, 60)}f}",
        lambda: str(dice.getrandbits(dice.randint(1, 128)) * dice.choice([1, -1])),
    ]
    return (dice.choice(kinds)() for _ in range(count))


def read(spark: SparkSession, texts: list[str]) -> list[float | None]:
    """What the transforms read of numbers, each in a body of its own: as field and as value of a map."""
    bodies = [f'{{"field": {text}, "map": {{"a": {text}}}}}' for text in texts]
    rows = spark.createDataFrame(pa.table({"place": list(range(len(texts))), "body": bodies}))
    parsed = parsed_exactly(F.col("body"), "struct<field:double,map:map<string,double>>")
    got = rows.select("place", parsed.alias("it")).select(
        "place", number(F.col("it.field")).alias("field"), number(F.element_at("it.map", "a")).alias("entry")
    )
    found = sorted(got.toArrow().to_pylist(), key=lambda row: row["place"])
    assert [repr(row["field"]) for row in found] == [repr(row["entry"]) for row in found]
    return [row["field"] for row in found]


def test_a_number_is_the_nearest_double_as_it_is_written(spark: SparkSession) -> None:
    got = dict(zip(WRITTEN, read(spark, list(WRITTEN)), strict=True))
    # By repr: -0.0 would be equal to 0.0.
    assert {text: repr(value) for text, value in got.items()} == {text: repr(v) for text, v in WRITTEN.items()}
    assert {text: float(text) for text in WRITTEN} == WRITTEN


def test_thousands_of_random_numbers_are_pythons_floats(spark: SparkSession) -> None:
    texts = list(random_numbers(5000, seed=16))
    wrong = [
        (text, value)
        for text, value in zip(texts, read(spark, texts), strict=True)
        if repr(value) != repr(float(text) + 0.0)
    ]
    assert wrong == []


def test_every_number_of_both_feeds_is_pythons_float_in_silver(spark: SparkSession) -> None:
    power = record(
        T,
        powerProductionBreakdown={"hydro discharge": -1217.5900000000001, "wind": 62.929999999999836, "coal": 7},
        powerConsumptionBreakdown={"gas": 120.60000000000001, "solar": 306.5, "oil": None},
        powerImportBreakdown={"AL": 11.442524948121413, "IT-SO": -0.0, "TR": None, 'a "zone": 5, {': 70.80000000000001},
        powerExportBreakdown={"BG": 185159.33333333334},
        powerProductionTotal=222.72000000000006,
        powerConsumptionTotal=427.1000000000001,
        powerImportTotal=82.24252494812142,
        powerExportTotal=0.1 + 0.2,
        fossilFreePercentage=33.300000000000004,
        renewablePercentage=1 / 3,
    )
    carbon = record(T, carbonIntensity=599.9300000000001)
    (row,) = as_rows(energy_data(bronze(spark, (body(power), LATER)), bronze(spark, (body(carbon), LATER)), *DAY))
    said = {name: value for name, value in row.items() if isinstance(value, (float, dict))}
    assert repr(said) == repr(
        {
            "production_coal": 7.0,
            "production_wind": 62.929999999999836,
            "production_hydro_discharge": -1217.5900000000001,
            "consumption_solar": 306.5,
            "consumption_gas": 120.60000000000001,
            "production_total": 222.72000000000006,
            "consumption_total": 427.1000000000001,
            "import_total": 82.24252494812142,
            "export_total": 0.30000000000000004,
            "import_by_zone": {"AL": 11.442524948121413, "IT-SO": 0.0, "TR": None, 'a "zone": 5, {': 70.80000000000001},
            "export_by_zone": {"BG": 185159.33333333334},
            "fossil_free_percentage": 33.300000000000004,
            "renewable_percentage": 0.3333333333333333,
            "carbon_intensity": 599.9300000000001,
        }
    )


# A text that Sail and Spark must leave alone, beside a long number.
TEXTS = (
    "12345678901234567890",
    '": 12345678901234567, "',
    "a: 5, b: [1, 2]",
    "\\",
    '\\"',
    'quotes "1.5" and \\ 2.5 \\\\" 3.5',
    "\b\f\n\r\t/",
    "Ωμέγα 1e5 \u2028 \U0001f600",
    "",
)


def test_what_stands_in_strings_is_left_alone_beside_a_long_number(spark: SparkSession) -> None:
    records = [
        record(DAY[0] + place * HOUR, carbonIntensity=120.60000000000001, emissionFactorType=text, x=[text, 1, -2.5e-3])
        for place, text in enumerate(TEXTS)
    ]
    for text in (body(*records), json.dumps(json.loads(body(*records)), ensure_ascii=False, indent=1)):
        rows = as_rows(energy_data(bronze(spark), bronze(spark, (text, LATER + 9 * HOUR)), *DAY))
        seen = [(row["emission_factor_type"], row["carbon_intensity"]) for row in rows]
        assert seen == [(text, 120.60000000000001) for text in TEXTS]


def test_numbers_get_quotes_and_nothing_else_does(spark: SparkSession) -> None:
    long = r'{"a\"1": [1, -2.5, 120.60000000000001], "b": "1\\", "c": true, "d": {"e":1e5}}'
    quoted = r'{"a\"1": ["1", "-2.5", "120.60000000000001"], "b": "1\\", "c": true, "d": {"e":"1e5"}}'
    texts = spark.createDataFrame(pa.table({"place": [0, 1], "text": [long, None]}))
    rows = texts.select("place", with_numbers_as_strings(F.col("text")).alias("text")).toArrow().to_pylist()
    assert [row["text"] for row in sorted(rows, key=lambda row: row["place"])] == [quoted, None]


def carbon_of(digits: str) -> str:
    return body(record(T, carbonIntensity="here")).replace('"here"', digits)


def test_the_next_double_is_a_change_and_another_way_to_write_a_double_is_not(spark: SparkSession) -> None:
    # Sail's from_json reads the first and the third as the last.
    told = ["62.929999999999836", "62.9299999999998360", "6.2929999999999836e1", "62.92999999999984"]
    responses = [(carbon_of(digits), LATER + place * timedelta(minutes=1)) for place, digits in enumerate(told)]
    (row,) = as_rows(energy_data(bronze(spark), bronze(spark, *responses[:3]), *DAY))
    assert (row["carbon_intensity"], row["ingested_at_carbon"]) == (62.929999999999836, LATER)
    (revised,) = as_rows(revisions(bronze(spark), bronze(spark, *responses), *DAY))
    assert revised["ingested_at"] == LATER + timedelta(minutes=3)
