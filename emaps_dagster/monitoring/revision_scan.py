"""The scan of the sensor `revisions`: reads the provider's updates within the minute that Dagster allows a sensor.

`revisions` decides which hours to request; defs/sensors/revisions.py creates the runs.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta

from emaps_dagster.contracts.errors import (
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
from emaps_dagster.contracts.signals import power_feeds
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.contracts.zones import POWER, Feed
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.monitoring import revisions
from emaps_dagster.monitoring.api_plan import Plan
from emaps_dagster.monitoring.stored_hours import records, updated_at

# Dagster stops a sensor after 60 s: the rest is scanned at the next evaluation.
_BUDGET_SECONDS = 25.0
# The longest call of the sensors' client: 3 s to connect, 10 s to answer.
_LONGEST_CALL_SECONDS = 13.0
# Errors that the same request would get again.
_REFUSALS = (NoDataError, NotInPlanError, InvalidTokenError, BadRequestError, BlockedError)
# Deployments whose tables are Delta folders on this machine.
FOLDERS = ("embedded", "spark")


def time_is_up() -> float:
    """The deadline of an evaluation that begins now, in seconds of `time.monotonic`."""
    return time.monotonic() + _BUDGET_SECONDS


class RevisionScan:
    """One evaluation of the sensor `revisions`: collects changed hours zone by zone until the deadline.

    Args:
        now: the present.
        settings: of the deployment.
        memory: the cursor of the last evaluation.
        made: hours that gold has.
        reads: start times of the successful runs that read /history.
        until: the deadline (`time_is_up`); a call that could exceed it is not started.
    """

    def __init__(
        self,
        now: datetime,
        settings: Settings,
        memory: revisions.RevisionsCursor,
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

    def memory(self, later: tuple[Window, ...]) -> revisions.RevisionsCursor:
        """The cursor for the next evaluation; `later`: changed hours that no run was requested for."""
        return revisions.RevisionsCursor(self._since, self._fresh, later, self._reread, self._scans, self._troubles)

    def _is_late(self) -> bool:
        return time.monotonic() + _LONGEST_CALL_SECONDS > self._until

    def at_updates(self, client: ElectricityMapsClient, plan: Plan) -> None:
        """Request the list of updates of each zone; the zone requested least recently comes first."""
        never = self._now - timedelta(days=1)
        asked = {zone: scan.asked for zone, scan in self._scans.items()}
        for zone in sorted(plan.updated_since, key=lambda zone: asked.get(zone, self._since.get(zone, never))):
            before = self._troubles.get(zone)
            if before and not before.asks_again(self._now):
                self.sentences.append(before.sentence(zone, self._now))
                continue
            # After an outage the list is requested from this moment on.
            since = self._since.setdefault(zone, never) - revisions.OVERLAP
            scan = self._scans.get(zone) or revisions.Scan(since, self._now, self._now, (self._watched(),))
            try:
                self._scans[zone] = scan = self._continue(client, zone, scan)
            except ProviderError as error:
                # HTTP 501 means that the server does not implement the list: no outage.
                refused = isinstance(error, _REFUSALS) or "HTTP 501" in str(error)
                self._troubles[zone] = found = revisions.trouble(before, self._now, str(error), refused=refused)
                self.sentences.append(found.sentence(zone, self._now))
                continue
            if scan.left:
                hours = sum((window.end - window.start) // HOUR for window in scan.left)
                self.sentences.append(
                    f"The updates of {zone} in {hours} more hours are requested at the next evaluation."
                )
            else:
                del self._scans[zone]
                self._troubles.pop(zone, None)
                self._since[zone] = scan.begun

    def _continue(self, client: ElectricityMapsClient, zone: str, scan: revisions.Scan) -> revisions.Scan:
        """Request the remaining windows until the deadline; each answer is recorded before the next request."""
        self._scans[zone] = scan = replace(scan, asked=self._now)
        while scan.left and not self._is_late():
            window, *rest = scan.left
            limit = revisions.LONGEST_LIST
            found, more = client.updated_since(zone, scan.since, window, threshold="PT0S", limit=limit)
            cut = revisions.pieces(window) if more else ()
            # A truncated list is discarded and requested again in smaller windows.
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
        """For zones without a list of updates, read the provider's daily windows again and compare them with silver."""
        without = {zone for zone, trouble in self._troubles.items() if trouble.needs_windows(self._now)}
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
                # A wrong token or an outage fails the next request as well.
                self.sentences.append(str(error))
                if isinstance(error, InvalidTokenError):
                    # The list was refused for the same reason: it is requested as soon as the token is valid.
                    self._troubles = {zone: replace(each, refused=False) for zone, each in self._troubles.items()}
                break
            self._reread[name] = self._now.date()

    def _changed_in(self, client: ElectricityMapsClient, zone: str, feed: Feed, window: Window) -> set[datetime]:
        """The hours whose time of update differs from the one in silver."""
        if self._settings.deployment not in FOLDERS:
            # Tables of a catalog cannot be read here: the run itself writes only rows that differ.
            return set(window.hours())
        stored = updated_at(self._settings.warehouse, zone, feed, window)
        # One signal is enough: the time of update of an hour is that of all its signals.
        signal = power_feeds(self._settings.power_signal)[0] if feed == POWER else feed
        body = client.past_range(signal, zone, window).trusted_body
        return {hour for hour, at in records(body) if hour in stored and stored[hour] != at}
