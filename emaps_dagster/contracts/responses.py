"""An API response, and the records of it that are quarantined."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from emaps_dagster.contracts.zones import Feed


@dataclass(frozen=True)
class RejectedRecord:
    """One record that was quarantined.

    Attributes:
        position: its place in the body's list, from 0.
        hour: the hour it is about: as it says, or else the one that its neighbours leave for it; None if neither does.
        record_json: the record as it stands in the body.
        reason: why, one phrase.
    """

    position: int
    hour: datetime | None
    record_json: str
    reason: str


@dataclass(frozen=True)
class Response:
    """One body that came with status 200. What follows `received_at` is empty until it was judged.

    Attributes:
        window_start: first hour that a trusted record has; of rejected ones when none is trusted.
        window_end: end of the last such hour.
        trusted_json: the body with its trusted records alone; None when engines may read it as it is.
        rejected: the records that were quarantined.
    """

    feed: Feed
    zone: str
    endpoint: str
    request: str
    body: str
    received_at: datetime
    window_start: datetime | None = None
    window_end: datetime | None = None
    trusted_json: str | None = None
    rejected: tuple[RejectedRecord, ...] = ()

    @property
    def source(self) -> str:
        """API, version and endpoint; the version is the last part of the base URL, `unversioned` if it is none."""
        before = self.request.partition("?")[0].removesuffix(f"/{self.feed.endpoint}/{self.endpoint}")
        last = before.rpartition("/")[2]
        version = last if re.fullmatch(r"[vV]\d[\w.-]*", last, re.ASCII) else "unversioned"
        return f"electricitymaps/{version}/{self.feed.endpoint}/{self.endpoint}"

    @property
    def payload_sha256(self) -> str:
        return hashlib.sha256(self.body.encode()).hexdigest()

    @property
    def trusted_body(self) -> str:
        """What may be read of it."""
        return self.body if self.trusted_json is None else self.trusted_json

    @property
    def first_hour(self) -> datetime:
        """The first hour that it has a record of, trusted or not."""
        assert self.window_start is not None
        return min([self.window_start, *(record.hour for record in self.rejected if record.hour is not None)])
