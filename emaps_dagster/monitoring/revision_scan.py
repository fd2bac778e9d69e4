"""One look of a sensor at the world: what it learns, what it remembers, within the minute that Dagster gives it.

What follows from it is decided in upkeep/; sensors.py hands it to Dagster.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG

from emaps_dagster.contracts.errors import (
    AlertError,
    BadRequestError,
    BlockedError,
    InvalidTokenError,
    LakehouseError,
    NoDataError,
    NotInPlanError,
    ProviderError,
    RejectedBodyError,
)
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import Feed
from emaps_dagster.defs.instance.runs import finished, outcome_of
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.monitoring import revisions
from emaps_dagster.monitoring.alert_delivery import tell
from emaps_dagster.monitoring.api_plan import Plan
from emaps_dagster.monitoring.incidents import Alert, Healed, Memory, digest
from emaps_dagster.monitoring.stored_hours import records, updated_at

# Dagster ends a sensor after 60 s: what is left is looked at next time.
_BUDGET_SECONDS = 25.0
# The longest that a call of the client for sensors lasts: 3 s to connect, 10 s to answer.
_LONGEST_CALL_SECONDS = 13.0
# The same question would be refused again.
_REFUSALS = (NoDataError, NotInPlanError, InvalidTokenError, BadRequestError, BlockedError)
# Failures of the hour before the first look are news, older ones are history.
_FIRST_LOOK_BACK = timedelta(hours=1)
_MOST_OUTCOMES = 100
_MOST_SEEN = 500
_MOST_WAITING = 50
_VERSION = 1
# Deployments whose tables are folders of this machine.
FOLDERS = ("embedded", "spark")


def time_is_up() -> float:
    """When a look that begins now has to be over, in seconds of `time.monotonic`."""
    return time.monotonic() + _BUDGET_SECONDS


class RevisionLook:
    """One evaluation of the sensor `revisions`: what it learns of each zone while the time lasts.

    Args:
        now: the present.
        settings: those of the deployment.
        memory: of the last look.
        made: hours that gold has.
        reads: when runs began that read /history and succeeded.
        until: no call is begun that could last longer (`time_is_up`).
    """

    def __init__(
        self,
        now: datetime,
        settings: Settings,
        memory: revisions.Memory,
        made: set[datetime],
        reads: list[datetime],
        until: float,
    ) -> None:
        self._now, self._settings, self._made, self._reads, self._until = now, settings, made, reads, until
        self._since, self._reread = dict(memory.since), dict(memory.reread)
        self._scans, self._troubles = dict(memory.scans), dict(memory.troubles)
        self._fresh = {zone: dict(hours) for zone, hours in memory.fresh.items()}
        self.changed = {hour for window in memory.due for hour in window.hours()}
        self.sentences: list[str] = []

    def memory(self, later: tuple[Window, ...]) -> revisions.Memory:
        """What the next look has to know; `later` are changed hours that no run was asked for."""
        return revisions.Memory(self._since, self._fresh, later, self._reread, self._scans, self._troubles)

    def _is_late(self) -> bool:
        return time.monotonic() + _LONGEST_CALL_SECONDS > self._until

    def at_updates(self, client: ElectricityMapsClient, plan: Plan) -> None:
        """Ask for the list of updates of each zone, the longest unasked first."""
        never = self._now - timedelta(days=1)
        asked = {zone: scan.asked for zone, scan in self._scans.items()}
        for zone in sorted(plan.updated_since, key=lambda zone: asked.get(zone, self._since.get(zone, never))):
            before = self._troubles.get(zone)
            if before and not before.asks_again(self._now):
                self.sentences.append(before.sentence(zone, self._now))
                continue
            # Whenever the list can be had again, it is asked for from here on.
            since = self._since.setdefault(zone, never) - revisions.OVERLAP
            scan = self._scans.get(zone) or revisions.Scan(since, self._now, self._now, (self._watched(),))
            try:
                self._scans[zone] = scan = self._go_on(client, zone, scan)
            except ProviderError as error:
                # A server that does not implement it says 501, which is no outage.
                refused = isinstance(error, _REFUSALS) or "HTTP 501" in str(error)
                self._troubles[zone] = found = revisions.trouble(before, self._now, str(error), refused=refused)
                self.sentences.append(found.sentence(zone, self._now))
                continue
            if scan.left:
                hours = sum((window.end - window.start) // HOUR for window in scan.left)
                self.sentences.append(f"The updates of {zone} in {hours} more hours are asked for at the next look.")
            else:
                del self._scans[zone]
                self._troubles.pop(zone, None)
                self._since[zone] = scan.begun

    def _go_on(self, client: ElectricityMapsClient, zone: str, scan: revisions.Scan) -> revisions.Scan:
        """Ask for the windows that are left, while the time lasts; each answer is taken in before the next question."""
        self._scans[zone] = scan = replace(scan, asked=self._now)
        while scan.left and not self._is_late():
            window, *rest = scan.left
            limit = revisions.LONGEST_LIST
            found, more = client.updated_since(zone, scan.since, window, threshold="PT0S", limit=limit)
            cut = revisions.pieces(window) if more else ()
            # A list that was cut off is asked for again in pieces, all of it.
            if not cut:
                known = {**self._fresh.get(zone, {}), **{h: at for h, at in found.items() if h in self._made}}
                changed, self._fresh[zone] = revisions.unread(self._now, known, self._reads)
                self.changed |= changed
            self._scans[zone] = scan = replace(scan, left=(*cut, *rest))
        return scan

    def _watched(self) -> Window:
        end = floor_hour(self._now)
        return Window(max(min(self._made, default=end - HOUR), end - revisions.WATCHED), end)

    def at_windows(self, client: ElectricityMapsClient, plan: Plan) -> None:
        """Read the provider's daily windows again for zones without a list of updates, and compare them with silver."""
        without = {zone for zone, one in self._troubles.items() if one.needs_windows(self._now)}
        zones = plan.past_range & (without | (plan.past_range - plan.updated_since))
        first = self._watched().start
        for name, zone, feed, window in revisions.rereads(self._now, sorted(zones), self._reread, first):
            if self._is_late():
                self.sentences.append(f"No time was left for {name}: it is read next time.")
                break
            try:
                self.changed |= self._changed_in(client, zone, feed, window) & self._made
            except (RejectedBodyError, NoDataError, LakehouseError) as error:
                self.sentences.append(str(error))
                continue
            except ProviderError as error:
                # A wrong token or a provider that is down answers the next question alike.
                self.sentences.append(str(error))
                if isinstance(error, InvalidTokenError):
                    # The list was refused for the same reason: it is asked for as soon as the token is right.
                    self._troubles = {zone: replace(one, refused=False) for zone, one in self._troubles.items()}
                break
            self._reread[name] = self._now.date()

    def _changed_in(self, client: ElectricityMapsClient, zone: str, feed: Feed, window: Window) -> set[datetime]:
        if self._settings.deployment not in FOLDERS:
            # There is nothing to compare with from here: the run itself writes only what differs.
            return set(window.hours())
        stored = updated_at(self._settings.warehouse, zone, feed, window)
        body = client.past_range(feed, zone, window.start, window.end).trusted_body
        return {hour for hour, at in records(body) if hour in stored and stored[hour] != at}


