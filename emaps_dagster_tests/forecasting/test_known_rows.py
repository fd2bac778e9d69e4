"""Forecasting rows of a random past: equal to an oracle on the raw JSON, to what is served, and deaf to the future."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from emaps_dagster import forecasting
from emaps_dagster.contracts.forecast_plan import forecast_plan
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.contracts.zones import FEEDS
from emaps_dagster.forecasting.rows import rows_of
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster_tests.forecasting.conftest import SEED, History
from emaps_dagster_tests.support.forecast_history import FIRST, LAST, Past, random_past, write
from emaps_dagster_tests.support.forecast_oracle import Oracle
from emaps_dagster_tests.support.mutants import Mutant, planted

# The whole proof: EMAPS_TEST_ISSUE_TIMES=200 .venv/bin/python -m pytest emaps_dagster_tests/forecasting -s
SERVED = int(os.environ.get("EMAPS_TEST_ISSUE_TIMES", "4"))
MICROSECOND = timedelta(microseconds=1)
COLUMNS = ("consumption_total", "production_gas", "import_BG", "carbon_intensity")
HORIZONS, LAGS, MEANS = [1, 2, 24, 25, 49, 169], [1, 2, 24, 48, 168], [3, 24, 168]
PLAN = forecast_plan("GR", columns=COLUMNS, targets="carbon_intensity", horizons=HORIZONS, lags=LAGS, means=MEANS)
NAIVE = {f"_{kind}_carbon_intensity": kind for kind in ("persistence", "daily", "weekly")}


def moments_of(
    past: Past, number: int, *, first: datetime = FIRST + 48 * HOUR, last: datetime = LAST
) -> list[datetime]:
    """Random issue times; a third of them lies at an ingestion, or a microsecond before it."""
    dice = random.Random(SEED)
    ingested = [r.received_at for feed in FEEDS for r in past.responses[feed.name] if first < r.received_at < last]
    found: set[datetime] = set()
    while len(found) < number:
        anywhere = first + dice.random() * (last - first)
        found.add(dice.choice([anywhere, anywhere, dice.choice(ingested) - dice.choice([0, 1]) * MICROSECOND]))
    return sorted(found)


@pytest.fixture(scope="module")
def expected(history: History) -> pd.DataFrame:
    """The oracle's rows of 200 issue times."""
    told = [(feed.name, r.body, r.received_at) for feed in FEEDS for r in history.past.counted(feed)]
    oracle = Oracle("GR", told, COLUMNS)
    rows = [
        {"issued_at": pd.Timestamp(at), **row}
        for at in moments_of(history.past, 200)
        for row in oracle.rows(pd.Timestamp(at), HORIZONS, LAGS, MEANS, "carbon_intensity")
    ]
    return pd.DataFrame(rows).set_index(["issued_at", "horizon"], drop=False)


def differences(rows: pa.Table, expected: pd.DataFrame) -> list[str]:
    """Where rows are not the oracle's, to the last bit."""
    found = rows.to_pandas().set_index(["issued_at", "horizon"], drop=False).rename(columns=NAIVE)
    assert list(found.index) == list(expected.index)
    wrong = []
    for name in (*(feature.name for feature in PLAN.features), *NAIVE.values()):
        differ = bits(found[name]) != bits(expected[name])
        wrong += [
            f"{name} at {key}: {found[name][key]!r}, expected {expected[name][key]!r}" for key in expected.index[differ]
        ]
    return wrong


def bits(column: pd.Series[Any]) -> np.ndarray[Any, Any]:
    return column.astype("float64").fillna(-1e300).to_numpy().view(np.int64)


def rows_in(spark: SparkSession, folder: Path, moments: Sequence[datetime]) -> pa.Table:
    return rows_of(FolderLakehouse(spark, folder), PLAN, [("GR", moment) for moment in moments])


def test_200_random_issue_times_equal_the_oracle_bit_for_bit(
    embedded: SparkSession, history: History, expected: pd.DataFrame
) -> None:
    moments = moments_of(history.past, 200)
    rows = rows_in(embedded, history.warehouse, moments)
    assert rows.num_rows == 200 * len(HORIZONS)
    assert differences(rows, expected) == []
    # The history has what makes it hard.
    frame = rows.to_pandas()
    assert (frame["age_consumption_total_h"] > 0).any()
    assert (frame["count_consumption_total_24h"] < frame["hours_known_24h"]).any()
    assert frame["estimated_share_24h"].between(0.01, 0.99).any()
    assert frame["is_holiday"].any()


