"""One look of a sensor at the world: what it learns, what it remembers, within the minute that Dagster gives it.

What follows from it is decided in upkeep/; sensors.py hands it to Dagster.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG

from emaps_dagster.alerts import tell
from emaps_dagster.client import ElectricityMapsClient
from emaps_dagster.errors import AlertError, ProviderError
from emaps_dagster.holdings import records, updated_at
from emaps_dagster.runs import finished, outcome_of
from emaps_dagster.settings import Settings
from emaps_dagster.upkeep import revisions
from emaps_dagster.upkeep.causes import Alert, Healed, Memory, digest
from emaps_dagster.upkeep.plan import Plan
from emaps_dagster.windows import HOUR, Window, floor_hour
from emaps_dagster.zones import FEEDS

# Dagster ends a sensor after 60 s: what is left is looked at next time.
_BUDGET_SECONDS = 25.0
# Failures of the hour before the first look are news, older ones are history.
_FIRST_LOOK_BACK = timedelta(hours=1)
_MOST_OUTCOMES = 100
_MOST_SEEN = 500
_MOST_WAITING = 50
_VERSION = 1
# Deployments whose tables are folders of this machine.
FOLDERS = ("embedded", "spark")


class RevisionLook:
    """One evaluation of the sensor `revisions`: what it learns of each zone while the time lasts."""

    def __init__(
        self,
        now: datetime,
        settings: Settings,
        memory: revisions.Memory,
        made: set[datetime],
        reads: list[datetime],
    ) -> None:
        self._now, self._settings, self._made, self._reads = now, settings, made, reads
        self._until = time.monotonic() + _BUDGET_SECONDS
        self.since, self.reread = dict(memory.since), dict(memory.reread)
        self.fresh = {zone: dict(hours) for zone, hours in memory.fresh.items()}
        self.changed = {hour for window in memory.due for hour in window.hours()}
        self.sentences: list[str] = []

    def _is_late(self) -> bool:
        return time.monotonic() > self._until

    def at_updates(self, client: ElectricityMapsClient, plan: Plan) -> None:
        """Ask for the list of updates of each zone, the longest unasked first."""
        never = self._now - timedelta(days=1)
        for zone in sorted(plan.updated_since, key=lambda zone: self.since.get(zone, never)):
            if self._is_late():
                self.sentences.append(f"No time was left for {zone}: it is first next time.")
                break
            since = self.since.get(zone, never) - revisions.OVERLAP
            try:
                updates = dict(_updates(client, zone, since, self._watched()))
            except ProviderError as error:
                self.sentences.append(str(error))
                continue
            known = {**self.fresh.get(zone, {}), **{h: at for h, at in updates.items() if h in self._made}}
            changed, self.fresh[zone] = revisions.unread(self._now, known, self._reads)
            self.changed |= changed
            self.since[zone] = self._now

    def _watched(self) -> Window:
        end = floor_hour(self._now)
        return Window(max(min(self._made, default=end - HOUR), end - revisions.WATCHED), end)

    def at_windows(self, client: ElectricityMapsClient, plan: Plan) -> None:
        """Read the provider's daily windows again for zones without a list of updates, and compare them with silver."""
        zones = plan.past_range - plan.updated_since
        first = self._watched().start
        for name, zone, window in revisions.rereads(self._now, sorted(zones), self.reread, first):
            if self._is_late():
                self.sentences.append(f"No time was left for {name}: it is read next time.")
                break
            try:
                self.changed |= self._changed_in(client, zone, window) & self._made
            except ProviderError as error:
                self.sentences.append(str(error))
                continue
            self.reread[name] = self._now.date()

    def _changed_in(self, client: ElectricityMapsClient, zone: str, window: Window) -> set[datetime]:
        if self._settings.deployment not in FOLDERS:
            # There is nothing to compare with from here: the run itself writes only what differs.
            return set(window.hours())
        changed = set()
        for feed in FEEDS:
            stored = updated_at(self._settings.warehouse, zone, feed, window)
            body = client.past_range(feed, zone, window.start, window.end).trusted_body
            changed |= {hour for hour, at in records(body) if hour in stored and stored[hour] != at}
        return changed


def _updates(
    client: ElectricityMapsClient, zone: str, since: datetime, window: Window
) -> Iterator[tuple[datetime, datetime]]:
    """All updates of a window, cut where the answer's limit is reached."""
    found, more = client.updated_since(zone, since, window, threshold="PT0S")
    halves = revisions.halves(window) if more else None
    if halves is None:
        yield from found.items()
        return
    for half in halves:
        yield from _updates(client, zone, since, half)


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
