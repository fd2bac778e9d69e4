"""The settings: defaults, every variable, every wrong value, and `.env.example`."""

from __future__ import annotations

import traceback
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from emaps_dagster.errors import SettingsError
from emaps_dagster.settings import Settings, is_token, read_settings

UTC = timezone.utc
EXAMPLE = Path(__file__).resolve().parents[1] / ".env.example"
DEFAULTS = {
    "deployment": "embedded",
    "api_url": "https://api.electricitymaps.com/v3",
    "api_token": None,
    "zones": ("GR",),
    "warehouse": Path("./warehouse"),
    "catalog": None,
    "start": datetime(2024, 1, 1, tzinfo=UTC),
    "now": None,
}
NAMES = [f"EMAPS_{field.upper()}" for field in DEFAULTS]


def test_without_variables_everything_has_its_default() -> None:
    assert read_settings().model_dump() == DEFAULTS


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    assert read_settings().model_dump() == DEFAULTS


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("EMAPS_DEPLOYMENT", "embedded", "embedded"),
        ("EMAPS_DEPLOYMENT", "spark", "spark"),
        ("EMAPS_DEPLOYMENT", "databricks", "databricks"),
        ("EMAPS_API_URL", "http://127.0.0.1:8765/v3", "http://127.0.0.1:8765/v3"),
        ("EMAPS_API_URL", "https://api.example.org/v4/", "https://api.example.org/v4"),
        ("EMAPS_API_URL", "http://[::1]:80", "http://[::1]:80"),
        ("EMAPS_API_TOKEN", "s3cret/Token+=~", SecretStr("s3cret/Token+=~")),
        ("EMAPS_ZONES", "BG", ("BG",)),
        ("EMAPS_ZONES", "GR,BG,IT-SO,US-CAR-DUK,DK-DK1", ("GR", "BG", "IT-SO", "US-CAR-DUK", "DK-DK1")),
        ("EMAPS_ZONES", " GR , BG,", ("GR", "BG")),
        ("EMAPS_ZONES", "GR,BG,GR,GR", ("GR", "BG")),
        ("EMAPS_WAREHOUSE", "/data/lake house", Path("/data/lake house")),
        ("EMAPS_WAREHOUSE", "~/lake", Path.home() / "lake"),
        ("EMAPS_CATALOG", "energy-dev_1", "energy-dev_1"),
        ("EMAPS_START", "2023-06-01", datetime(2023, 6, 1, tzinfo=UTC)),
        ("EMAPS_START", "2023-06-01T06:00", datetime(2023, 6, 1, 6, tzinfo=UTC)),
        ("EMAPS_START", "2023-06-01T06:00:00Z", datetime(2023, 6, 1, 6, tzinfo=UTC)),
        ("EMAPS_START", "2023-06-01T06:00:00+03:00", datetime(2023, 6, 1, 3, tzinfo=UTC)),
        ("EMAPS_NOW", "2024-05-04T10:07:00Z", datetime(2024, 5, 4, 10, 7, tzinfo=UTC)),
        ("EMAPS_NOW", "2024-05-04T10:07:00+03:00", datetime(2024, 5, 4, 7, 7, tzinfo=UTC)),
        # What Python's isoformat() gives.
        ("EMAPS_NOW", "2024-05-04T10:07:00.123456+00:00", datetime(2024, 5, 4, 10, 7, 0, 123456, tzinfo=UTC)),
    ],
)
def test_a_variable_sets_its_field_and_no_other(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str, value: object
) -> None:
    monkeypatch.setenv(name, given)
    settings = read_settings()
    assert settings.model_dump() == {**DEFAULTS, name.removeprefix("EMAPS_").lower(): value}
    for moment in (settings.start, settings.now or settings.start):
        assert moment.utcoffset() == timedelta(0)


DEPLOYMENTS = "embedded, spark or databricks is allowed."
ADDRESS = "an http:// or https:// address without credentials or query is allowed."
LIST = "is no zone key; a comma-separated list of keys like GR or IT-SO is allowed."
FOLDER = "a folder of this machine is allowed; only databricks keeps tables elsewhere."
HOUR = "a full UTC hour from 2000 to 2199 such as 2024-01-01 or 2024-01-01T06:00 is allowed."
MOMENT = "a time with its zone from 2000 to 2199 such as 2024-05-04T10:07:00Z is allowed."


@pytest.mark.parametrize(
    ("name", "given", "allowed"),
    [
        ("EMAPS_DEPLOYMENT", "Embedded", DEPLOYMENTS),
        ("EMAPS_DEPLOYMENT", "cluster", DEPLOYMENTS),
        *(
            ("EMAPS_API_URL", url, ADDRESS)
            for url in ("api.example.org/v3", "ftp://host/v3", "http://", "http:///v3", "http://ho st/v3",
                        "http://host/v3#top", "http://host:99999/v3", "http://host:port/v3", "http://host/v3\n")
        ),
        ("EMAPS_ZONES", "gr", f"'gr' {LIST}"),
        ("EMAPS_ZONES", "GR;BG", f"'GR;BG' {LIST}"),
        ("EMAPS_ZONES", "GR,GREECE", f"'GREECE' {LIST}"),
        ("EMAPS_ZONES", "GR,IT_SO", f"'IT_SO' {LIST}"),
        ("EMAPS_ZONES", " , ", "a comma-separated list of zone keys such as GR,BG is allowed."),
        ("EMAPS_WAREHOUSE", "s3://bucket/lake", FOLDER),
        ("EMAPS_WAREHOUSE", "dbfs:/lake", FOLDER),
        *(
            ("EMAPS_CATALOG", name, "the name of one catalog is allowed, without dots, blanks, slashes or backticks.")
            for name in ("main.silver", "my catalog", "a`b", "a/b")
        ),
        *(
            ("EMAPS_START", text, HOUR)
            for text in ("yesterday", "2024", "3600", "1704067200", "2024-01-01T00:30", "2024-02-30", "2024-13-01",
                         "01.01.2024", "0204-01-01", "2024-01-01T06:00:00+05:30", "2024-W01-1")
        ),
        *(
            ("EMAPS_NOW", text, MOMENT)
            for text in ("now", "2024-05-04", "2024-05-04T10:07", "2024-05-04T10:07:00", "1714817220",
                         "2024-05-04T25:00:00Z")
        ),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_sentence_with_what_was_given_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str, allowed: str
) -> None:
    monkeypatch.setenv(name, given)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value) == f"{name} is {given!r}: {allowed}"


