"""The cursor of the sensor `run_failure`: handled runs, open incidents, and undelivered alerts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from emaps_dagster.contracts.errors import AlertError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.defs.instance.runs import finished, outcome_of, will_be_retried
from emaps_dagster.monitoring.alert_delivery import send_alert
from emaps_dagster.monitoring.incidents import Alert, IncidentsState, ResolvedIncidents, update_incidents

_VERSION = 1
# The first evaluation reports failures of the hour before it, and no older ones.
_FIRST_LOOKBACK = timedelta(hours=1)
# Bounds of one evaluation, and of the cursor.
_MOST_OUTCOMES = 100
_MOST_SEEN = 500
_MOST_WAITING = 50


@dataclass
class AlertOutbox:
    """The state of the alerts.

    Attributes:
        since: the newest end of a run that was handled.
        seen: ids of the runs that were handled.
        causes: the open incidents.
        waiting: messages that are not delivered yet, with the channels that are left.
    """

    since: datetime
    seen: list[str] = field(default_factory=list)
    causes: IncidentsState = field(default_factory=IncidentsState)
    waiting: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def loads(cls, text: str | None, now: datetime) -> AlertOutbox:
        """Parse the cursor of an earlier evaluation; a new one if another release wrote it."""
        try:
            value = json.loads(text or "{}")
            if value["v"] == _VERSION:
                since = datetime.fromisoformat(value["since"])
                return cls(since, value["seen"], IncidentsState.unpacked(value["causes"]), value["waiting"])
        except (ValueError, KeyError, TypeError):
            pass
        return cls(now - _FIRST_LOOKBACK)

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
        """The alerts and resolutions of the runs that ended since the last evaluation."""
        outcomes = []
        # A few seconds of overlap, for runs whose end was written late.
        for record in finished(instance, self.since - timedelta(seconds=10), _MOST_OUTCOMES):
            self.since = max(self.since, record.update_timestamp.astimezone(self.since.tzinfo))
            run = record.dagster_run
            # Of a run that Dagster retries, only the last attempt counts.
            if run.run_id not in self.seen and not will_be_retried(run):
                outcomes.append(outcome_of(instance, record))
                self.seen.append(run.run_id)
        outcomes.sort(key=lambda outcome: outcome.ended)
        messages, self.causes = update_incidents(outcomes, self.causes)
        return messages

    def queue(self, subject: str, text: str, channels: list[str]) -> None:
        """Add a message; it is dropped if no channel is configured."""
        if channels:
            self.waiting.append({"subject": subject, "text": text, "ways": channels})

    def send(self, settings: Settings) -> tuple[int, list[str]]:
        """Send the waiting messages, each once through each channel; returns the number sent, and the failures."""
        sent, problems, left = 0, [], []
        for message in self.waiting:
            undone = []
            for channel in message["ways"]:
                try:
                    send_alert(settings, channel, message["subject"], message["text"])
                    sent += 1
                except AlertError as error:
                    problems.append(str(error))
                    undone.append(channel)
            if undone:
                left.append({**message, "ways": undone})
        self.waiting = left
        return sent, list(dict.fromkeys(problems))
