"""The settings: defaults, every variable, every wrong value, and `.env.example`."""

from __future__ import annotations

import re
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from emaps_dagster.contracts.errors import SettingsError
from emaps_dagster.contracts.settings import read_settings

UTC = timezone.utc
EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"
DATABRICKS = {
    "host": None,
    "token": None,
    "client_id": None,
    "client_secret": None,
    "compute": "cluster",
    "performance_target": None,
    "cluster_id": None,
    "node_type": None,
    "workers": 0,
    "runtime": "17.3.x-scala2.13",
    "policy_id": None,
    "single_user": None,
    "fetch": "cluster",
    "secret_scope": "emaps",
    "secret_key": "api-token",
    "staging": "dbfs:/dagster_staging",
    "permissions": (),
    "poll_seconds": 5.0,
    "timeout_seconds": 28800,
    "wait_seconds": None,
}
DEFAULTS = {
    "deployment": "embedded",
    "api_url": "https://api.electricitymaps.com/v3",
    "power_signal": "power-breakdown",
    "api_token": None,
    "zones": ("GR",),
    "warehouse": Path("./warehouse"),
    "features_cache_mb": 512,
    "catalog": None,
    "start": datetime(2024, 1, 1, tzinfo=UTC),
    "fixed_now": None,
    "calls_per_minute": None,
    "alert_webhook": None,
    "alert_email": (),
    "alert_smtp": None,
    "alert_from": None,
    "ui_url": "http://127.0.0.1:3000",
    "databricks": DATABRICKS,
}
NAMES = [
    *(f"EMAPS_{field.upper()}" for field in DEFAULTS if field != "databricks"),
    *(f"EMAPS_DATABRICKS_{field.upper()}" for field in DATABRICKS),
]


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
        ("EMAPS_POWER_SIGNAL", "power-breakdown", "power-breakdown"),
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
        ("EMAPS_FIXED_NOW", "2024-05-04T10:07:00Z", datetime(2024, 5, 4, 10, 7, tzinfo=UTC)),
        ("EMAPS_FIXED_NOW", "2024-05-04T10:07:00+03:00", datetime(2024, 5, 4, 7, 7, tzinfo=UTC)),
        # What Python's isoformat() gives.
        ("EMAPS_FIXED_NOW", "2024-05-04T10:07:00.123456+00:00", datetime(2024, 5, 4, 10, 7, 0, 123456, tzinfo=UTC)),
        ("EMAPS_DATABRICKS_HOST", "https://adb-1.2.azuredatabricks.net/", "https://adb-1.2.azuredatabricks.net"),
        ("EMAPS_DATABRICKS_HOST", "dbc-1.cloud.databricks.com", "https://dbc-1.cloud.databricks.com"),
        ("EMAPS_DATABRICKS_HOST", "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("EMAPS_DATABRICKS_TOKEN", "dapi0123", SecretStr("dapi0123")),
        ("EMAPS_DATABRICKS_COMPUTE", "serverless", "serverless"),
        ("EMAPS_DATABRICKS_FETCH", "host", "host"),
        ("EMAPS_DATABRICKS_PERFORMANCE_TARGET", "STANDARD", "STANDARD"),
        ("EMAPS_DATABRICKS_WORKERS", "2", 2),
        ("EMAPS_DATABRICKS_STAGING", "/Volumes/main/emaps/staging/", "/Volumes/main/emaps/staging"),
        ("EMAPS_DATABRICKS_STAGING", "dbfs:/tmp/emaps", "dbfs:/tmp/emaps"),
        (
            "EMAPS_DATABRICKS_PERMISSIONS",
            "CAN_VIEW=group:data analysts, CAN_MANAGE_RUN=user:me@example.org",
            (("CAN_VIEW", "group", "data analysts"), ("CAN_MANAGE_RUN", "user", "me@example.org")),
        ),
        ("EMAPS_DATABRICKS_POLL_SECONDS", "0.25", 0.25),
        ("EMAPS_DATABRICKS_TIMEOUT_SECONDS", "3600", 3600),
        ("EMAPS_DATABRICKS_WAIT_SECONDS", "60", 60),
    ],
)
def test_a_variable_sets_its_field_and_no_other(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str, value: object
) -> None:
    monkeypatch.setenv(name, given)
    settings = read_settings()
    expected = deepcopy(DEFAULTS)
    field = name.removeprefix("EMAPS_").lower()
    inner: Any = expected["databricks"] if field.startswith("databricks_") else expected
    inner[field.removeprefix("databricks_")] = value
    assert settings.model_dump() == expected
    for moment in (settings.start, settings.fixed_now or settings.start):
        assert moment.utcoffset() == timedelta(0)


