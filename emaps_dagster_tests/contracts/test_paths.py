"""Where a warehouse may lie: the home is expanded, and what no engine can read is refused by name."""

from __future__ import annotations

import tempfile
from datetime import datetime, timezone
from pathlib import Path

import pytest

from emaps_dagster import features
from emaps_dagster.contracts.errors import FeaturesError, LakehouseError, NoFeaturesError, SettingsError
from emaps_dagster.contracts.paths import plain_path
from emaps_dagster.contracts.settings import read_settings

DAY = datetime(2024, 5, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(("name", "part"), [("my%20data", "%20"), ("a%2Fb", "%2F"), ("a[b]", "["), ("a|b", "|")])
def test_a_warehouse_that_delta_cannot_write_is_refused_by_the_settings(
    name: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMAPS_WAREHOUSE", f"{name}/warehouse")
    folder = str(tmp_path / name / "warehouse")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value).startswith(f"EMAPS_WAREHOUSE is {folder!r}: Delta's writer ")
    assert str(caught.value).endswith("; choose another folder.")
    assert repr(part) in str(caught.value)
    # Tables of a catalog do not lie in it.
    monkeypatch.setenv("EMAPS_DEPLOYMENT", "databricks")
    assert read_settings().warehouse == Path(name, "warehouse")
    with pytest.raises(FeaturesError, match=r"^warehouse is .*Delta's writer .* choose another folder"):
        features.load("GR", DAY, DAY.replace(hour=1), warehouse=tmp_path / name / "warehouse")
    # The remedy: another folder.
    monkeypatch.delenv("EMAPS_DEPLOYMENT")
    monkeypatch.setenv("EMAPS_WAREHOUSE", "another/warehouse")
    assert plain_path(read_settings().warehouse.resolve()) == tmp_path / "another" / "warehouse"


def test_a_working_folder_that_delta_cannot_write_is_refused_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my%20data").mkdir()
    monkeypatch.chdir(tmp_path / "my%20data")
    with pytest.raises(SettingsError, match="takes '%20' in a path for another character"):
        read_settings()


@pytest.mark.parametrize("name", ["100%", "my data", "gr\u00f6sse", "a#b?c", "50%zz"])
def test_other_names_are_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_WAREHOUSE", str(tmp_path / name))
    assert read_settings().warehouse == tmp_path / name


def test_the_home_is_expanded_in_the_setting_and_in_the_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EMAPS_WAREHOUSE", "~/warehouse")
    assert read_settings().warehouse == tmp_path / "warehouse"
    told = f"There is no gold.ml_features at {tmp_path / 'data' / 'gold' / 'ml_features'}."
    with pytest.raises(NoFeaturesError, match=f"^{told}"):
        features.load("GR", DAY, DAY.replace(hour=1), warehouse="~/data")


def test_the_home_without_a_user_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_WAREHOUSE", "~no-such-user/warehouse")
    told = "the home ~no-such-user is not known; for a folder of that name write ./~no-such-user"
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value) == f"EMAPS_WAREHOUSE is '~no-such-user/warehouse': {told}."
    with pytest.raises(FeaturesError, match=f"^warehouse is '~no-such-user/warehouse': {told}.$"):
        features.load("GR", DAY, DAY.replace(hour=1), warehouse="~no-such-user/warehouse")


def test_a_folder_named_like_a_home_is_written_with_a_dot_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMAPS_WAREHOUSE", "./~no-such-user/warehouse")
    folder = tmp_path / "~no-such-user" / "warehouse"
    assert read_settings().warehouse == folder
    for given in ({"warehouse": "./~no-such-user/warehouse"}, {}):
        with pytest.raises(NoFeaturesError, match=f"^There is no gold.ml_features at {folder}/gold/ml_features"):
            features.load("GR", DAY, DAY.replace(hour=1), **given)


def test_no_plain_name_anywhere_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tempfile.mkdtemp
    named = tmp_path / "plain"
    named.mkdir()

    def nowhere(**given: str) -> str:
        if given["dir"] == str(named):
            return make(**given)
        raise OSError

    monkeypatch.setattr("tempfile.mkdtemp", nowhere)
    with pytest.raises(LakehouseError, match=r"^EMAPS_WAREHOUSE is .*Set TMPDIR to a folder whose path has letters"):
        plain_path(tmp_path / "my data")
    assert not (tmp_path / "my data").exists()
    # The remedy. Python looks for TMPDIR once.
    monkeypatch.setenv("TMPDIR", str(named))
    monkeypatch.setattr("tempfile.tempdir", None)
    link = plain_path(tmp_path / "my data")
    assert link.parent.parent == named
    assert link.resolve() == tmp_path / "my data"
