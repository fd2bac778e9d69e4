"""The settings `EMAPS_DATABRICKS_*`: workspace, credentials, cluster and timeouts.

defs/resources/databricks/ uses them. The cluster itself needs none of them.
"""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from emaps_dagster.contracts.errors import SettingsError
from emaps_dagster.contracts.secrets import SENDABLE, is_token

JOB_LEVELS = ("CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE")

_PREFIX = "EMAPS_"
_WORD = "one word without blanks, quotes or slashes is allowed"
# A name of Unity Catalog, and what may lie below a volume or the root of DBFS.
_PATH = re.compile(r"(dbfs:(?!/Volumes/)(/[\w.-]+)+|/Volumes(/[\w.-]+){3,})", re.ASCII)
_ACCESSOR = re.compile(r"(user|group|service_principal):([^,:=]+)")
_LONGEST = 7 * 24 * 3600


class DatabricksSettings(BaseSettings):
    """Workspace, cluster and timeouts for the steps of deployment `databricks`."""

    databricks_host: str | None = None
    databricks_token: SecretStr | None = None
    databricks_client_id: str | None = None
    databricks_client_secret: SecretStr | None = None
    databricks_cluster_id: str | None = None
    databricks_node_type: str | None = None
    databricks_workers: int = 0
    # Spark 4.0, the version that pyproject.toml pins.
    databricks_runtime: str = "17.3.x-scala2.13"
    databricks_policy_id: str | None = None
    databricks_single_user: str | None = None
    databricks_secret_scope: str = "emaps"  # noqa: S105  # the name of a scope
    databricks_secret_key: str = "api-token"  # noqa: S105  # the name of a secret
    databricks_staging: str = "dbfs:/dagster_staging"
    databricks_permissions: Annotated[tuple[tuple[str, str, str], ...], NoDecode] = ()
    databricks_poll_seconds: float = 5.0
    # Twice what a year's backfill of ten zones takes; a run that hangs must not keep a cluster for a day.
    databricks_timeout_seconds: int = 4 * 3600
    databricks_wait_seconds: int | None = None

    @field_validator("databricks_host")
    @classmethod
    def _workspace_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        address = value if "://" in value else f"https://{value}"
        if not re.fullmatch(r"https?://[\w.-]+(:\d{1,5})?/?", address, re.ASCII):
            raise ValueError("the https:// address of a workspace is allowed, without path, credentials or query")
        return address.rstrip("/")

    @field_validator("databricks_token", "databricks_client_secret")
    @classmethod
    def _sendable_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not is_token(value):
            raise ValueError(SENDABLE)
        return value

    @field_validator(
        "databricks_client_id",
        "databricks_cluster_id",
        "databricks_node_type",
        "databricks_runtime",
        "databricks_policy_id",
        "databricks_secret_scope",
        "databricks_secret_key",
    )
    @classmethod
    def _one_word(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.@-]+", value, re.ASCII):
            raise ValueError(_WORD)
        return value

    @field_validator("databricks_staging")
    @classmethod
    def _staging_folder(cls, value: str) -> str:
        path = value.rstrip("/")
        if not _PATH.fullmatch(path) or ".." in path.split("/"):
            raise ValueError("a folder dbfs:/name or /Volumes/catalog/schema/volume is allowed, or one below it")
        return path

    @field_validator("databricks_permissions", mode="before")
    @classmethod
    def _permissions(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        granted = []
        for part in filter(None, (part.strip() for part in value.split(","))):
            level, _, accessor = part.partition("=")
            named = _ACCESSOR.fullmatch(accessor)
            if level not in JOB_LEVELS or not named:
                raise ValueError(
                    f"{part!r} is no permission; a comma-separated list of {', '.join(JOB_LEVELS)} with =user:NAME, "
                    "=group:NAME or =service_principal:ID is allowed"
                )
            granted.append((level, named[1], named[2]))
        return tuple(granted)

    @field_validator("databricks_workers", mode="before")
    @classmethod
    def _workers(cls, value: object) -> object:
        return _whole_number(value, 0, 1000, "0 for a single node")

    @field_validator("databricks_timeout_seconds", "databricks_wait_seconds", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        return value if value is None else _whole_number(value, 1, _LONGEST, "seconds")

    @field_validator("databricks_poll_seconds", mode="before")
    @classmethod
    def _pause(cls, value: object) -> object:
        try:
            seconds = float(value)  # type: ignore[arg-type]  # anything but a number raises
        except (TypeError, ValueError):
            seconds = math.nan
        if not 0.05 <= seconds <= 300:
            raise ValueError("a number of seconds from 0.05 to 300 is allowed")
        return seconds

    @property
    def databricks_patience_seconds(self) -> int:
        """Seconds a step waits for its run: longer than Databricks' own timeout, so that its reason is reported."""
        return self.databricks_wait_seconds or self.databricks_timeout_seconds + 600


def check_workspace(settings: DatabricksSettings) -> None:
    """Checks that the settings suffice to launch a step.

    Raises:
        SettingsError: settings are missing or exclude each other; the message names all of them.
    """
    given = {name for name in type(settings).model_fields if getattr(settings, name) is not None}
    missing = []
    if "databricks_host" not in given:
        missing.append(_name("host"))
    pair = ("client_id", "client_secret")
    there = [name for name in pair if f"databricks_{name}" in given]
    if len(there) == 1:
        missing += [_name(name) for name in pair if name not in there]
    elif not there and "databricks_token" not in given:
        missing.append(f"{_name('token')} (or {' and '.join(map(_name, pair))})")
    if not given & {"databricks_cluster_id", "databricks_node_type"}:
        missing.append(f"{_name('cluster_id')} (or {_name('node_type')} for a cluster of each step's own)")
    problems = []
    if missing:
        problems.append(f"EMAPS_DEPLOYMENT is 'databricks', which also needs {', '.join(missing)}.")
    if there and "databricks_token" in given:
        problems.append(f"{_name('token')} and {_name(there[0])} are two ways to say who asks: give one.")
    if "databricks_cluster_id" in given:
        idle = sorted(given & {"databricks_node_type", "databricks_policy_id", "databricks_single_user"})
        problems += [
            f"{_PREFIX}{name.upper()} is for a new cluster, but {_name('cluster_id')} names one." for name in idle
        ]
    if problems:
        raise SettingsError(" ".join([*problems, "See docs/databricks.md, Settings."]))


def _name(field: str) -> str:
    return f"{_PREFIX}DATABRICKS_{field.upper()}"


def _whole_number(value: object, least: int, most: int, what: str) -> int:
    if (
        isinstance(value, bool)
        or not re.fullmatch(r"\d{1,9}", str(value), re.ASCII)
        or not least <= int(str(value)) <= most
    ):
        raise ValueError(f"a whole number from {least} to {most} is allowed ({what})")
    return int(str(value))
