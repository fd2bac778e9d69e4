"""Secrets in settings: refused when they cannot be sent, and shown nowhere."""

from __future__ import annotations

import traceback

import pytest
from pydantic import SecretStr, ValidationError

from emaps_dagster.contracts.errors import SettingsError
from emaps_dagster.contracts.secrets import is_token
from emaps_dagster.contracts.settings import Settings, read_settings

ADDRESS = "an http:// or https:// address without credentials or query is allowed."


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


@pytest.mark.parametrize("name", ["EMAPS_DATABRICKS_TOKEN", "EMAPS_DATABRICKS_CLIENT_SECRET"])
def test_a_secret_of_databricks_is_as_secret_as_the_token(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "s3cret")
    settings = read_settings()
    assert "s3cret" not in repr(settings) + str(settings) + settings.model_dump_json()
    monkeypatch.setenv(name, "s3cret half")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert str(caught.value).startswith(f"{name} is a value that is not shown: one word")
    assert "s3cret" not in told(caught.value)


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
