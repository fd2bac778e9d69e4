"""Reads the settings of `.env.example` from the environment and validates them.

No other module of the package reads environment variables; each wrong value gets one sentence of the error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import Self

from emaps_dagster.contracts.databricks_settings import DatabricksSettings
from emaps_dagster.contracts.errors import SettingsError
from emaps_dagster.contracts.paths import why_impossible
from emaps_dagster.contracts.setting_types import (
    ON_CLUSTER,
    Allowed,
    CatalogName,
    Deployment,
    Folder,
    FullHour,
    HttpAddress,
    MailAddress,
    MailAddresses,
    MailServer,
    Megabytes,
    PowerSignalName,
    Present,
    Rate,
    Token,
    WebhookAddress,
    ZoneKeys,
    parts_of,
)

PUBLIC_API_URL = "https://api.electricitymaps.com/v3"
_PREFIX = "EMAPS_"
_ENV_FILE = ".env"
_NEEDS_SERVER = "EMAPS_ALERT_EMAIL is set and EMAPS_ALERT_SMTP is not: name the server, such as smtp://host:587."


class Settings(BaseSettings):
    """Typed settings; a field is a variable of `.env.example` without `EMAPS_`, `databricks` holds its own."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=_ENV_FILE,
        # EMAPS_DATABRICKS_CLUSTER_ID is databricks.cluster_id.
        env_nested_delimiter="_",
        env_nested_max_split=1,
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        # The inputs include the token.
        hide_input_in_errors=True,
    )

    deployment: Annotated[Deployment, ON_CLUSTER] = "embedded"
    api_url: Annotated[HttpAddress, ON_CLUSTER] = PUBLIC_API_URL
    power_signal: Annotated[PowerSignalName, ON_CLUSTER] = "power-breakdown"
    api_token: Token | None = None
    zones: Annotated[ZoneKeys, ON_CLUSTER] = ("GR",)
    warehouse: Folder = Path("./warehouse")
    features_cache_mb: Megabytes = 512
    catalog: Annotated[CatalogName | None, ON_CLUSTER] = None
    start: Annotated[FullHour, ON_CLUSTER] = datetime(2024, 1, 1, tzinfo=timezone.utc)
    fixed_now: Annotated[Present, ON_CLUSTER] = None
    calls_per_minute: Annotated[Rate | None, ON_CLUSTER] = None
    alert_webhook: WebhookAddress | None = None
    alert_email: MailAddresses = ()
    alert_smtp: MailServer | None = None
    alert_from: MailAddress | None = None
    ui_url: HttpAddress = "http://127.0.0.1:3000"
    databricks: DatabricksSettings = DatabricksSettings()

    @model_validator(mode="after")
    def _signal_of_the_version(self) -> Self:
        # electricity-mix of v3 has other rows under the same path.
        old = re.search(r"/[vV][0-3]$", self.api_url)
        if self.power_signal == "electricity-mix" and old:
            address = self.api_url[: old.start()] + "/v4"
            why = f"EMAPS_POWER_SIGNAL is 'electricity-mix', which needs v4: set EMAPS_API_URL={address}."
            raise PydanticCustomError("power_signal", "{why}", {"why": why})
        return self

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


def variables_of(model: type[BaseModel] = Settings, prefix: str = _PREFIX) -> Iterator[tuple[str, FieldInfo]]:
    """The variables of a settings model and of the models that it contains, with their fields."""
    for field, info in model.model_fields.items():
        name = prefix + field.upper()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from variables_of(info.annotation, f"{name}_")
        else:
            yield name, info


def read_settings() -> Settings:
    """The settings of this environment: variables, then `.env` of the working folder, then defaults.

    Raises:
        SettingsError: one sentence for each wrong variable, with its name, the given value and the allowed ones.
    """
    sentences = []
    settings = None
    try:
        sentences = [_unknown(name) for name in _given_names() - _known_names()]
        if f"{_PREFIX}DATABRICKS" not in _given_names():
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
    """Whether this process runs on Databricks' compute, where no step is launched and no host is set."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def on_serverless() -> bool:
    """Whether this process runs on Databricks' serverless compute, which has Spark Connect only."""
    return os.environ.get("IS_SERVERLESS", "").lower() == "true"


def _known_names() -> set[str]:
    return {name for name, _ in variables_of()}


def _given_names() -> set[str]:
    names = (*os.environ, *(dotenv_values(_ENV_FILE) if Path(_ENV_FILE).is_file() else ()))
    return {name.upper() for name in names if name.upper().startswith(_PREFIX)}


def _unknown(name: str) -> str:
    # Otherwise a misspelt EMAPS_ZONES would silently select the default zone.
    close = get_close_matches(name, _known_names(), n=1)
    meant = f"; did you mean {close[0]}?" if close else "."
    return f"{name} is an unknown setting: {', '.join(sorted(_known_names()))} are allowed{meant}"


def _sentence(problem: Any) -> str:
    # The place in a list is no part of the variable's name.
    name = _PREFIX + "_".join(part.upper() for part in problem["loc"] if isinstance(part, str))
    field = dict(variables_of()).get(name)
    if field is None:
        return str(problem["msg"])
    value = str(problem["input"])
    parts = [*parts_of(field.annotation), *field.metadata]
    # Never echoes a token, not even a malformed one, nor a password in an address.
    hidden = SecretStr in parts or (name.endswith(("_URL", "_HOST")) and re.search("[@?]", value))
    allowed = [part.phrase for part in parts if isinstance(part, Allowed)]
    phrase = allowed[0] if allowed else problem["msg"].removeprefix("Value error, ")
    return f"{name} is {'a value that is not shown' if hidden else repr(value)}: {phrase}."
