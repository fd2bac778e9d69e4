"""`features.frame` gives what `features.load` gives, computed by a person's session from a folder or a catalog."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from emaps_dagster import features
from emaps_dagster.contracts.errors import (
    BackfilledFeaturesError,
    FeaturesError,
    NoFeaturesError,
    PartialFeaturesError,
)
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.features.reading import in_order, plain
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import connect_session
from emaps_dagster.simulator.provider import Provider
from emaps_dagster_tests.support.engines import is_jvm
from harness.history_builder import Past

pytestmark = pytest.mark.both_engines

DAY = datetime(2024, 5, 4, tzinfo=timezone.utc)
LAST = DAY + 8 * HOUR
TICK = LAST + timedelta(minutes=7)
# Fewer columns are a smaller plan.
SOME = ["carbon_intensity", "lag_production_total_1h", "rolling_avg_import_BG_24h", "hours_estimated_24h"]


@pytest.fixture(scope="module")
def folder(embedded: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight hourly ticks of two zones, one hour withheld, one revised later; the day before by a backfill."""
    folder = tmp_path_factory.mktemp("warehouse")
    provider = Provider(7)
    provider.withhold("BG", DAY + 3 * HOUR, DAY + 4 * HOUR)
    past = Past(FolderLakehouse(embedded, folder), ("GR", "BG"), provider)
    run = past.tick(*(DAY + number * HOUR + timedelta(minutes=7) for number in range(1, 9)))
    past.backfill(Window(DAY - 40 * HOUR, DAY - 24 * HOUR), TICK)
    provider.revise("GR", DAY + HOUR, at=TICK)
    past.tick(TICK + HOUR)
    past.merge(Window(DAY - 40 * HOUR, run.end + HOUR))
    return folder


@pytest.fixture
def place(spark: SparkSession, folder: Path) -> Iterator[dict[str, Any]]:
    """Arguments that name the tables: the folder; on the JVM, the session's catalog."""
    if not is_jvm(spark):
        yield {"session": spark, "catalog": None, "warehouse": folder}
        return
    tables = [table for table in folder.glob("*/*") if (table / "_delta_log").exists()]
    for schema in {table.parent.name for table in tables}:
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS `{schema}`")
    for table in tables:
        spark.sql(f"CREATE TABLE `{table.parent.name}`.`{table.name}` USING delta LOCATION '{table}'")
    yield {"session": spark, "catalog": "spark_catalog"}
    for table in tables:
        spark.sql(f"DROP TABLE `{table.parent.name}`.`{table.name}`")


QUESTIONS: dict[str, dict[str, Any]] = {
    "stored": {"start": DAY + 4 * HOUR},
    "before the revision": {
        "start": DAY + HOUR,
        "as_of": DAY + 2 * HOUR + timedelta(minutes=30),
        "allow": "missing",
    },
    "after it": {"start": DAY + HOUR, "as_of": TICK + HOUR, "allow": "missing"},
    "known in time": {"start": DAY + HOUR, "known_at": "10min", "allow": ["missing", "backfilled"]},
}
BOTH: dict[str, Any] = {"zone": ["GR", "BG"], "end": LAST, "columns": SOME}


@pytest.fixture(scope="module")
def loaded(folder: Path) -> dict[str, pa.Table]:
    """What `load` gives, before a test takes the functions of the JVM: beside it the embedded engine is refused."""
    return {name: features.load_arrow(**BOTH, **asked, warehouse=folder) for name, asked in QUESTIONS.items()}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_frame_is_what_load_gives_bit_for_bit(
    place: dict[str, Any], loaded: dict[str, pa.Table], question: str
) -> None:
    frame = features.frame(**place, **BOTH, **QUESTIONS[question])
    assert frame.columns == ["zone", "datetime", *SOME]
    rows = in_order(plain(pa.table(frame.toArrow())))
    expected = loaded[question]
    assert rows.cast(expected.schema).equals(expected)
    assert rows.num_rows > 1


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"zone": "BG", "start": DAY, "end": LAST}, PartialFeaturesError),
        ({"zone": "BG", "start": DAY, "end": LAST, "as_of": TICK}, PartialFeaturesError),
        ({"zone": "BG", "start": DAY, "end": LAST, "known_at": "10min"}, PartialFeaturesError),
        ({"zone": "GR", "start": DAY - 30 * HOUR, "end": DAY - 24 * HOUR, "known_at": "9d"}, BackfilledFeaturesError),
        ({"zone": "GR", "start": DAY, "end": LAST, "as_of": DAY - 80 * HOUR}, NoFeaturesError),
        ({"zone": "GR", "start": "2024-03-01", "end": "2024-03-02"}, NoFeaturesError),
        ({"zone": "PT"}, NoFeaturesError),
    ],
)
@pytest.mark.embedded_alone
def test_what_a_frame_lacks_is_refused_in_the_words_of_load(
    place: dict[str, Any], folder: Path, asked: dict[str, Any], error: type[FeaturesError]
) -> None:
    with pytest.raises(error) as of_frame:
        features.frame(**place, **asked, columns=SOME)
    with pytest.raises(error) as of_load:
        features.load_arrow(**asked, columns=SOME, warehouse=folder)
    words = [str(one.value).split(" at ")[0] for one in (of_frame, of_load)]
    assert words[0] == words[1]


@pytest.mark.embedded_alone
def test_a_session_in_another_time_zone_is_refused_until_it_is_set(folder: Path, spark: SparkSession) -> None:
    session = connect_session({"spark.sql.session.timeZone": "Europe/Athens"})
    asked: dict[str, Any] = {"zone": "GR", "start": DAY + HOUR, "end": DAY + 2 * HOUR, "warehouse": folder}
    try:
        with pytest.raises(FeaturesError, match="time zone is 'Europe/Athens'") as refused:
            features.frame(session, None, **asked)
        remedy = str(refused.value).split("Set it first: ")[1].removesuffix(".")
        exec(remedy, {"spark": session})
        assert features.frame(session, None, **asked).count() == 1
    finally:
        session.stop()


@pytest.mark.embedded_alone
def test_tables_that_are_not_there_are_named(spark: SparkSession, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NoFeaturesError, match=r"There is no gold.ml_features at .*a catalog of the session"):
        features.frame(spark, None, "GR", warehouse=tmp_path)
    shutil.copytree(folder / "gold", tmp_path / "gold")
    with pytest.raises(NoFeaturesError, match=r"There is no bronze.power_data"):
        features.frame(spark, None, "GR", as_of=TICK, warehouse=tmp_path)
    with pytest.raises(FeaturesError, match="has no column 'carbon_intensities'; near it are carbon_intensity"):
        features.frame(spark, None, "GR", columns=["carbon_intensities"], warehouse=tmp_path)
