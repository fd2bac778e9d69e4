"""An API response as received, and as admitted with its quarantined records."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime

from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import Feed


@dataclass(frozen=True)
class RejectedRecord:
    """One quarantined record.

    Attributes:
        position: index in the body's list, from 0.
        hour: the record's hour: its own `datetime`, or else inferred from its neighbours; None if neither works.
        record_json: the record's text in the body.
        reason: why it is quarantined, one phrase.
    """

    position: int
    hour: datetime | None
    record_json: str
    reason: str


@dataclass(frozen=True)
class RawResponse:
    """One body received with status 200, before admission.

    Attributes:
        ends_by: end of the hour that was running by the provider's clock; no record can be of a later one. None if
            the response had no readable `Date`.
    """

    feed: Feed
    zone: str
    endpoint: str
    request: str
    body: str
    received_at: datetime
    ends_by: datetime | None = field(default=None, kw_only=True, compare=False)

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


@dataclass(frozen=True)
class AcceptedResponse(RawResponse):
    """A response that bronze may store.

    Attributes:
        window: the hours from the first to the last trusted record; of rejected records when none is trusted.
        trusted_json: the body with its trusted records only; None when engines may read `body` itself.
        rejected: the quarantined records.
    """

    window: Window
    trusted_json: str | None = None
    rejected: tuple[RejectedRecord, ...] = ()

    @classmethod
    def of(
        cls,
        raw: RawResponse,
        window: Window,
        trusted_json: str | None = None,
        rejected: tuple[RejectedRecord, ...] = (),
    ) -> AcceptedResponse:
        """`raw` with the results of its admission."""
        return cls(
            raw.feed,
            raw.zone,
            raw.endpoint,
            raw.request,
            raw.body,
            raw.received_at,
            window,
            trusted_json,
            rejected,
            ends_by=raw.ends_by,
        )

    @property
    def trusted_body(self) -> str:
        """The body without its quarantined records."""
        return self.body if self.trusted_json is None else self.trusted_json

    @property
    def first_hour(self) -> datetime:
        """The first hour of any record, trusted or not."""
        return min([self.window.start, *(record.hour for record in self.rejected if record.hour is not None)])