def test_electricity_mix_needs_an_address_of_v4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_POWER_SIGNAL", "electricity-mix")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    remedy = "EMAPS_API_URL=https://api.electricitymaps.com/v4"
    assert str(caught.value) == f"EMAPS_POWER_SIGNAL is 'electricity-mix', which needs v4: set {remedy}."
    name, _, value = remedy.partition("=")
    monkeypatch.setenv(name, value)
    assert read_settings().power_signal == "electricity-mix"
    # A gateway may serve v4 without its name.
    monkeypatch.setenv(name, "http://gateway.example.org/emaps")
    assert read_settings().power_signal == "electricity-mix"
    monkeypatch.setenv("EMAPS_POWER_SIGNAL", "mix")
    with pytest.raises(SettingsError, match="power-breakdown or electricity-mix is allowed"):
        read_settings()


DEPLOYMENTS = "embedded, spark or databricks is allowed."
ADDRESS = "an http:// or https:// address without credentials or query is allowed."
LIST = "is no zone key; a comma-separated list of keys like GR or IT-SO is allowed."
FOLDER = "a folder of this machine is allowed; only databricks keeps tables elsewhere."
HOUR = "a full UTC hour from 2000 to 2199 such as 2024-01-01 or 2024-01-01T06:00 is allowed."
WORKSPACE = "the https:// address of a workspace is allowed, without path, credentials or query."
STAGED = "a folder dbfs:/name or /Volumes/catalog/schema/volume is allowed, or one below it."
PERMITTED = (
    "is no permission; a comma-separated list of CAN_VIEW, CAN_MANAGE_RUN, CAN_MANAGE with =user:NAME, =group:NAME or "
    "=service_principal:ID is allowed."
)
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
            ("EMAPS_FIXED_NOW", text, MOMENT)
            for text in ("now", "2024-05-04", "2024-05-04T10:07", "2024-05-04T10:07:00", "1714817220",
                         "2024-05-04T25:00:00Z")
        ),
        *(("EMAPS_DATABRICKS_HOST", url, WORKSPACE) for url in ("https://host/path", "ftp://host", "https://", "a b")),
        *(
            ("EMAPS_DATABRICKS_STAGING", path, STAGED)
            for path in ("/tmp/x", "dbfs:/", "dbfs:x", "/Volumes/main/emaps", "dbfs:/Volumes/a/b/c", "dbfs:/a/../b",
                         "s3://bucket/x", "/Volumes/main/emaps/my volume")
        ),
        ("EMAPS_DATABRICKS_PERMISSIONS", "CAN_RUN=group:x", f"'CAN_RUN=group:x' {PERMITTED}"),
        ("EMAPS_DATABRICKS_PERMISSIONS", "CAN_VIEW=everybody", f"'CAN_VIEW=everybody' {PERMITTED}"),
        *(
            ("EMAPS_DATABRICKS_WORKERS", text, "a whole number from 0 to 1000 is allowed (0 for a single node).")
            for text in ("two", "-1", "1.5", "1001")
        ),
        *(
            ("EMAPS_DATABRICKS_POLL_SECONDS", text, "a number of seconds from 0.05 to 300 is allowed.")
            for text in ("often", "0", "nan", "inf", "301")
        ),
        ("EMAPS_DATABRICKS_TIMEOUT_SECONDS", "0", "a whole number from 1 to 604800 is allowed (seconds)."),
        ("EMAPS_DATABRICKS_WAIT_SECONDS", "4h", "a whole number from 1 to 604800 is allowed (seconds)."),
        ("EMAPS_DATABRICKS_COMPUTE", "warehouse", "cluster or serverless is allowed."),
        ("EMAPS_DATABRICKS_FETCH", "me", "cluster or host is allowed."),
        (
            "EMAPS_DATABRICKS_PERFORMANCE_TARGET",
            "fast",
            "PERFORMANCE_OPTIMIZED or STANDARD is allowed, or nothing for Databricks' default.",
        ),
        ("EMAPS_DATABRICKS_CLUSTER_ID", "my cluster", "one word without blanks, quotes or slashes is allowed."),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_sentence_with_what_was_given_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str, allowed: str
) -> None:
    monkeypatch.setenv(name, given)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value) == f"{name} is {given!r}: {allowed}"


