"""Reads the settings of `.env.example` from the environment and validates them.

No other module of the package reads environment variables; each wrong value gets one sentence of the error.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode, SettingsConfigDict
from typing_extensions import Self

from emaps_dagster.contracts.databricks_settings import DatabricksSettings
from emaps_dagster.contracts.errors import SettingsError
from emaps_dagster.contracts.paths import expanded, why_impossible
from emaps_dagster.contracts.secrets import SENDABLE, is_token
from emaps_dagster.contracts.signals import POWER_SIGNALS, PowerSignal
from emaps_dagster.contracts.windows import parse_utc

PUBLIC_API_URL = "https://api.electricitymaps.com/v3"
_PREFIX = "EMAPS_"
_ENV_FILE = ".env"
# Zone keys are country codes with optional sub-zones: GR, DK-DK1, US-CAR-DUK.
_ZONE_KEY = re.compile(r"[A-Z]{2}(-[A-Z0-9]+)*")
_MAIL = re.compile(r"[^\s@,<>]+@[^\s@,<>]+")
_NEEDS_SERVER = "EMAPS_ALERT_EMAIL is set and EMAPS_ALERT_SMTP is not: name the server, such as smtp://host:587."
_ISO = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{3}(\d{3})?)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)

_SECRETS = (
    "EMAPS_API_TOKEN",
    "EMAPS_ALERT_WEBHOOK",
    "EMAPS_ALERT_SMTP",
    "EMAPS_DATABRICKS_TOKEN",
    "EMAPS_DATABRICKS_CLIENT_SECRET",
)

Deployment = Literal["embedded", "spark", "databricks"]


class _OnCluster:
    """Mark of a setting that a launched step needs on its cluster."""


ON_CLUSTER = _OnCluster()


class Settings(DatabricksSettings):
    """Typed settings; field names are the variables of `.env.example` without `EMAPS_`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=_ENV_FILE,
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        # The inputs include the token.
        hide_input_in_errors=True,
    )

    deployment: Annotated[Deployment, ON_CLUSTER] = "embedded"
    api_url: Annotated[str, ON_CLUSTER] = PUBLIC_API_URL
    power_signal: Annotated[PowerSignal, ON_CLUSTER] = "power-breakdown"
    api_token: SecretStr | None = None
    zones: Annotated[tuple[str, ...], NoDecode, ON_CLUSTER] = ("GR",)
    warehouse: Path = Path("./warehouse")
    catalog: Annotated[str | None, ON_CLUSTER] = None
    start: Annotated[datetime, ON_CLUSTER] = datetime(2024, 1, 1, tzinfo=timezone.utc)
    fixed_now: Annotated[datetime | None, ON_CLUSTER] = None
    calls_per_minute: Annotated[float | None, ON_CLUSTER] = Field(default=None, gt=0)
    alert_webhook: SecretStr | None = None
    alert_email: Annotated[tuple[str, ...], NoDecode] = ()
    alert_smtp: SecretStr | None = None
    alert_from: str | None = None
    ui_url: str = "http://127.0.0.1:3000"

    @field_validator("deployment", mode="before")
    @classmethod
    def _known_deployment(cls, value: object) -> object:
        if value not in get_args(Deployment):
            raise ValueError("embedded, spark or databricks is allowed")
        return value

    @field_validator("power_signal", mode="before")
    @classmethod
    def _known_signal(cls, value: object) -> object:
        if value not in POWER_SIGNALS:
            raise ValueError(f"{' or '.join(POWER_SIGNALS)} is allowed")
        return value

    @model_validator(mode="after")
    def _signal_of_the_version(self) -> Self:
        # electricity-mix of v3 has other rows under the same path.
        old = re.search(r"/[vV][0-3]$", self.api_url)
        if self.power_signal == "electricity-mix" and old:
            address = self.api_url[: old.start()] + "/v4"
            why = f"EMAPS_POWER_SIGNAL is 'electricity-mix', which needs v4: set EMAPS_API_URL={address}."
            raise PydanticCustomError("power_signal", "{why}", {"why": why})
        return self

    @field_validator("api_url", "ui_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        try:
            usable = re.fullmatch(r"https?://[^/@?#\s]+(/[^?#\s@]*)?", value) and urlsplit(value).port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("an http:// or https:// address without credentials or query is allowed")
        return value.rstrip("/")

    @field_validator("api_token")
    @classmethod
    def _sendable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not is_token(value):
            raise ValueError(SENDABLE)
        return value

    @field_validator("calls_per_minute", mode="wrap")
    @classmethod
    def _positive(cls, value: object, check: ValidatorFunctionWrapHandler) -> object:
        try:
            checked = check(value)
        except ValidationError:
            checked = None
        if value is not None and (checked is None or checked == float("inf")):
            raise ValueError("a number above 0 such as 30 is allowed, or nothing for no limit")
        return checked

    @field_validator("alert_webhook")
    @classmethod
    def _webhook_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", value.get_secret_value()):
            raise ValueError("an http:// or https:// address is allowed")
        return value

    @field_validator("alert_email", mode="before")
    @classmethod
    def _split_addresses(cls, value: object) -> object:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        if not isinstance(value, (tuple, list)) or not all(isinstance(a, str) and _MAIL.fullmatch(a) for a in value):
            raise ValueError("a comma-separated list of addresses such as me@example.org is allowed")
        return tuple(value)

    @field_validator("alert_from")
    @classmethod
    def _one_address(cls, value: str | None) -> str | None:
        if value is not None and not _MAIL.fullmatch(value):
            raise ValueError("one address such as emaps@example.org is allowed")
        return value

    @field_validator("alert_smtp")
    @classmethod
    def _mail_server(cls, value: SecretStr | None) -> SecretStr | None:
        form = r"smtps?://([^\s:/@]+(:[^\s/@]*)?@)?[^\s:/@]+(:\d{1,5})?/?"
        if value is not None and not re.fullmatch(form, value.get_secret_value()):
            raise ValueError("smtp://user:password@host:587 (STARTTLS where offered) or smtps://host:465 is allowed")
        return value

    @model_validator(mode="after")
    def _warehouse_that_delta_can_write(self) -> Self:
        # Checks all parent folders too, including those of the working folder.
        folder = self.warehouse.resolve()
        why = why_impossible(folder) if self.deployment != "databricks" else None
        if why:
            raise PydanticCustomError("warehouse", "{why}", {"why": f"EMAPS_WAREHOUSE is {str(folder)!r}: {why}."})
        return self

    @model_validator(mode="after")
    def _mail_needs_a_server(self) -> Self:
        if self.alert_email and self.alert_smtp is None:
            raise PydanticCustomError("alert_smtp", "{why}", {"why": _NEEDS_SERVER})
        return self

    @field_validator("zones", mode="before")
    @classmethod
    def _split_zones(cls, value: object) -> object:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        if not isinstance(value, (tuple, list)) or not value:
            raise ValueError("a comma-separated list of zone keys such as GR,BG is allowed")
        for zone in value:
            if not isinstance(zone, str) or not _ZONE_KEY.fullmatch(zone):
                raise ValueError(f"{zone!r} is no zone key; a comma-separated list of keys like GR or IT-SO is allowed")
        return tuple(dict.fromkeys(value))

    @field_validator("warehouse", mode="before")
    @classmethod
    def _local_folder(cls, value: object) -> object:
        if not isinstance(value, (str, Path)):
            return value
        if re.match(r"[A-Za-z0-9]+:/", str(value)):
            raise ValueError("a folder of this machine is allowed; only databricks keeps tables elsewhere")
        return expanded(value)

    @field_validator("catalog")
    @classmethod
    def _one_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^\s./`]+", value):
            raise ValueError("the name of one catalog is allowed, without dots, blanks, slashes or backticks")
        return value

    @field_validator("start", mode="before")
    @classmethod
    def _start_hour(cls, value: object) -> object:
        moment = _moment(value, naive_is_utc=True)
        if moment is None or (moment.minute, moment.second, moment.microsecond) != (0, 0, 0):
            raise ValueError("a full UTC hour from 2000 to 2199 such as 2024-01-01 or 2024-01-01T06:00 is allowed")
        return moment

    @field_validator("fixed_now", mode="before")
    @classmethod
    def _fixed_present(cls, value: object) -> object:
        moment = _moment(value, naive_is_utc=False)
        if value is not None and moment is None:
            raise ValueError("a time with its zone from 2000 to 2199 such as 2024-05-04T10:07:00Z is allowed")
        return moment


def _moment(value: object, *, naive_is_utc: bool) -> datetime | None:
    """Parses a time to UTC; None if it is invalid. Rejects numbers: pydantic reads 2024 as seconds since 1970."""
    if isinstance(value, str) and _ISO.fullmatch(value):
        try:
            value = parse_utc(value, naive_is_utc=naive_is_utc)
        except ValueError:
            return None
    if not isinstance(value, datetime) or not 2000 <= value.year < 2200:
        return None
    if value.tzinfo is None:
        return value.replace(tzinfo=timezone.utc) if naive_is_utc else None
    return value.astimezone(timezone.utc)


def read_settings() -> Settings:
    """The settings of this environment: variables, then `.env` of the working folder, then defaults.

    Raises:
        SettingsError: one sentence for each wrong variable, with its name, the given value and the allowed ones.
    """
    sentences = []
    settings = None
    try:
        sentences = [_unknown(name) for name in _given_names() - _known_names()]
        settings = Settings()
    except UnicodeDecodeError:
        sentences = [f"{Path(_ENV_FILE).resolve()} is not UTF-8 text."]
    except ValidationError as error:
        sentences += [_sentence(problem) for problem in error.errors(include_url=False)]
    # Raised outside the except block: a chained pydantic error would contain the token.
    if settings is None or sentences:
        raise SettingsError(" ".join(sorted(sentences)))
    return settings


def on_databricks_cluster() -> bool:
    """Whether this process runs on a Databricks cluster, where no step is launched and no host is set."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def _known_names() -> set[str]:
    return {_PREFIX + field.upper() for field in Settings.model_fields}


def _given_names() -> set[str]:
    names = (*os.environ, *(dotenv_values(_ENV_FILE) if Path(_ENV_FILE).is_file() else ()))
    return {name.upper() for name in names if name.upper().startswith(_PREFIX)}


def _unknown(name: str) -> str:
    # Otherwise a misspelt EMAPS_ZONES would silently select the default zone.
    close = get_close_matches(name, _known_names(), n=1)
    meant = f"; did you mean {close[0]}?" if close else "."
    return f"{name} is an unknown setting: {', '.join(sorted(_known_names()))} are allowed{meant}"


def _sentence(problem: Any) -> str:
    if not problem["loc"]:
        return str(problem["msg"])
    name = _PREFIX + str(problem["loc"][0]).upper()
    value = str(problem["input"])
    # Never echoes a token, not even a malformed one, nor a password in an address.
    addresses = ("EMAPS_API_URL", "EMAPS_DATABRICKS_HOST", "EMAPS_UI_URL")
    secret = name in _SECRETS or (name in addresses and re.search("[@?]", value))
    given = "a value that is not shown" if secret else repr(value)
    return f"{name} is {given}: {problem['msg'].removeprefix('Value error, ')}."