@dataclass
class Inbox:
    """What the sensor `run_failure` remembers: runs it has seen, open causes, messages that could not be sent yet."""

    since: datetime
    seen: list[str] = field(default_factory=list)
    causes: Memory = field(default_factory=Memory)
    waiting: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def loads(cls, text: str | None, now: datetime) -> Inbox:
        try:
            value = json.loads(text or "{}")
            if value["v"] == _VERSION:
                since = datetime.fromisoformat(value["since"])
                return cls(since, value["seen"], Memory.unpacked(value["causes"]), value["waiting"])
        except (ValueError, KeyError, TypeError):
            pass
        return cls(now - _FIRST_LOOK_BACK)

    def dumps(self) -> str:
        return json.dumps(
            {
                "v": _VERSION,
                "since": self.since.isoformat(),
                "seen": self.seen[-_MOST_SEEN:],
                "causes": self.causes.packed(),
                "waiting": self.waiting[-_MOST_WAITING:],
            }
        )

    def take(self, instance: dg.DagsterInstance) -> list[Alert | Healed]:
        """What is new in the runs that have ended since the last look."""
        outcomes = []
        # Seconds back, for runs whose end was written late.
        for record in finished(instance, self.since - timedelta(seconds=10), _MOST_OUTCOMES):
            self.since = max(self.since, record.update_timestamp.astimezone(self.since.tzinfo))
            run = record.dagster_run
            # Dagster tries it again by itself: its last try speaks.
            again = run.status == dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true"
            if run.run_id not in self.seen and not again:
                outcomes.append(outcome_of(instance, record))
                self.seen.append(run.run_id)
        outcomes.sort(key=lambda outcome: outcome.ended)
        news, self.causes = digest(outcomes, self.causes)
        return news

    def queue(self, subject: str, text: str, ways: list[str]) -> None:
        if ways:
            self.waiting.append({"subject": subject, "text": text, "ways": ways})

    def send(self, settings: Settings) -> tuple[int, list[str]]:
        """Send what waits, each message once by each way; how many went out, and what did not work."""
        sent, problems, left = 0, [], []
        for message in self.waiting:
            undone = []
            for way in message["ways"]:
                try:
                    tell(settings, way, message["subject"], message["text"])
                    sent += 1
                except AlertError as error:
                    problems.append(str(error))
                    undone.append(way)
            if undone:
                left.append({**message, "ways": undone})
        self.waiting = left
        return sent, list(dict.fromkeys(problems))
