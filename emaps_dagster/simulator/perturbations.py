"""Perturbations that a test plants in a provider's hours: revise, withhold, silence, duplicate, shuffle, spoil, ...

Each has two windows: the hours that it changes, [start, end), and the time in which requests see it, [since, until).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal, get_args

from emaps_dagster.contracts.signals import MIX_SIGNALS
from emaps_dagster.contracts.windows import HOUR, parse_utc
from emaps_dagster.contracts.zones import FEEDS, MODE_KEYS, POWER, Feed

Kind = Literal[
    "revise",
    "withhold",
    "drop_neighbour",
    "add_neighbour",
    "swap_flows",
    "both_ways",
    "carry_flows",
    "silence",
    "duplicate",
    "shuffle",
    "spoil",
]

# The first hour the simulator knows, and a moment after all others.
FIRST_HOUR = datetime(2021, 1, 1, tzinfo=timezone.utc)
NEVER = datetime(9999, 1, 1, tzinfo=timezone.utc)
# `silence` accepts this besides a mode: the carbon feed's only value.
CARBON_INTENSITY = "carbonIntensity"


# Flaws of a record for which it must not be loaded.
Flaw = Literal[
    "absurd_number",  # one flow or intensity beyond any plausible value
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
    """One planted change.

    Attributes:
        feed: None for all; the power feed stands for each signal that v4 serves instead of it.
        name: the affected neighbour or mode.
        variant: number of the variant of values that the hour shows; equal numbers show equal values.
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
        of_feed = self.feed in (None, feed) or (self.feed == POWER and feed in MIX_SIGNALS)
        return self.zone == zone and of_feed and self.since <= at < self.until


class Perturbations:
    """The planted perturbations, in order; tests and `POST /_control` call the methods by name."""

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
        """Changes the values of an hour (all up to `end`) from `at` on, to a new variant or a given one; 0: truth.

        The revision with the latest `at` applies, of equal ones the one planted last. `updated_at` sets the row's time
        of update to another time than `at`, possibly an older one.
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
        """Removes the hours [start, end) from the feed."""
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
        """Removes the flows of a neighbour and its key from the maps; the other values still balance."""
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
        """Adds flows to and from a neighbour that `zones.py` does not list."""
        self._plant("add_neighbour", zone, start, end, since, until, name=neighbour)

    def swap_flows(
        self,
        zone: str,
        neighbour: str,
        start: datetime,
        end: datetime | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        """Exchanges a neighbour's import and export in the maps; the totals keep the right directions."""
        self._plant("swap_flows", zone, start, end, since, until, name=neighbour)

    def both_ways(
        self,
        zone: str,
        neighbour: str,
        start: datetime,
        end: datetime | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        """Adds 7 MW to a neighbour's import and export, so that it is in both maps; the totals include them."""
        self._plant("both_ways", zone, start, end, since, until, name=neighbour)

    def carry_flows(
        self,
        zone: str,
        start: datetime,
        end: datetime | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        """Shows the flows of the hour before, maps and totals; production and consumption keep their values."""
        self._plant("carry_flows", zone, start, end, since, until)

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
        """Sets a mode's production to null; `carbonIntensity` does so for the carbon feed's value."""
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
        """Repeats the hour's row in bodies; with `variant` the second has that variant's values, same `updatedAt`."""
        self._plant("duplicate", zone, hour, hour + HOUR, since, until, feed, variant=variant)

    def shuffle(
        self, zone: str, *, since: datetime | None = None, until: datetime | None = None, feed: Feed | None = None
    ) -> None:
        """Puts the rows of bodies in another order, always the same one."""
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
        """Gives the record of an hour (of all up to `end`) a flaw for which it must not be loaded."""
        self._plant("spoil", zone, hour, end or hour + HOUR, since, until, feed, name=flaw)

    def clear(self) -> None:
        """Removes all perturbations."""
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
        perturbation = Perturbation(
            kind, zone, start, end or NEVER, since or FIRST_HOUR, until or NEVER, feed, name, variant, updated_at
        )
        self.planted.append(perturbation)

    def apply_command(self, order: dict[str, str | int | None]) -> None:
        """Applies a command of another process: `do` is the method, the rest are its arguments, times in ISO 8601."""
        arguments: dict[str, object] = dict(order)
        name = arguments.pop("do", None)
        if name not in _ORDERS:
            raise ValueError(f"do {name!r}: one of {', '.join(_ORDERS)} is allowed")
        for key in arguments.keys() & {"hour", "start", "end", "at", "since", "until", "updated_at"}:
            arguments[key] = parse_utc(str(arguments[key]))
        if "feed" in arguments:
            known = (*FEEDS, *MIX_SIGNALS)
            arguments["feed"] = next((feed for feed in known if arguments["feed"] in (feed.name, feed.endpoint)), None)
        getattr(self, str(name))(**arguments)


_ORDERS = (*get_args(Kind), "clear")
