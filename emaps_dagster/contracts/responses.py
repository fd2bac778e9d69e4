"""An API response, and its quarantined records."""

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
        position: index in the body's list, from 0.
        hour: of its own time field, or else the only hour that its neighbours leave open; None without either.
        record_json: the record, verbatim from the body.
        reason: one phrase.
    """

    position: int
    hour: datetime | None
    record_json: str
    reason: str


@dataclass(frozen=True)
class Response:
    """One body with status 200. Admission sets the fields after `received_at`.

    Attributes:
        window_start: first hour of the trusted records; of the rejected ones when none is trusted.
        window_end: end of the last such hour.
        trusted_json: the body with its trusted records only; None when engines may read the body itself.
        rejected: the quarantined records.
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
        """The body that engines may read: trusted records only."""
        return self.body if self.trusted_json is None else self.trusted_json

    @property
    def first_hour(self) -> datetime:
        """The first hour of any record, trusted or not."""
        assert self.window_start is not None
        return min([self.window_start, *(record.hour for record in self.rejected if record.hour is not None)])