def test_every_wrong_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_ZONES", "gr")
    monkeypatch.setenv("EMAPS_DEPLOYMENT", "x")
    monkeypatch.setenv("EMAPS_FOO", "x")
    with pytest.raises(SettingsError, match=r"^EMAPS_DEPLOYMENT is 'x'.* EMAPS_FOO is no .* EMAPS_ZONES is 'gr'"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EMAPS_ZONE", "; did you mean EMAPS_ZONES?"),
        ("EMAPS_TOKEN", "; did you mean EMAPS_API_TOKEN?"),
        ("emaps_api_ur", "; did you mean EMAPS_API_URL?"),
        ("EMAPS_QQQQQQQQQQQQ", "."),
    ],
)
@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_misspelt_name_is_an_error_that_says_which_names_there_are(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str, where: str
) -> None:
    if where == ".env":
        Path(".env").write_text(f"{name}=s3cret\n")
    else:
        monkeypatch.setenv(name, "s3cret")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value) == f"{name.upper()} is no setting: {', '.join(sorted(NAMES))} are allowed{meant}"


def test_names_of_other_programs_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("DAGSTER_HOME=/x\nZONES=BG\nMY_EMAPS_ZONE=BG\n")
    monkeypatch.setenv("DEPLOYMENT", "x")
    assert read_settings().model_dump() == DEFAULTS


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["s3cret half", "s3cret\nhalf", "s3cret\n", "s3cret\thalf", "s3cretß", "s3cret\x7f"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("EMAPS_API_TOKEN", token)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value) == (
        "EMAPS_API_TOKEN is a value that is not shown: one word of printable ASCII characters is allowed, "
        "without blanks or line breaks."
    )
    assert "s3cret" not in told(caught.value)
    assert not is_token(SecretStr(token))


def test_a_token_is_not_shown_when_another_value_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_API_TOKEN", "s3cret")
    monkeypatch.setenv("EMAPS_ZONES", "gr")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert "s3cret" not in told(caught.value)


def test_settings_show_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_API_TOKEN", "s3cret")
    settings = read_settings()
    assert settings.api_token is not None
    assert settings.api_token.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_wrong_token_given_in_code_is_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(api_token=SecretStr("s3cret half"))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://me:s3cret@host/v3", "https://host/v3?auth-token=s3cret", "https://s3cret@host"]
)
def test_a_password_in_an_address_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("EMAPS_API_URL", url)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value) == f"EMAPS_API_URL is a value that is not shown: {ADDRESS}"
    assert "s3cret" not in told(caught.value)


def told(error: BaseException) -> str:
    """What a person or a log can get out of an exception and its chain."""
    said = [*traceback.format_exception(error)]
    link: BaseException | None = error
    while link is not None:
        said += [str(link), repr(link), repr(vars(link))]
        link = link.__context__
    return "\n".join(said)


# --- files ----------------------------------------------------------------------------------------


def test_the_env_file_of_the_working_folder_is_read_and_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("# a comment\nEMAPS_ZONES=BG,AL\nEMAPS_START='2023-01-01'\nEMAPS_CATALOG=\n")
    monkeypatch.setenv("EMAPS_ZONES", "TR")
    assert read_settings().model_dump() == {**DEFAULTS, "zones": ("TR",), "start": datetime(2023, 1, 1, tzinfo=UTC)}


def test_a_wrong_value_in_the_env_file_is_told_like_any_other() -> None:
    Path(".env").write_text("EMAPS_DEPLOYMENT=cluster\n")
    with pytest.raises(SettingsError, match=f"^EMAPS_DEPLOYMENT is 'cluster': {DEPLOYMENTS}$"):
        read_settings()


def test_an_env_file_that_is_not_text_is_named() -> None:
    Path(".env").write_bytes(b"EMAPS_ZONES=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env is not UTF-8 text\.$"):
        read_settings()


def test_settings_are_read_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings().zones == ("GR",)
    monkeypatch.setenv("EMAPS_ZONES", "BG")
    assert read_settings().zones == ("BG",)


def test_the_example_names_every_setting_with_a_comment_and_its_default() -> None:
    text = EXAMPLE.read_text("utf-8")
    head, *blocks = text.strip().split("\n\n")
    assert all(line.startswith("# ") for line in head.splitlines())
    names = []
    for block in blocks:
        *comments, setting = block.splitlines()
        assert comments
        assert all(line.startswith("# ") for line in comments)
        names.append(setting.partition("=")[0])
    assert names == NAMES
    Path(".env").write_text(text, "utf-8")
    assert read_settings().model_dump() == DEFAULTS
