"""The settings `EMAPS_DATABRICKS_*`: workspace, credentials, compute and timeouts.

defs/resources/databricks/ uses them. The cluster itself needs none of them.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

from emaps_dagster.contracts.errors import SettingsError
from emaps_dagster.contracts.setting_types import Allowed, Token

JOB_LEVELS = ("CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE")

# A name of Unity Catalog, and what may lie below a volume or the root of DBFS.
_PATH = re.compile(r"(dbfs:(?!/Volumes/)(/[\w.-]+)+|/Volumes(/[\w.-]+){3,})", re.ASCII)
_ACCESSOR = re.compile(r"(user|group|service_principal):([^,:=]+)")
_LONGEST = 7 * 24 * 3600
# What describes a cluster; serverless compute has none.
_OF_CLUSTERS = ("cluster_id", "node_type", "workers", "runtime", "policy_id", "single_user")


def _permissions(value: object) -> object:
    if not isinstance(value, str):
        return value
    granted = []
    for part in filter(None, map(str.strip, value.split(","))):
        level, _, accessor = part.partition("=")
        named = _ACCESSOR.fullmatch(accessor)
        if level not in JOB_LEVELS or not named:
            raise ValueError(
                f"{part!r} is no permission; a comma-separated list of {', '.join(JOB_LEVELS)} with =user:NAME, "
                "=group:NAME or =service_principal:ID is allowed"
            )
        granted.append((level, named[1], named[2]))
    return tuple(granted)


def _staging_folder(value: str) -> str:
    path = value.rstrip("/")
    if not _PATH.fullmatch(path) or ".." in path.split("/"):
        raise ValueError("it is no such folder")
    return path


def _workspace_address(value: str) -> str:
    return (value if "://" in value else f"https://{value}").rstrip("/")


Workspace = Annotated[
    str,
    Field(pattern=r"^(https?://)?[A-Za-z0-9_.-]+(:[0-9]{1,5})?/?$"),
    AfterValidator(_workspace_address),
    Allowed("the https:// address of a workspace is allowed, without path, credentials or query"),
]
Word = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.@-]+$"), Allowed("one word without blanks, quotes or slashes is allowed")
]
Staging = Annotated[
    str,
    AfterValidator(_staging_folder),
    Allowed("a folder dbfs:/name or /Volumes/catalog/schema/volume is allowed, or one below it"),
]
Compute = Annotated[Literal["cluster", "serverless"], Allowed("cluster or serverless is allowed")]
Fetch = Annotated[Literal["cluster", "host"], Allowed("cluster or host is allowed")]
PerformanceTarget = Annotated[
    Literal["PERFORMANCE_OPTIMIZED", "STANDARD"],
    Allowed("PERFORMANCE_OPTIMIZED or STANDARD is allowed, or nothing for Databricks' default"),
]
Permissions = Annotated[tuple[tuple[str, str, str], ...], NoDecode, BeforeValidator(_permissions)]
Workers = Annotated[
    int, Field(ge=0, le=1000), Allowed("a whole number from 0 to 1000 is allowed (0 for a single node)")
]
Seconds = Annotated[int, Field(ge=1, le=_LONGEST), Allowed(f"a whole number from 1 to {_LONGEST} is allowed (seconds)")]
Pause = Annotated[
    float, Field(ge=0.05, le=300, allow_inf_nan=False), Allowed("a number of seconds from 0.05 to 300 is allowed")
]


class DatabricksSettings(BaseModel):
    """Workspace, compute and timeouts for the steps of deployment `databricks`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    host: Workspace | None = None
    token: Token | None = None
    client_id: Word | None = None
    client_secret: Token | None = None
    compute: Compute = "cluster"
    performance_target: PerformanceTarget | None = None
    cluster_id: Word | None = None
    node_type: Word | None = None
    workers: Workers = 0
    # Spark 4.0, the version that pyproject.toml pins.
    runtime: Word = "17.3.x-scala2.13"
    policy_id: Word | None = None
    single_user: str | None = None
    fetch: Fetch = "cluster"
    secret_scope: Word = "emaps"  # noqa: S105  # the name of a scope
    secret_key: Word = "api-token"  # noqa: S105  # the name of a secret
    staging: Staging = "dbfs:/dagster_staging"
    permissions: Permissions = ()
    poll_seconds: Pause = 5.0
    # Of all steps of a run together: twice the 4 h that are enough for the longest step of a year's backfill of ten
    # zones. A run that hangs must not keep a cluster for a day.
    timeout_seconds: Seconds = 8 * 3600
    wait_seconds: Seconds | None = None

    @property
    def patience_seconds(self) -> int:
        """Seconds that Dagster waits for a run with all its steps.

        They are more than Databricks' own timeout, so that its reason is reported.
        """
        return self.wait_seconds or self.timeout_seconds + 600


def check_workspace(settings: DatabricksSettings) -> None:
    """Checks that the settings suffice to launch steps.

    Raises:
        SettingsError: settings are missing or exclude each other; the message names all of them.
    """
    given = {name for name in type(settings).model_fields if getattr(settings, name) is not None}
    missing = []
    if "host" not in given:
        missing.append(_name("host"))
    pair = ("client_id", "client_secret")
    there = [name for name in pair if name in given]
    if len(there) == 1:
        missing += [_name(name) for name in pair if name not in there]
    elif not there and "token" not in given:
        missing.append(f"{_name('token')} (or {' and '.join(map(_name, pair))})")
    serverless = settings.compute == "serverless"
    if not serverless and not given & {"cluster_id", "node_type"}:
        missing.append(
            f"{_name('cluster_id')} (or {_name('node_type')} for a cluster of each run's own, or "
            f"{_name('compute')}=serverless)"
        )
    problems = []
    if missing:
        problems.append(f"EMAPS_DEPLOYMENT is 'databricks', which also needs {', '.join(missing)}.")
    if there and "token" in given:
        problems.append(f"{_name('token')} and {_name(there[0])} are two ways to authenticate: give one.")
    if serverless:
        problems += _problems_of_serverless(settings)
    elif settings.performance_target is not None:
        problems.append(f"{_name('performance_target')} is for {_name('compute')}=serverless only.")
    if "cluster_id" in given and not serverless:
        idle = sorted(given & {"node_type", "policy_id", "single_user"})
        problems += [f"{_name(name)} is for a new cluster, but {_name('cluster_id')} names one." for name in idle]
    if problems:
        raise SettingsError(" ".join([*problems, "See docs/databricks.md, Settings."]))


def _problems_of_serverless(settings: DatabricksSettings) -> list[str]:
    fields = type(settings).model_fields
    # Those that differ: a copy of .env.example gives the defaults of all.
    idle = [name for name in _OF_CLUSTERS if getattr(settings, name) != fields[name].default]
    problems = [f"{_name(name)} is for a cluster, but {_name('compute')} is 'serverless'." for name in idle]
    if not settings.staging.startswith("/Volumes/"):
        problems.append(
            f"{_name('compute')} is 'serverless', which has no DBFS: set {_name('staging')} to a folder of a volume, "
            "/Volumes/catalog/schema/volume."
        )
    return problems


def _name(field: str) -> str:
    return f"EMAPS_DATABRICKS_{field.upper()}"