def test_what_is_served_equals_the_training_set_bit_for_bit(history: History) -> None:
    dice = random.Random(SEED)
    asked: dict[str, Any] = {"columns": COLUMNS, "horizons": HORIZONS[:4], "lags": LAGS, "means": MEANS}
    served = 0
    # One with the zone as a category, one that is more than an hour.
    for delay in ("0h", "7min", "23min", "90min") if SERVED > 4 else ("7min", "90min"):
        trained = forecasting.training_set(
            "GR", FIRST + 4 * 24 * HOUR, LAST - 60 * HOUR, known_at=delay, on_unknown="drop", **asked,
            warehouse=history.warehouse, zone_category=delay == "7min",
        )  # fmt: skip
        complete = trained.X.groupby(level="issued_at").size() == 4
        for at in dice.sample(list(complete.index[complete]), max(1, SERVED // 4)):
            row = forecasting.latest("GR", like=trained, at=at.to_pydatetime(), warehouse=history.warehouse)
            known = trained.X.xs(at, level="issued_at", drop_level=False)
            pd.testing.assert_frame_equal(row, known, check_exact=True)
            assert all((bits(row[name]) == bits(known[name])).all() for name in row if name != "zone")
            served += 1
    print(f"\n{served} issue times served and trained on: all equal")


def test_later_responses_change_no_row(embedded: SparkSession, history: History, tmp_path: Path) -> None:
    turn = FIRST + 9 * 24 * HOUR
    pasts = [random_past(SEED, turn=turn, other=other) for other in (0, 1)]
    # A withdrawal takes an earlier response away: that is no later response.
    folders = [write(embedded, tmp_path / str(number), Past(past.responses, [])) for number, past in enumerate(pasts)]
    before, after = (
        moments_of(pasts[0], 40, first=first, last=last)
        for first, last in ((turn - 30 * HOUR, turn), (turn + 8 * HOUR, turn + 40 * HOUR))
    )
    one, other = (rows_in(embedded, folder, before + after) for folder in folders)
    known = pc.less_equal(one["issued_at"], pa.scalar(turn, one["issued_at"].type))
    assert pc.sum(known).as_py() == len(before) * len(HORIZONS)
    assert one.filter(known).equals(other.filter(known))
    assert not one.equals(other)


# Each as the edits that make it.
LOOK_AHEADS: dict[str, tuple[Mutant, ...]] = {
    "of one hour": (
        Mutant(
            "responses of the next hour",
            "transforms.issued_records:seen_at_issues",
            'F.col("ingested_at") <= F.col("issued_at")',
            'F.col("ingested_at") <= F.col("issued_at") + F.expr("INTERVAL 1 HOUR")',
        ),
    ),
    "of one revision": (
        Mutant(
            "each revision known since the one before",
            "transforms.issued_records:seen_at_issues",
            "drop_repeated_content(records, wanted)",
            'drop_repeated_content(records, wanted).withColumn("ingested_at", F.coalesce(F.lag("ingested_at").over('
            'oldest_first), F.col("ingested_at")))',
        ),
    ),
    "of the target's own hour": (
        Mutant(
            "records of today",
            "transforms.training_rows:training_rows",
            "if final else seen_at_issues",
            "if True else seen_at_issues",
        ),
        Mutant(
            "the running hour as origin",
            "transforms.training_rows:origin_of",
            "floor_hour(issued_at) - HOUR",
            "floor_hour(issued_at)",
        ),
        Mutant("its age", "transforms.training_rows:_origin", " - F.lit(HOUR)", ""),
        Mutant(
            "and its target",
            "transforms.training_rows:_finished",
            "F.timestamp_seconds(F.unix_timestamp(_origin()) + horizon)",
            "F.timestamp_seconds(F.unix_timestamp(_origin()) - 3600 + horizon)",
        ),
    ),
}


@pytest.mark.parametrize("name", LOOK_AHEADS)
def test_the_oracle_finds_a_planted_look_ahead(
    embedded: SparkSession, history: History, expected: pd.DataFrame, name: str
) -> None:
    some = expected[expected["issued_at"] < FIRST + 8 * 24 * HOUR]
    moments = [at.to_pydatetime() for at in some["issued_at"].unique()]
    assert len(moments) > 50
    with ExitStack() as bugs:
        for mutant in LOOK_AHEADS[name]:
            bugs.enter_context(planted(mutant))
        rows = rows_in(embedded, history.warehouse, moments)
    wrong = differences(rows, some)
    assert wrong, f"a look-ahead {name} was planted and nothing noticed"
    print(f"\nlook-ahead {name}: {len(wrong)} differences, such as {wrong[0]}")
