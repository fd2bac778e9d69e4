"""Types of settings: Pydantic constraints, and beside each the sentence for a value that does not meet them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from emaps_dagster.contracts.paths import expanded
from emaps_dagster.contracts.secrets import SENDABLE, is_token
from emaps_dagster.contracts.signals import POWER_SIGNALS, PowerSignal
from emaps_dagster.contracts.windows import parse_utc


@dataclass(frozen=True)
class Allowed:
    """The phrase that follows "is 'value': " in the error of a setting."""

    phrase: str


def parts_of(annotation: Any) -> Iterator[Any]:
    """The types and marks that an annotation is made of: `Annotated[A, mark] | None` gives A, mark and None."""
    if not isinstance(annotation, type) and get_args(annotation):
        for part in get_args(annotation):
            yield from parts_of(part)
    else:
        yield annotation


class _OnCluster:
    """Mark of a setting that a launched step needs on its cluster."""


ON_CLUSTER = _OnCluster()

_ISO = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{3}(\d{3})?)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
# Zone keys are country codes with optional sub-zones: GR, DK-DK1, US-CAR-DUK.
_ZONE_KEY = re.compile(r"[A-Z]{2}(-[A-Z0-9]+)*")
_MAIL = r"^[^\s@,<>]+@[^\s@,<>]+$"


def _port_exists(value: str) -> str:
    urlsplit(value).port  # noqa: B018  # raises for a port above 65535
    return value.rstrip("/")


def _secret_like(pattern: str) -> AfterValidator:
    """A secret that matches the pattern: Pydantic's own constraint does not look into a SecretStr."""

    def check(value: SecretStr) -> SecretStr:
        if not re.fullmatch(pattern, value.get_secret_value()):
            raise ValueError(pattern)
        return value

    return AfterValidator(check)


def _sendable(value: SecretStr) -> SecretStr:
    if not is_token(value):
        raise ValueError(SENDABLE)
    return value


def _split_list(value: object) -> object:
    """The parts of a comma-separated list."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _zone_keys(value: object) -> object:
    """Each zone once; the error names the first part that is no zone key."""
    parts = _split_list(value)
    if not isinstance(parts, (tuple, list)) or not parts:
        raise ValueError("a comma-separated list of zone keys such as GR,BG is allowed")
    for zone in parts:
        if not isinstance(zone, str) or not _ZONE_KEY.fullmatch(zone):
            raise ValueError(f"{zone!r} is no zone key; a comma-separated list of keys like GR or IT-SO is allowed")
    return tuple(dict.fromkeys(parts))


def _local_folder(value: object) -> object:
    if not isinstance(value, (str, Path)):
        return value
    if re.match(r"[A-Za-z0-9]+:/", str(value)):
        raise ValueError("a folder of this machine is allowed; only databricks keeps tables elsewhere")
    return expanded(value)


def _moment(value: object, *, naive_is_utc: bool) -> datetime:
    """Parses a time to UTC. Rejects numbers: Pydantic reads 2024 as seconds since 1970."""
    if isinstance(value, str) and _ISO.fullmatch(value):
        value = parse_utc(value, naive_is_utc=naive_is_utc)
    if not isinstance(value, datetime) or not 2000 <= value.year < 2200:
        raise ValueError("it is no time of these centuries")
    if value.tzinfo is None:
        if not naive_is_utc:
            raise ValueError("it has no time zone")
        return value.replace(tzinfo=timezone.utc)
    return value.astimezone(timezone.utc)


def _full_hour(value: object) -> datetime:
    moment = _moment(value, naive_is_utc=True)
    if (moment.minute, moment.second, moment.microsecond) != (0, 0, 0):
        raise ValueError("it is no full hour")
    return moment


def _present(value: object) -> object:
    return value if value is None else _moment(value, naive_is_utc=False)


Deployment = Annotated[Literal["embedded", "spark", "databricks"], Allowed("embedded, spark or databricks is allowed")]
PowerSignalName = Annotated[PowerSignal, Allowed(f"{' or '.join(POWER_SIGNALS)} is allowed")]
HttpAddress = Annotated[
    str,
    Field(pattern=r"^https?://[^/@?#\s]+(/[^?#\s@]*)?$"),
    AfterValidator(_port_exists),
    Allowed("an http:// or https:// address without credentials or query is allowed"),
]
Token = Annotated[SecretStr, AfterValidator(_sendable), Allowed(SENDABLE)]
ZoneKeys = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_zone_keys)]
Folder = Annotated[Path, BeforeValidator(_local_folder)]
CatalogName = Annotated[
    str,
    Field(pattern=r"^[^\s./`]+$"),
    Allowed("the name of one catalog is allowed, without dots, blanks, slashes or backticks"),
]
FullHour = Annotated[
    datetime,
    BeforeValidator(_full_hour),
    Allowed("a full UTC hour from 2000 to 2199 such as 2024-01-01 or 2024-01-01T06:00 is allowed"),
]
Present = Annotated[
    datetime | None,
    BeforeValidator(_present),
    Allowed("a time with its zone from 2000 to 2199 such as 2024-05-04T10:07:00Z is allowed"),
]
Rate = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    Allowed("a number above 0 such as 30 is allowed, or nothing for no limit"),
]
Megabytes = Annotated[
    int,
    Field(ge=0, lt=1_000_000_000),
    Allowed("a whole number of megabytes such as 512 is allowed, or 0 for no cache"),
]
WebhookAddress = Annotated[
    SecretStr, _secret_like(r"https?://[^/\s]+(/\S*)?"), Allowed("an http:// or https:// address is allowed")
]
MailAddress = Annotated[str, Field(pattern=_MAIL), Allowed("one address such as emaps@example.org is allowed")]
MailAddresses = Annotated[
    tuple[Annotated[str, Field(pattern=_MAIL)], ...],
    NoDecode,
    BeforeValidator(_split_list),
    Allowed("a comma-separated list of addresses such as me@example.org is allowed"),
]
MailServer = Annotated[
    SecretStr,
    _secret_like(r"smtps?://([^\s:/@]+(:[^\s/@]*)?@)?[^\s:/@]+(:\d{1,5})?/?"),
    Allowed("smtp://user:password@host:587 (STARTTLS where offered) or smtps://host:465 is allowed"),
]