@pytest.mark.parametrize(
    ("name", "given", "examples"),
    [
        ("EMAPS_DEPLOYMENT", "cluster", ["embedded", "spark"]),
        ("EMAPS_API_URL", "api.example.org/v3", ["http://api.example.org/v3", "https://api.example.org/v3"]),
        ("EMAPS_UI_URL", "dagster", ["http://dagster", "https://dagster"]),
        ("EMAPS_ZONES", " , ", ["GR,BG"]),
        ("EMAPS_ZONES", "gr", ["GR", "IT-SO"]),
        ("EMAPS_START", "yesterday", ["2024-01-01", "2024-01-01T06:00"]),
        ("EMAPS_FIXED_NOW", "fixed_now", ["2024-05-04T10:07:00Z"]),
        ("EMAPS_CALLS_PER_MINUTE", "0", ["30", ""]),
        ("EMAPS_ALERT_WEBHOOK", "chat", ["http://chat", "https://chat"]),
        ("EMAPS_ALERT_FROM", "me", ["emaps@example.org"]),
        ("EMAPS_ALERT_SMTP", "host", ["smtp://user:password@host:587", "smtps://host:465"]),
        ("EMAPS_API_TOKEN", "two words", ["oneword"]),
        ("EMAPS_WAREHOUSE", "s3://bucket/lake", ["lake"]),
        ("EMAPS_CATALOG", "main.silver", ["main"]),
    ],
)
def test_what_a_sentence_allows_is_taken(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str, examples: list[str]
) -> None:
    monkeypatch.setenv(name, given)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    for example in examples:
        stands = example in str(caught.value) or example.split("://")[0] in str(caught.value)
        assert stands or example in ("", "oneword", "lake", "main")
        monkeypatch.setenv(name, example)
        read_settings()


def test_mail_needs_the_server_that_the_sentence_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_ALERT_EMAIL", "me")
    with pytest.raises(SettingsError, match=r"such as me@example\.org is allowed"):
        read_settings()
    monkeypatch.setenv("EMAPS_ALERT_EMAIL", "me@example.org")
    with pytest.raises(SettingsError, match="name the server, such as smtp://host:587"):
        read_settings()
    monkeypatch.setenv("EMAPS_ALERT_SMTP", "smtp://host:587")
    assert read_settings().alert_email == ("me@example.org",)


def test_every_wrong_value_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAPS_ZONES", "gr")
    monkeypatch.setenv("EMAPS_DEPLOYMENT", "x")
    monkeypatch.setenv("EMAPS_FOO", "x")
    with pytest.raises(
        SettingsError, match=r"^EMAPS_DEPLOYMENT is 'x'.* EMAPS_FOO is an unknown setting.* EMAPS_ZONES is 'gr'"
    ):
        read_settings()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EMAPS_ZONE", "; did you mean EMAPS_ZONES?"),
        ("EMAPS_TOKEN", "; did you mean EMAPS_API_TOKEN?"),
        ("emaps_api_ur", "; did you mean EMAPS_API_URL?"),
        ("EMAPS_QQQQQQQQQQQQ", "."),
        # The variables of the workspace are single ones, not a JSON object.
        ("EMAPS_DATABRICKS", "; did you mean EMAPS_DATABRICKS_HOST?"),
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
    assert str(caught.value) == f"{name.upper()} is an unknown setting: {', '.join(sorted(NAMES))} are allowed{meant}"
    if named := re.search("EMAPS_[A-Z_]+", meant):
        right = {"EMAPS_ZONES": "BG", "EMAPS_API_TOKEN": "s3cret", "EMAPS_API_URL": "http://h/v3"}.get(named[0], "h")
        if where == ".env":
            Path(".env").write_text(f"{named[0]}={right}\n")
        else:
            monkeypatch.delenv(name)
            monkeypatch.setenv(named[0], right)
        read_settings()


def test_names_of_other_programs_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("DAGSTER_HOME=/x\nZONES=BG\nMY_EMAPS_ZONE=BG\n")
    monkeypatch.setenv("DEPLOYMENT", "x")
    assert read_settings().model_dump() == DEFAULTS


def test_the_env_file_of_the_working_folder_is_read_and_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("# a comment\nEMAPS_ZONES=BG,AL\nEMAPS_START='2023-01-01'\nEMAPS_CATALOG=\n")
    monkeypatch.setenv("EMAPS_ZONES", "TR")
    assert read_settings().model_dump() == {**DEFAULTS, "zones": ("TR",), "start": datetime(2023, 1, 1, tzinfo=UTC)}


def test_a_wrong_value_in_the_env_file_is_reported_like_any_other() -> None:
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
