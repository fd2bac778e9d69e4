"""The settings of `.env.example`, read once from the environment and checked.

Nothing else in the package reads environment variables; a wrong value is one sentence.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from emaps_dagster.errors import SettingsError

PUBLIC_API_URL = "https://api.electricitymaps.com/v3"
# Zone keys are country codes with optional sub-zones: GR, DK-DK1, US-CAR-DUK.
_ZONE_KEY = re.compile(r"^[A-Z]{2}(-[A-Z0-9]+)*$")

Deployment = Literal["embedded", "spark", "databricks"]


class Settings(BaseSettings):
    """Typed settings; field names are the variables of `.env.example` without `EMAPS_`."""

    model_config = SettingsConfigDict(
        env_prefix="EMAPS_", env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    deployment: Deployment = "embedded"
    api_url: str = PUBLIC_API_URL
    api_token: SecretStr | None = None
    zones: Annotated[tuple[str, ...], NoDecode] = ("GR",)
    warehouse: Path = Path("./warehouse")
    catalog: str | None = None
    start: datetime = datetime(2024, 1, 1, tzinfo=timezone.utc)
    now: AwareDatetime | None = Field(
        default=None, description="Replays only: what a run takes for the present, ISO 8601 with zone."
    )

    @field_validator("api_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        if not re.match(r"^https?://[^/@\s]+(/[^?#\s@]*)?$", value):
            raise ValueError("an http:// or https:// address without credentials or query is allowed")
        return value.rstrip("/")

    @field_validator("zones", mode="before")
    @classmethod
    def _split_zones(cls, value: object) -> object:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        if not isinstance(value, (tuple, list)) or not value:
            raise ValueError("a comma-separated list of zone keys such as GR,BG is allowed")
        for zone in value:
            if not isinstance(zone, str) or not _ZONE_KEY.match(zone):
                raise ValueError(f"{zone!r} is no zone key; keys look like GR or IT-SO")
        return tuple(dict.fromkeys(value))

    @field_validator("start", mode="after")
    @classmethod
    def _start_hour(cls, value: datetime) -> datetime:
        value = value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)
        if (value.minute, value.second, value.microsecond) != (0, 0, 0):
            raise ValueError("a full UTC hour such as 2024-01-01 or 2024-01-01T06:00 is allowed")
        return value


def read_settings() -> Settings:
    """The settings of this environment.

    Raises:
        SettingsError: one sentence a wrong variable: which, what was given, what is allowed.
    """
    try:
        return Settings()
    except ValidationError as error:
        sentences = []
        for problem in error.errors():
            name = "EMAPS_" + str(problem["loc"][0]).upper() if problem["loc"] else "the settings"
            # A token is never echoed, not even a malformed one.
            given = "a value that is not shown" if "TOKEN" in name else repr(problem["input"])
            sentences.append(f"{name} is {given}: {problem['msg'].removeprefix('Value error, ')}.")
        raise SettingsError(" ".join(sentences)) from None


@cache
def settings() -> Settings:
    """`read_settings`, once a process."""
    return read_settings()
