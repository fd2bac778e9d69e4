"""Groups failed runs into incidents: one alert for each cause, and a second message when it is resolved.

An outage of thirty hours is one incident with thirty failed runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from emaps_dagster.contracts.windows import Window

_VERSION = 1
# Bounds of the state: the oldest incidents are dropped first.
_MOST_OPEN = 200
_FORGOTTEN_AFTER = timedelta(days=100)
_LONGEST_SENTENCE = 600
# A line of a bronze run's failure: class, feed, endpoint, zone, what happened.
_LINE = re.compile(
    r"^- (?P<kind>\w+): (?P<what>(?P<feed>[\w-]+)/(?P<endpoint>[\w-]+) of zone (?P<zone>[\w-]+).*)$", re.M
)
# These errors concern a body, so certain hours; the others concern the connection to the provider.
_ABOUT_HOURS = ("NoDataError", "RejectedBodyError")
# The parts of a message that differ between runs with the same cause: windows, times, ids, numbers.
_VARIES = re.compile(r"\[[^\]]*\)|\d{4}-\d\d-\d\d[T0-9:.Z+-]*|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|0x[0-9a-f]+|\d[\d,.]*")
# Escape sequences that engines write for a terminal: colours, cursor movements, window titles.
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")


@dataclass(frozen=True)
class Incident:
    """A cause of a failed run; runs that fail for the same reason share its `key`."""

    key: str
    sentence: str
    zones: tuple[str, ...] = ()
    of_fetch: bool = False
    about_hours: bool = False


@dataclass(frozen=True)
class RunOutcome:
    """A finished run. `fetched`: it sent requests to the provider; `hours` is None for runs without partitions."""

    run_id: str
    job: str
    ok: bool
    ended: datetime
    hours: Window | None = None
    fetched: bool = False
    causes: tuple[Incident, ...] = ()


@dataclass(frozen=True)
class OpenIncident:
    """An incident whose alert was sent and that is not resolved."""

    sentence: str
    zones: tuple[str, ...]
    job: str
    of_fetch: bool
    about_hours: bool
    first: datetime
    last: datetime
    runs: int
    start: datetime | None = None
    end: datetime | None = None

    def is_healed_by(self, outcome: RunOutcome) -> bool:
        """Whether a run resolves it: the same job succeeded later, with its hours and, if need be, with a fetch."""
        if not outcome.ok or outcome.ended < self.last or outcome.job != self.job:
            return False
        if self.of_fetch and not outcome.fetched:
            return False
        if self.of_fetch and not self.about_hours:
            return True
        if self.start is None or self.end is None or outcome.hours is None:
            return True
        return outcome.hours.start <= self.start and self.end <= outcome.hours.end


@dataclass(frozen=True)
class Alert:
    """The new causes of one failed run."""

    outcome: RunOutcome
    causes: tuple[Incident, ...]


@dataclass(frozen=True)
class ResolvedIncidents:
    """The incidents that a successful run resolved."""

    outcome: RunOutcome
    causes: tuple[OpenIncident, ...]


@dataclass(frozen=True)
class IncidentsState:
    """The open incidents by key, as the sensor's cursor stores them."""

    open: Mapping[str, OpenIncident] = field(default_factory=dict)

    def packed(self) -> dict[str, object]:
        return {"v": _VERSION, "open": {key: _plain(asdict(cause)) for key, cause in self.open.items()}}

    @classmethod
    def unpacked(cls, value: Mapping[str, object]) -> IncidentsState:
        """Parse the state of an earlier evaluation; empty if another release wrote it."""
        try:
            causes = json.loads(json.dumps(value["open"]))
            return cls({k: _read(c) for k, c in causes.items()}) if value["v"] == _VERSION else cls()
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()


def incidents_of(step: str, kind: str, message: str, hours: Window | None) -> list[Incident]:
    """The causes that the error of a failed step names; `kind` is its class."""
    message = _ESCAPES.sub("", message)
    lines = list(_LINE.finditer(message))
    if lines:
        return [_of_line(line, hours) for line in lines]
    sentence = f"{step}: {message.strip()}" if step else message.strip()
    return [Incident(f"{step} {kind} {_VARIES.sub('#', message)[:200]}", _short(sentence))]


def update_incidents(
    outcomes: Iterable[RunOutcome], memory: IncidentsState
) -> tuple[list[Alert | ResolvedIncidents], IncidentsState]:
    """The alerts and resolutions of runs, in the order in which the runs ended, and the new state."""
    known = dict(memory.open)
    messages: list[Alert | ResolvedIncidents] = []
    for outcome in outcomes:
        over = [key for key, cause in known.items() if cause.is_healed_by(outcome)]
        if over:
            messages.append(ResolvedIncidents(outcome, tuple(known.pop(key) for key in over)))
        causes = {} if outcome.ok else {cause.key: cause for cause in reversed(outcome.causes)}
        # While a zone fails as a whole, its failing older hours raise no alert.
        reported: list[Incident | OpenIncident] = [*known.values(), *causes.values()]
        failing = {zone for cause in reported if _is_general(cause) for zone in cause.zones}
        causes = {key: c for key, c in causes.items() if not (c.about_hours and failing & set(c.zones))}
        new = tuple(cause for key, cause in reversed(causes.items()) if key not in known)
        for cause in causes.values():
            known[cause.key] = _extended(known.get(cause.key), cause, outcome)
        if new:
            messages.append(Alert(outcome, new))
        known = {key: cause for key, cause in known.items() if outcome.ended - cause.last < _FORGOTTEN_AFTER}
    newest = sorted(known.items(), key=lambda pair: pair[1].last)[-_MOST_OPEN:]
    return messages, IncidentsState(dict(newest))


def _of_line(line: re.Match[str], hours: Window | None) -> Incident:
    kind, zone = line["kind"], line["zone"]
    about_hours = kind in _ABOUT_HOURS
    key = f"{kind} {zone}"
    if about_hours:
        key += f" {line['feed']}"
        # Each tick requests the newest hours, so its failures share a key. Older hours get a key of their own.
        about_hours = line["endpoint"] != "history"
        key += f" {hours}" if about_hours else ""
    return Incident(key, _short(line["what"]), (zone,), of_fetch=True, about_hours=about_hours)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_SENTENCE else line[: _LONGEST_SENTENCE - 4] + " ..."


def _is_general(cause: Incident | OpenIncident) -> bool:
    return cause.of_fetch and not cause.about_hours


def _extended(known: OpenIncident | None, cause: Incident, outcome: RunOutcome) -> OpenIncident:
    """The open incident with one more failed run."""
    bounds = [
        w for w in (outcome.hours, Window(known.start, known.end) if known and known.start and known.end else None) if w
    ]
    return OpenIncident(
        sentence=cause.sentence,
        zones=cause.zones,
        job=outcome.job,
        of_fetch=cause.of_fetch,
        about_hours=cause.about_hours,
        first=known.first if known else outcome.ended,
        last=outcome.ended,
        runs=known.runs + 1 if known else 1,
        start=min((w.start for w in bounds), default=None),
        end=max((w.end for w in bounds), default=None),
    )


def _plain(cause: dict[str, object]) -> dict[str, object]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in cause.items()}


def _read(cause: dict[str, object]) -> OpenIncident:
    times = {n: datetime.fromisoformat(str(cause[n])) for n in ("first", "last", "start", "end") if cause[n]}
    zones = cause["zones"]
    assert isinstance(zones, list)
    return OpenIncident(**{**cause, **times, "zones": tuple(zones)})  # type: ignore[arg-type]  # a wrong type is a TypeError
