"""Every remedy that an error of forecasting names, performed; and none is named that gives no rows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from emaps_dagster import features, forecasting
from emaps_dagster.cli.demo.folder import DemoFolder
from emaps_dagster.cli.demo.history import History, make_history
from emaps_dagster.contracts.errors import (
    BackfilledFeaturesError,
    FeaturesError,
    NoFeaturesError,
    PartialFeaturesError,
    StaleFeaturesError,
)
from emaps_dagster.contracts.windows import HOUR, utc_now
from emaps_dagster.features.commands import how_to_make_again
from emaps_dagster.simulator.server import Simulator

NOW = datetime(2026, 3, 20, 10, 5, tzinfo=timezone.utc)
FEW: dict[str, Any] = {"columns": ["carbon_intensity", "production_total"], "horizons": [1, 6, 24], "lags": [24]}
OUTSIDE = ("2025-01-01", "2025-01-03")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("remedies") / "demo", days=14, now=NOW)


def refusal(error: type[FeaturesError], *asked: str, **more: Any) -> str:
    with pytest.raises(error) as refused:
        forecasting.training_set("GR", *asked, **{**FEW, **more})
    return str(refused.value)


def range_of(message: str) -> tuple[str, str]:
    found = re.search(r"[Gg]ive (\S+Z) or later as start and (\S+Z) or earlier as end", message)
    assert found, message
    return found[1], found[2]


@pytest.mark.parametrize(
    ("on_unknown", "error", "why"),
    [
        ("raise", PartialFeaturesError, "144 of 144 rows were not known in time"),
        ("drop", NoFeaturesError, "nothing was known in time"),
        ("final", NoFeaturesError, "bronze holds no record of their origins"),
    ],
)
def test_a_window_outside_of_the_data_is_answered_with_the_range_that_has_rows(
    past: History, on_unknown: str, error: type[FeaturesError], why: str
) -> None:
    asked: dict[str, Any] = {"on_unknown": on_unknown, "warehouse": past.as_it_came}
    message = refusal(error, *OUTSIDE, **asked)
    assert why in message
    assert "Silver holds targets of zone GR in [2026-03-05T11:00Z, 2026-03-20T09:00Z)" in message
    # These give no row either.
    assert "on_unknown=" not in message
    assert "max_age=" not in message
    if on_unknown != "raise":
        assert "at the issue times from 2025-01-01T00:15Z to 2025-01-02T23:15Z" in message
    start, end = range_of(message)
    rows = forecasting.training_set("GR", start, end, **FEW, **asked)
    assert len(rows) == (pd.Timestamp(end) - pd.Timestamp(start)) // pd.Timedelta("1h") * 3


def test_a_window_that_begins_too_early_can_be_left_out_or_final(past: History) -> None:
    message = refusal(PartialFeaturesError, "2026-03-05", "2026-03-08", warehouse=past.as_it_came)
    start, _ = range_of(message)
    assert len(forecasting.training_set("GR", start, "2026-03-08", **FEW, warehouse=past.as_it_came))
    for choice in re.findall(r"on_unknown='(\w+)'", message):
        rows = forecasting.training_set(
            "GR", "2026-03-05", "2026-03-08", **FEW, on_unknown=choice, warehouse=past.as_it_came
        )
        assert ("known_in_time" in rows.X) == (choice == "final")
    assert set(re.findall(r"on_unknown='(\w+)'", message)) == {"drop", "final"}


def test_a_window_that_ends_now_is_answered_with_its_last_end(past: History) -> None:
    asked: dict[str, Any] = {"warehouse": past.as_it_came}
    message = refusal(PartialFeaturesError, "2026-03-18", "2026-03-20", **asked)
    found = re.search(r"Give (\S+) or earlier as end, or leave these rows out with on_unknown='drop'\.$", message)
    assert found, message
    assert len(forecasting.training_set("GR", "2026-03-18", found[1], **FEW, **asked)) == 34 * 3
    # It is the last one.
    later = f"{pd.Timestamp(found[1]) + pd.Timedelta('1h'):%Y-%m-%dT%H:%MZ}"
    refusal(PartialFeaturesError, "2026-03-18", later, **asked)
    assert len(forecasting.training_set("GR", "2026-03-18", "2026-03-20", **FEW, **asked, on_unknown="drop")) > 102


@pytest.mark.parametrize("on_unknown", ["raise", "drop", "final"])
def test_a_window_whose_targets_are_all_to_come_is_answered_with_the_last_range(past: History, on_unknown: str) -> None:
    asked: dict[str, Any] = {"on_unknown": on_unknown, "warehouse": past.as_it_came, "horizons": [24]}
    error = PartialFeaturesError if on_unknown == "raise" else NoFeaturesError
    message = refusal(error, "2026-03-20T08:00Z", "2026-03-20T10:00Z", **asked)
    assert "there is no value of the target hours" in message
    assert "on_unknown=" not in message
    start, end = range_of(message)
    assert len(forecasting.training_set("GR", start, end, **{**FEW, **asked})) > 24


def test_a_window_that_ends_tomorrow_offers_no_older_records(past: History) -> None:
    asked: dict[str, Any] = {"warehouse": past.as_it_came}
    message = refusal(PartialFeaturesError, "2026-03-18", "2026-03-21", **asked)
    assert "were not known in time" in message
    # Their targets are to come.
    assert "max_age='" not in message
    _, end = range_of(message)
    assert len(forecasting.training_set("GR", "2026-03-18", end, **FEW, **asked)) == 34 * 3
    for choice in ("drop", "final"):
        assert f"on_unknown='{choice}'" in message
        rows = forecasting.training_set("GR", "2026-03-18", "2026-03-21", **FEW, **asked, on_unknown=choice)
        assert len(rows) > 34 * 3


@pytest.mark.parametrize(("on_unknown", "error"), [("raise", BackfilledFeaturesError), ("drop", NoFeaturesError)])
def test_a_backfilled_window_can_be_final_and_nothing_else(
    past: History, on_unknown: str, error: type[FeaturesError]
) -> None:
    asked = ("2026-03-15", "2026-03-16")
    message = refusal(error, *asked, on_unknown=on_unknown, warehouse=past.fetched_later)
    assert re.findall(r"on_unknown='(\w+)'", message) == ["final"]
    assert "as start" not in message
    rows = forecasting.training_set("GR", *asked, **FEW, on_unknown="final", warehouse=past.fetched_later)
    assert not rows.known_in_time.any()


def test_a_zone_in_other_letters_is_named_in_the_right_ones(past: History) -> None:
    for query in (
        lambda zone: forecasting.training_set(zone, "2026-03-15", "2026-03-16", **FEW, warehouse=past.as_it_came),
        lambda zone: forecasting.coverage(zone, "2026-03-15", "2026-03-16", warehouse=past.as_it_came),
        lambda zone: forecasting.latest(zone, at=NOW, warehouse=past.as_it_came),
        lambda zone: features.load(zone, warehouse=past.as_it_came),
        lambda zone: features.load(zone, "2026-03-15", "2026-03-16", known_at="1h", warehouse=past.as_it_came),
    ):
        with pytest.raises(NoFeaturesError, match="zone gr; it holds GR") as refused:
            query("gr")
        (meant,) = re.findall(r"Did you mean '(\w+)'\?$", str(refused.value))
        assert len(query(meant))
        with pytest.raises(NoFeaturesError, match=r"holds GR\. Request one of these") as refused:
            query("DE")
        (page,) = re.findall(r"docs/\S+\.md", str(refused.value))
        assert (Path(__file__).resolve().parents[2] / page).exists()


def test_a_number_instead_of_a_list_is_answered_with_the_default_list(past: History) -> None:
    asked: dict[str, Any] = {**FEW, "warehouse": past.as_it_came}
    for name in ("lags", "means"):
        with pytest.raises(
            FeaturesError, match=rf"{name} is 72; give a list of hours, as is the default: \["
        ) as refused:
            forecasting.training_set("GR", "2026-03-15", "2026-03-16", **{**asked, name: 72})
        default = [int(text) for text in re.findall(r"\d+", str(refused.value).split("default:")[1])]
        rows = forecasting.training_set("GR", "2026-03-15", "2026-03-16", **{**asked, name: [*default, 72]})
        assert f"{name.removesuffix('s')}_carbon_intensity_72h" in rows.X


def test_what_is_served_of_a_demo_that_has_ended(past: History) -> None:
    asked: dict[str, Any] = {**FEW, "warehouse": past.as_it_came}
    with pytest.raises(StaleFeaturesError, match="The tables are of a demo") as refused:
        forecasting.latest("GR", at=NOW + 3 * HOUR, **asked)
    message = str(refused.value)
    assert "emaps hours" not in message
    (at,), (age,) = re.findall(r"at='(\S+)'", message), re.findall(r"max_age='(\w+)'", message)
    assert set(forecasting.latest("GR", at=at, **asked)["age_carbon_intensity_h"]) == {2.0}
    assert len(forecasting.latest("GR", at=NOW + 3 * HOUR, max_age=age, **asked)) == 3


def test_the_tables_of_a_demo_are_made_again(tmp_path: Path) -> None:
    history = make_history(tmp_path / "demo", days=14, now=NOW)
    with pytest.raises(StaleFeaturesError) as refused:
        forecasting.latest("GR", **FEW, warehouse=history.as_it_came)
    (code,) = re.findall(r"make it again: `(.+?)`", str(refused.value))
    # The default of 42 days is made here as well.
    exec(code, {})
    assert len(forecasting.latest("GR", **FEW, warehouse=history.as_it_came)) == 3


def test_the_tables_of_make_demo_are_made_again_by_its_command(tmp_path: Path) -> None:
    folder = DemoFolder(tmp_path / "my demo")
    with folder.claimed():
        pass
    command = how_to_make_again(folder.warehouse)
    assert command is not None
    done = in_checkout(tmp_path, command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(forecasting.latest("GR", **FEW, warehouse=folder.warehouse)) == 3
    with pytest.raises(StaleFeaturesError) as refused:
        forecasting.latest("GR", **FEW, at=utc_now() + 5 * HOUR, warehouse=folder.warehouse)
    assert f"make it again: `{command}`" in str(refused.value)
    assert how_to_make_again(tmp_path / "other" / "warehouse") is None


def in_checkout(folder: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of a message in a folder that has .venv, as the checkout does."""
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("EMAPS_", "DAGSTER_"))}
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_where_nothing_or_nothing_new_is_the_command_of_the_message_fetches_it(tmp_path: Path) -> None:
    place, now = tmp_path / "my tables", utc_now().replace(microsecond=0)
    with pytest.raises(NoFeaturesError, match="There is no folder") as refused:
        forecasting.latest("GR", **FEW, warehouse=place)
    with Simulator(zones=("GR",), now=now) as simulator:

        def perform(message: str) -> None:
            (command,) = re.findall(r"`(EMAPS_WAREHOUSE=.+?)`", message)
            environment = {"EMAPS_API_URL": simulator.url, "EMAPS_FIXED_NOW": simulator.now().isoformat()}
            start = f"{now - timedelta(days=3):%Y-%m-%d}"
            done = in_checkout(tmp_path, command, **environment, EMAPS_START=start)
            assert done.returncode == 0, done.stdout + done.stderr

        perform(str(refused.value))
        assert len(features.load("GR", warehouse=place))
        assert len(forecasting.latest("GR", **FEW, at=now + timedelta(minutes=5), warehouse=place)) == 3
        later = now + 5 * HOUR
        with pytest.raises(StaleFeaturesError) as stale:
            forecasting.latest("GR", **FEW, at=later, warehouse=place)
        simulator.set_now(later - timedelta(minutes=1))
        perform(str(stale.value))
        rows = forecasting.latest("GR", **FEW, at=later, warehouse=place)
        assert set(rows["age_carbon_intensity_h"]) == {0.0}
