"""training_set, latest, calendar and coverage: frames that models take as they are, and what they refuse."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from pyspark.sql import SparkSession

from emaps_dagster import features, forecasting
from emaps_dagster.contracts.errors import (
    BackfilledFeaturesError,
    FeaturesError,
    NoFeaturesError,
    PartialFeaturesError,
    StaleFeaturesError,
)
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.forecasting import TrainingSet
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.lakehouse.spark_sessions import connect_session
from emaps_dagster.simulator.provider import Provider
from emaps_dagster_tests.support.builders import utc
from harness.history_builder import Past

ZONES = ("GR", "BG")
# Runs of two zones from 3 to 11 May 2024 but for 12 hours; the days before were backfilled on 4 May.
PAST, FIRST, BACKFILL, LAST = utc(2024, 4, 26), utc(2024, 5, 3), utc(2024, 5, 4), utc(2024, 5, 11)
OUTAGE = Window(utc(2024, 5, 6, 2), utc(2024, 5, 6, 14))
FEW: dict[str, Any] = {"columns": ["consumption_total", "carbon_intensity"], "horizons": [1, 6, 24], "lags": [1, 24]}


@pytest.fixture(scope="module")
def warehouse(embedded: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training_sets") / "warehouse"
    past = Past(FolderLakehouse(embedded, folder), ZONES, Provider(3))
    ticks = [hour + HOUR + timedelta(minutes=7) for hour in Window(FIRST, LAST).hours() if hour not in OUTAGE]
    past.tick(*ticks)
    past.backfill(Window(PAST, FIRST), BACKFILL)
    past.merge(Window(PAST, LAST))
    return folder


@pytest.fixture(scope="module")
def trained(warehouse: Path) -> TrainingSet:
    return forecasting.training_set(ZONES, "2024-05-08", "2024-05-10", **FEW, warehouse=warehouse)


def test_a_row_for_each_zone_issue_time_and_horizon(trained: TrainingSet) -> None:
    issued_at = pd.date_range("2024-05-08 00:15", "2024-05-09 23:15", freq="h", tz="UTC")
    expected = pd.MultiIndex.from_product([sorted(ZONES), issued_at, [1, 6, 24]])
    assert list(trained.index) == list(expected)
    assert trained.index.names == ["zone", "issued_at", "horizon"]
    # Issued at 00:15, the origin is 23:00 and the target of horizon 1 is the running hour.
    assert list(trained.target_time[:3]) == [pd.Timestamp(f"2024-05-08 {h:02}:00", tz="UTC") for h in (0, 5, 23)]
    assert trained.known_in_time.all()
    pd.testing.assert_series_equal(forecasting.target_time(trained.X), trained.target_time)
    with pytest.raises(FeaturesError, match=r"give rows of forecasting\.latest, or X of a training set"):
        forecasting.target_time(trained.X.reset_index("zone"))


def test_targets_are_the_final_values_of_the_target_hours(trained: TrainingSet, warehouse: Path) -> None:
    final = features.load(ZONES, "2024-05-08", "2024-05-11", warehouse=warehouse, columns=["carbon_intensity"])
    keys = pd.MultiIndex.from_arrays([trained.index.get_level_values("zone"), trained.target_time])
    assert list(trained.y) == list(final["carbon_intensity"].loc[keys])
    assert trained.y.name == "carbon_intensity"


def test_inputs_are_numbers_without_columns_of_nothing(warehouse: Path) -> None:
    asked = {**FEW, "columns": ["production_nuclear", "carbon_intensity"]}
    one = forecasting.training_set("GR", "2024-05-08", "2024-05-09", **asked, warehouse=warehouse)
    types = one.X.dtypes.astype(str)
    assert set(types) == {"float64", "int32"}
    assert set(types[["hour", "local_hour", "is_holiday", "horizon", "count_carbon_intensity_24h"]]) == {"int32"}
    assert set(types[["value_carbon_intensity", "age_carbon_intensity_h", "estimated_share_24h"]]) == {"float64"}
    # Greece has no nuclear power.
    assert "value_production_nuclear" in one.columns_left_out
    assert "lag_production_nuclear_24h" in one.columns_left_out
    assert not [name for name in one.X if name in one.columns_left_out or one.X[name].isna().all()]
    assert one.X.to_numpy().dtype == np.float64
    # A horizon of 6 or 24 hours has no lag of one hour.
    lags = one.X["lag_carbon_intensity_1h"].isna().groupby(level="horizon").all()
    assert dict(lags) == {1: False, 6: True, 24: True}


@pytest.mark.parametrize("model", ["LGBMRegressor", "HistGradientBoostingRegressor"])
def test_models_take_inputs_and_target_as_they_are(warehouse: Path, trained: TrainingSet, model: str) -> None:
    # Imported in the tests that use them: each process that collects would need two seconds for them.
    from lightgbm import LGBMRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import cross_val_score

    light: Any = LGBMRegressor(verbose=-1, n_estimators=10)
    fitted = light if model == "LGBMRegressor" else HistGradientBoostingRegressor(max_iter=10)
    fitted.fit(trained.X, trained.y)
    at = trained.index.get_level_values("issued_at")[-1].to_pydatetime()
    row = forecasting.latest("GR", like=trained, at=at, warehouse=warehouse)
    assert np.array_equal(fitted.predict(row), fitted.predict(trained.X.loc[row.index]))
    folds = list(forecasting.splits(trained, folds=2, test_span="6h", purge="24h"))
    assert len(cross_val_score(fitted, trained.X, trained.y, cv=folds)) == 2


def test_the_zone_is_a_category_if_requested(warehouse: Path) -> None:
    from lightgbm import LGBMRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor

    asked = {**FEW, "zone_category": True, "issue_at": "00:00"}
    both = forecasting.training_set(ZONES, "2024-05-08", "2024-05-11", **asked, warehouse=warehouse)
    assert str(both.X["zone"].dtype) == "category"
    LGBMRegressor(verbose=-1, n_estimators=5, min_child_samples=1).fit(both.X, both.y)
    HistGradientBoostingRegressor(max_iter=5).fit(both.X, both.y)
    row = forecasting.latest("BG", like=both, at=LAST, warehouse=warehouse)
    assert list(row["zone"]) == ["BG"] * 3
    assert dict(row.dtypes) == dict(both.X.dtypes)


def test_issue_times_by_step_and_hour_of_day(warehouse: Path) -> None:
    def hours(**more: Any) -> list[str]:
        asked = {**FEW, "horizons": 1, **more}
        rows = forecasting.training_set("GR", "2024-05-08", "2024-05-09", **asked, warehouse=warehouse)
        return [f"{at:%H:%M}" for at in rows.index.get_level_values("issued_at")]

    assert hours(issue_every="6h") == ["00:15", "06:15", "12:15", "18:15"]
    assert hours(issue_at=["00:00", "09:00"], known_at="20min") == ["00:20", "09:20"]
    # An hour and a half after the full hour: the issue times begin with the hours of the day before.
    assert hours(issue_at=["23:00", "00:00"], known_at="90min") == ["00:30", "01:30"]


def test_several_targets_are_columns(warehouse: Path) -> None:
    targets = ["carbon_intensity", "production_wind"]
    asked = {**FEW, "targets": targets, "issue_at": "12:00"}
    both = forecasting.training_set("GR", "2024-05-08", "2024-05-10", **asked, warehouse=warehouse)
    assert isinstance(both.y, pd.DataFrame)
    assert list(both.y) == targets
    # A target that is no feature has baselines nevertheless.
    assert not [name for name in both.X if "production_wind" in name]
    naive = forecasting.baselines(both)
    assert naive["daily", "production_wind"].notna().all()
    scored = forecasting.score(both, naive["daily"][targets], by="horizon")
    assert scored.index.names == ["target", "horizon"]
    assert set(scored["skill_daily"]) == {0.0}


def test_targets_as_known_at_a_moment(warehouse: Path) -> None:
    asked = {**FEW, "issue_at": "12:00", "horizons": [1]}
    then = forecasting.training_set(
        "GR", "2024-05-08", "2024-05-09", **asked, target_as_of="2024-05-08T13:30Z", warehouse=warehouse
    )
    soon = features.load("GR", "2024-05-08T12:00Z", "2024-05-08T13:00Z", "2024-05-08T13:30Z", warehouse=warehouse)
    final = forecasting.training_set("GR", "2024-05-08", "2024-05-09", **asked, warehouse=warehouse)
    assert list(then.y) == list(soon["carbon_intensity"]) != list(final.y)


def test_frame_arrow_and_polars_hold_the_same(trained: TrainingSet) -> None:
    frame, arrow, polars = trained.frame(), trained.arrow(), trained.polars()
    assert list(frame)[:2] == ["target_time", "carbon_intensity"]
    assert arrow.column_names[:5] == ["zone", "issued_at", "horizon", "target_time", "carbon_intensity"]
    assert arrow["lag_carbon_intensity_1h"].null_count == frame["lag_carbon_intensity_1h"].isna().sum() > 0
    assert polars.schema["issued_at"] == pl.Datetime("us", "UTC")
    assert polars["mean_carbon_intensity_24h"].to_list() == list(frame["mean_carbon_intensity_24h"])


def test_rows_unknown_in_time_are_an_error_left_out_or_final(warehouse: Path) -> None:
    asked: dict[str, Any] = {**FEW, "warehouse": warehouse}
    # Known at the latest 2 hours after their origin: issue times from 05:15 to 14:15 lack data.
    with pytest.raises(PartialFeaturesError, match=r"30 of 72 rows .* 30 missing, 0 backfilled") as refused:
        forecasting.training_set("GR", "2024-05-06", "2024-05-07", **asked)
    assert "GR [2024-05-06T04:00Z, 2024-05-06T14:00Z)" in str(refused.value)
    dropped = forecasting.training_set("GR", "2024-05-06", "2024-05-07", **asked, on_unknown="drop")
    assert len(dropped) == 42
    assert "known_in_time" not in dropped.X
    # Ages up to 2 h are known, and seen as such.
    assert dropped.X["age_carbon_intensity_h"].max() == 2.0
    final = forecasting.training_set("GR", "2024-05-06", "2024-05-07", **asked, on_unknown="final")
    assert len(final) == 72
    assert (final.X["known_in_time"] == 0).sum() == 30
    known = final.X[final.known_in_time].drop(columns="known_in_time")
    pd.testing.assert_frame_equal(known, dropped.X, check_exact=True)
    at_noon = pd.Timestamp("2024-05-06 12:15", tz="UTC")
    stored = features.load("GR", "2024-05-06T11:00Z", "2024-05-06T12:00Z", warehouse=warehouse)
    assert list(final.X["value_carbon_intensity"][:, at_noon]) == list(stored["carbon_intensity"]) * 3
    (age,) = re.findall(r"accept older records with max_age='(\d+h)'", str(refused.value))
    longer = forecasting.training_set("GR", "2024-05-06", "2024-05-07", **asked, max_age=age)
    assert len(longer) == 72


def test_backfilled_hours_are_named_as_such(warehouse: Path) -> None:
    asked: dict[str, Any] = {**FEW, "issue_at": "06:00", "warehouse": warehouse}
    with pytest.raises(BackfilledFeaturesError, match=r"6 of 6 rows .* 0 missing, 6 backfilled later"):
        forecasting.training_set("GR", "2024-04-28", "2024-04-30", **asked)
    # What was backfilled on 4 May is known from then on.
    known = forecasting.training_set("GR", "2024-05-04", "2024-05-05", **asked)
    assert set(known.X["count_carbon_intensity_168h"]) == {168}
    with pytest.raises(NoFeaturesError, match="Zone GR has no row"):
        forecasting.training_set("GR", "2024-04-28", "2024-04-30", **asked, on_unknown="drop")


def test_rows_without_a_target_are_an_error_or_left_out(warehouse: Path) -> None:
    asked: dict[str, Any] = {**FEW, "issue_at": "12:00", "warehouse": warehouse}
    with pytest.raises(PartialFeaturesError, match=r"1 of 3 rows have no target.*GR \[2024-05-11T11:00Z"):
        forecasting.training_set("GR", "2024-05-10", "2024-05-11", **asked)
    left = forecasting.training_set("GR", "2024-05-10", "2024-05-11", **asked, on_unknown="drop")
    assert list(left.index.get_level_values("horizon")) == [1, 6]


def test_coverage_of_a_zone_that_is_not_held_is_refused(warehouse: Path) -> None:
    with pytest.raises(NoFeaturesError, match="holds no response of zone DE; it holds BG, GR"):
        forecasting.coverage(["GR", "DE"], "2024-05-04", "2024-05-05", warehouse=warehouse)


def test_coverage_says_how_each_hour_became_known(warehouse: Path) -> None:
    hours = forecasting.coverage(ZONES, "2024-04-25", "2024-05-08", warehouse=warehouse)
    status = hours["status"].loc["GR"]
    days = status.groupby(status.index.date).agg(lambda day: ",".join(sorted(set(map(str, day)))))
    assert days[pd.Timestamp("2024-04-25").date()] == "missing"
    assert days[pd.Timestamp("2024-04-28").date()] == "backfilled"
    assert days[pd.Timestamp("2024-05-04").date()] == "known"
    assert list(status["2024-05-06 01:00":"2024-05-06 15:00"]) == ["known", *["late"] * 12, "known", "known"]
    assert hours["ingested_at_carbon"]["GR", pd.Timestamp("2024-05-04", tz="UTC")] == pd.Timestamp(
        "2024-05-04 01:07", tz="UTC"
    )


def test_the_calendar_of_hours_that_do_not_exist_yet_is_golds(warehouse: Path) -> None:
    names = ["hour", "day_of_week", "month", "local_hour", "local_day_of_week", "is_weekend", "is_holiday"]
    days = forecasting.calendar(["GR", "XX"], "2031-04-13", "2031-04-15")
    assert list(days) == names
    # Easter 2031 of the Orthodox church is 13 April.
    assert list(days.loc["GR", pd.Timestamp("2031-04-13 22:00", tz="UTC")]) == [22, 1, 4, 1, 2, 0, 1]
    assert days.loc["XX"][["local_hour", "is_holiday"]].isna().all(axis=None)
    stored = features.load("GR", "2024-05-02", "2024-05-07", warehouse=warehouse, columns=names).astype("int32")
    ours = forecasting.calendar("GR", "2024-05-02", "2024-05-07").droplevel("zone")
    pd.testing.assert_frame_equal(ours, stored, check_freq=False)


def test_what_is_served_without_a_training_set_has_all_columns(warehouse: Path) -> None:
    rows = forecasting.latest("GR", columns=["production_nuclear"], horizons=[1, 2], at=LAST, warehouse=warehouse)
    assert list(rows.index.get_level_values("horizon")) == [1, 2]
    assert rows["value_production_nuclear"].isna().all()
    assert "mean_production_nuclear_168h" in rows


def test_serving_refuses_what_is_too_old(warehouse: Path, trained: TrainingSet) -> None:
    later = LAST + 5 * HOUR + timedelta(minutes=15)
    with pytest.raises(StaleFeaturesError, match=r"zone GR has as the last power record that of 5 h before") as refused:
        forecasting.latest("GR", like=trained, at=later, warehouse=warehouse)
    assert f"`EMAPS_WAREHOUSE={warehouse} .venv/bin/emaps hours 2024-05-11T00:00Z 2024-05-11T05:00Z`" in str(
        refused.value
    )
    rows = forecasting.latest("GR", like=trained, at=later, max_age="5h", warehouse=warehouse)
    assert set(rows["age_carbon_intensity_h"]) == {5.0}
    with pytest.raises(StaleFeaturesError, match="no power record of the week before"):
        forecasting.latest("GR", like=trained, warehouse=warehouse)


def test_a_session_of_ones_own_reads_the_same_whatever_its_time_zone(warehouse: Path, embedded: SparkSession) -> None:
    asked: dict[str, Any] = {**FEW, "at": LAST, "warehouse": warehouse}
    ours = forecasting.latest("GR", **asked)
    session = connect_session({"spark.sql.session.timeZone": "Europe/Athens"})
    try:
        theirs = forecasting.latest("GR", **asked, session=session)
        assert session.conf.get("spark.sql.session.timeZone") == "Europe/Athens"
        days = forecasting.calendar("GR", "2024-05-04", "2024-05-05", session=session)
        # Where the tables are in a session, no command of the checkout fills them.
        with pytest.raises(StaleFeaturesError, match=r"Run the pipeline's job `hourly` for \[.*max_age='5h'"):
            forecasting.latest("GR", **{**asked, "at": LAST + 5 * HOUR}, session=session)
    finally:
        session.stop()
    pd.testing.assert_frame_equal(theirs, ours, check_exact=True)
    assert list(days["local_hour"][:3]) == [3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"zones": []}, "No zone"),
        ({"columns": "carbon_intensity"}, "a list of names"),
        (
            {"columns": ["carbon_intensty"]},
            "no column 'carbon_intensty' to forecast with; near it are carbon_intensity",
        ),
        ({"targets": ["price"]}, "no target 'price'"),
        ({"targets": []}, "No target is given"),
        ({"horizons": [0]}, r"horizons is \[0\]; give whole numbers of hours from 1 to 720"),
        ({"horizons": []}, "horizons is"),
        ({"horizons": [1.5]}, "horizons is"),
        ({"lags": [-1]}, "lags is"),
        ({"lags": 72}, r"lags is 72; give a list of hours, as is the default: \[1, 2, 3, 24, 48, 168\]"),
        ({"means": [9000]}, "means is"),
        ({"known_at": "soon"}, "known_at is 'soon'"),
        ({"issue_every": "90min"}, "issue_every is '90min'"),
        ({"issue_at": "00:30"}, "issue_at holds '00:30'"),
        ({"issue_at": "05:00", "end": "2024-05-08T03:00Z"}, "has no issue time"),
        ({"start": "2024-05-09"}, "is not before end"),
        ({"on_unknown": "ignore"}, "on_unknown is 'ignore'; 'raise'"),
        ({"max_age": "8d"}, "max_age is '8d'"),
        ({"target_as_of": "2024-05-08"}, "target_as_of"),
        ({"catalog": "main"}, "catalog needs session"),
        ({"zones": "FR"}, "holds no response of zone FR; it holds BG, GR"),
        ({"warehouse": "/no/such/folder"}, "no folder /no/such/folder"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(warehouse: Path, arguments: dict[str, Any], says: str) -> None:
    asked = {"zones": "GR", "start": "2024-05-08", "end": "2024-05-09", "warehouse": warehouse, **FEW, **arguments}
    with pytest.raises(FeaturesError, match=says):
        forecasting.training_set(**asked)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"zones": "FR"}, "Zone FR is not in the training set, which has GR, BG"),
        ({"horizons": [2]}, "horizons holds 2"),
        ({"lags": [1]}, "like decides columns, lags and means"),
        ({"zones": []}, "No zone"),
        ({"at": "2024-05-08"}, "at is"),
    ],
)
def test_serving_refuses_what_the_training_set_lacks(
    trained: TrainingSet, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(FeaturesError, match=says):
        forecasting.latest(**{"zones": "GR", "like": trained, **arguments})


def test_a_catalog_is_named_where_the_deployment_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_DEPLOYMENT", "databricks")
    with pytest.raises(FeaturesError, match="give session=spark"):
        forecasting.coverage("GR", "2024-05-08", "2024-05-09")
