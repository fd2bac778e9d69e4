"""What a test can do to the hours of a provider: revise, withhold, silence, duplicate, shuffle, spoil a record, ...

Two times matter: the hours it is about, [start, end), and when whoever asks sees it, [since, until).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal, get_args

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.contracts.zones import FEEDS, MODE_KEYS, Feed

Kind = Literal["revise", "withhold", "drop_neighbour", "add_neighbour", "silence", "duplicate", "shuffle", "spoil"]

# The first hour the simulator knows, and a moment after all others.
FIRST_HOUR = datetime(2021, 1, 1, tzinfo=timezone.utc)
NEVER = datetime(9999, 1, 1, tzinfo=timezone.utc)
# What `silence` can take beside a mode: the carbon feed's one value.
CARBON_INTENSITY = "carbonIntensity"


# How a record can be spoiled so that it must not be loaded.
Flaw = Literal[
    "absurd_number",  # one flow or intensity beyond anything
    "infinite_number",  # 1e400
    "not_a_number",  # NaN, as Python's own writer makes it
    "text_number",  # a number as a string
    "unknown_mode",  # a production mode that the API never had; the carbon feed gets a wrong type
    "null_record",  # null instead of the record
    "unreadable_time",
    "far_hour",  # another century
    "other_zone",
    "missing_key",
    "repeated_key",
]
FLAWS: tuple[str, ...] = get_args(Flaw)


@dataclass(frozen=True)
class Perturbation:
    """One planted fact.

    Attributes:
        feed: None for both.
        name: the neighbour or mode that it is about.
        variant: which other opinion the hour shows; the same number is the same opinion.
        updated_at: the `updatedAt` of a revision; None for the moment it is first seen.
    """

    kind: Kind
    zone: str
    start: datetime = FIRST_HOUR
    end: datetime = NEVER
    since: datetime = FIRST_HOUR
    until: datetime = NEVER
    feed: Feed | None = None
    name: str = ""
    variant: int | None = None
    updated_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.kind == "silence" and self.name not in (*MODE_KEYS, CARBON_INTENSITY):
            raise ValueError(f"silence {self.name!r}: one of {', '.join(MODE_KEYS)} or {CARBON_INTENSITY} is allowed")
        if self.kind == "spoil" and self.name not in FLAWS:
            raise ValueError(f"spoil {self.name!r}: one of {', '.join(FLAWS)} is allowed")
        for moment in (self.start, self.end, self.since, self.until, self.updated_at):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{self.kind}: {moment.isoformat()} has no time zone")

    def is_seen(self, feed: Feed, zone: str, at: datetime) -> bool:
        return self.zone == zone and self.feed in (None, feed) and self.since <= at < self.until


class Perturbations:
    """What was planted, in order; methods are the vocabulary of tests and of `POST /_control`."""

    def __init__(self) -> None:
        self.planted: list[Perturbation] = []

    def revise(
        self,
        zone: str,
        hour: datetime,
        *,
        at: datetime,
        feed: Feed | None = None,
        variant: int | None = None,
        end: datetime | None = None,
        updated_at: datetime | None = None,
    ) -> None:
        """From `at` on an hour (all up to `end`) has other values: a new variant, or a given one; 0 is the truth.

        The revision with the latest `at` shows, of equal ones the one planted last. `updated_at` lets the row claim
        another time of update than `at`, an older one too.
        """
        given = 1000 + len(self.planted) if variant is None else variant
        self._plant("revise", zone, hour, end or hour + HOUR, at, None, feed, variant=given, updated_at=updated_at)

    def withhold(
        self,
        zone: str,
        start: datetime,
        end: datetime,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        feed: Feed | None = None,
    ) -> None:
        """The feed lacks the hours [start, end)."""
        self._plant("withhold", zone, start, end, since, until, feed)

    def drop_neighbour(
        self,
        zone: str,
        neighbour: str,
        start: datetime,
        end: datetime | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        """Nothing flows to or from a neighbour, and no map has its key; the rest balances."""
        self._plant("drop_neighbour", zone, start, end, since, until, name=neighbour)

    def add_neighbour(
        self,
        zone: str,
        neighbour: str,
        start: datetime,
        end: datetime | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        """Power flows to and from a neighbour that `zones.py` does not list."""
        self._plant("add_neighbour", zone, start, end, since, until, name=neighbour)

    def silence(
        self,
        zone: str,
        mode: str,
        start: datetime,
        end: datetime | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        """A mode's production is not reported (null); `carbonIntensity` silences the carbon feed's value."""
        self._plant("silence", zone, start, end, since, until, name=mode)

    def duplicate(
        self,
        zone: str,
        hour: datetime,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        feed: Feed | None = None,
        variant: int | None = None,
    ) -> None:
        """Bodies carry the hour's row twice; with `variant` the second has that opinion's values, same `updatedAt`."""
        self._plant("duplicate", zone, hour, hour + HOUR, since, until, feed, variant=variant)

    def shuffle(
        self, zone: str, *, since: datetime | None = None, until: datetime | None = None, feed: Feed | None = None
    ) -> None:
        """The rows of bodies come in another order, always the same one."""
        self._plant("shuffle", zone, FIRST_HOUR, None, since, until, feed)

    def spoil(
        self,
        zone: str,
        hour: datetime,
        flaw: str,
        *,
        end: datetime | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        feed: Feed | None = None,
    ) -> None:
        """The record of an hour (of all up to `end`) comes with a flaw for which it must not be loaded."""
        self._plant("spoil", zone, hour, end or hour + HOUR, since, until, feed, name=flaw)

    def clear(self) -> None:
        """Forget everything that was planted."""
        self.planted.clear()

    def _plant(
        self,
        kind: Kind,
        zone: str,
        start: datetime,
        end: datetime | None,
        since: datetime | None,
        until: datetime | None,
        feed: Feed | None = None,
        *,
        name: str = "",
        variant: int | None = None,
        updated_at: datetime | None = None,
    ) -> None:
        one = Perturbation(
            kind, zone, start, end or NEVER, since or FIRST_HOUR, until or NEVER, feed, name, variant, updated_at
        )
        self.planted.append(one)

    def apply_command(self, order: dict[str, str | int | None]) -> None:
        """Plant what another process orders: `do` names the method, the rest are its arguments, times in ISO 8601."""
        arguments: dict[str, object] = dict(order)
        name = arguments.pop("do", None)
        if name not in _ORDERS:
            raise ValueError(f"do {name!r}: one of {', '.join(_ORDERS)} is allowed")
        for key in arguments.keys() & {"hour", "start", "end", "at", "since", "until", "updated_at"}:
            arguments[key] = moment(str(arguments[key]))
        if "feed" in arguments:
            arguments["feed"] = next((feed for feed in FEEDS if arguments["feed"] in (feed.name, feed.endpoint)), None)
        getattr(self, str(name))(**arguments)


_ORDERS = ("revise", "withhold", "drop_neighbour", "add_neighbour", "silence", "duplicate", "shuffle", "spoil", "clear")


def moment(text: str) -> datetime:
    """A time in ISO 8601, `Z` allowed, UTC when it names no zone."""
    parsed = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    return parsed.replace(tzinfo=timezone.utc) if parsed.tzinfo is None else parsed.astimezone(timezone.utc)
