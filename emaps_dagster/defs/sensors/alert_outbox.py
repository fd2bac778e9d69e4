"""The state of the sensor `run_failure`: runs it has handled, open incidents, alerts that are not delivered yet."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from emaps_dagster.contracts.errors import (
    AlertError,
)
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.defs.instance.runs import finished, outcome_of, will_be_retried
from emaps_dagster.monitoring.alert_delivery import send_alert
from emaps_dagster.monitoring.incidents import Alert, IncidentsState, ResolvedIncidents, update_incidents

# Failures of the hour before the first look are news, older ones are history.
_FIRST_LOOK_BACK = timedelta(hours=1)

_MOST_OUTCOMES = 100

_MOST_SEEN = 500

_MOST_WAITING = 50

_VERSION = 1


@dataclass
class AlertOutbox:
    """What the sensor `run_failure` remembers: runs it has seen, open causes, messages that could not be sent yet."""

    since: datetime
    seen: list[str] = field(default_factory=list)
    causes: IncidentsState = field(default_factory=IncidentsState)
    waiting: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def loads(cls, text: str | None, now: datetime) -> AlertOutbox:
        try:
            value = json.loads(text or "{}")
            if value["v"] == _VERSION:
                since = datetime.fromisoformat(value["since"])
                return cls(since, value["seen"], IncidentsState.unpacked(value["causes"]), value["waiting"])
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

    def take(self, instance: dg.DagsterInstance) -> list[Alert | ResolvedIncidents]:
        """What is new in the runs that have ended since the last look."""
        outcomes = []
        # Seconds back, for runs whose end was written late.
        for record in finished(instance, self.since - timedelta(seconds=10), _MOST_OUTCOMES):
            self.since = max(self.since, record.update_timestamp.astimezone(self.since.tzinfo))
            run = record.dagster_run
            # Dagster tries it again by itself: its last try speaks.
            again = will_be_retried(run)
            if run.run_id not in self.seen and not again:
                outcomes.append(outcome_of(instance, record))
                self.seen.append(run.run_id)
        outcomes.sort(key=lambda outcome: outcome.ended)
        news, self.causes = update_incidents(outcomes, self.causes)
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
                    send_alert(settings, way, message["subject"], message["text"])
                    sent += 1
                except AlertError as error:
                    problems.append(str(error))
                    undone.append(way)
            if undone:
                left.append({**message, "ways": undone})
        self.waiting = left
        return sent, list(dict.fromkeys(problems))
