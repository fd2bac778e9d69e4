"""Queries of our runs in the Dagster instance: hours, status, outcome, and runs whose process died.

`monitoring` decides what follows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)
from dagster._time import get_current_timestamp
from dagster_shared.error import SerializableErrorInfo

from emaps_dagster.contracts import errors
from emaps_dagster.contracts.errors import PartitionError
from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import RESPONSE_TABLES
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.defs.names import HOURLY
from emaps_dagster.defs.partitions import partition_hour
from emaps_dagster.monitoring.hour_ranges import oldest_history_hour
from emaps_dagster.monitoring.incidents import Incident, RunOutcome, incidents_of

logger = logging.getLogger(__name__)

_RUNNING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_ACTIVE = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, *_RUNNING]
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
# A live run logs an event with every batch of calls, every step and every retry of the client.
HEARTBEAT_SECONDS = 3600.0
_BRONZE = {dg.AssetKey(table.asset_key) for table in RESPONSE_TABLES}
# Prefix of the job of assets materialized in the UI.
_UNNAMED = "__ASSET_JOB"
_OUR_ERRORS = {
    name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.EmapsError)
}


def present() -> datetime:
    """The present by the clock of Dagster's records, UTC."""
    return datetime.fromtimestamp(get_current_timestamp(), timezone.utc)


def is_ours(run: dg.DagsterRun) -> bool:
    """Whether the run materializes our tables: the hourly job, or assets materialized in the UI."""
    return run.job_name == HOURLY or run.job_name.startswith(_UNNAMED)


def fetches(run: dg.DagsterRun) -> bool:
    """Whether the run sends requests to the provider."""
    return is_ours(run) and (run.asset_selection is None or bool(run.asset_selection & _BRONZE))


def hours_of_run(run: dg.DagsterRun) -> Window | None:
    """The hours of the run's partitions; None for a run without any."""
    first = run.tags.get(ASSET_PARTITION_RANGE_START_TAG) or run.tags.get(PARTITION_NAME_TAG)
    last = run.tags.get(ASSET_PARTITION_RANGE_END_TAG) or first
    if not first or not last:
        return None
    try:
        return Window(partition_hour(first), partition_hour(last) + HOUR)
    except (PartitionError, ValueError):
        return None


def tags_of(window: Window, **more: str) -> dict[str, str]:
    """The tags of one run over the hours."""
    return {
        ASSET_PARTITION_RANGE_START_TAG: partition_key(window.start),
        ASSET_PARTITION_RANGE_END_TAG: partition_key(window.end - HOUR),
        **{f"emaps/{name}": value for name, value in more.items()},
    }


def heartbeat_timeout(settings: Settings) -> float:
    """Seconds without an event after which a run counts as dead; a step on a cluster may log none until it ends."""
    on_cluster = settings.databricks.timeout_seconds if settings.deployment == "databricks" else 0
    return HEARTBEAT_SECONDS + on_cluster


def active_runs(instance: dg.DagsterInstance, silence: float) -> dict[str, Window]:
    """The hours of our queued and running runs, by run id; dead runs are reported as failed first.

    A run whose process was killed together with its code server would stay STARTED for ever.

    Args:
        instance: Dagster's.
        silence: seconds without an event after which a run counts as dead (`heartbeat_timeout`).
    """
    found = {}
    for record in instance.get_run_records(dg.RunsFilter(statuses=_ACTIVE)):
        run = record.dagster_run
        hours = hours_of_run(run)
        if not is_ours(run) or hours is None or _fail_dead_run(instance, record, silence):
            continue
        found[run.run_id] = hours
    return found


def _fail_dead_run(instance: dg.DagsterInstance, record: dg.RunRecord, silence: float) -> bool:
    """Report a run as failed or canceled if it logged no event for `silence` seconds; returns whether it did."""
    run = record.dagster_run
    if run.status not in _RUNNING:
        return False
    last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    last_event = last[0].timestamp if last else record.create_timestamp.timestamp()
    silent = get_current_timestamp() - last_event
    if silent < silence:
        return False
    if run.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run)
    else:
        instance.report_run_failed(
            run,
            f"Nothing was heard of this run for {silent / 60:.0f} minutes: its process has died. It can be retried.",
        )
    logger.warning("run %s counts as dead: no event for %.0f s", run.run_id, silent)
    return True


def statuses(
    instance: dg.DagsterInstance, table_key: list[str], partitions: dg.PartitionsDefinition[str], window: Window
) -> Mapping[datetime, dg.AssetPartitionStatus | None]:
    """The partition status of each hour of a table; None for an hour without a run."""
    keys = {partition_key(hour): hour for hour in window.hours()}
    found = instance.get_status_by_partition(dg.AssetKey(table_key), list(keys), partitions) or {}
    return {hour: found.get(key) for key, hour in keys.items()}


def reads_of_history(instance: dg.DagsterInstance, now: datetime) -> list[datetime]:
    """Start times of the successful runs of the last 36 hours that read /history."""
    since = present() - timedelta(hours=36)
    succeeded = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], updated_after=since)
    began = map(_history_read_at, instance.get_run_records(succeeded))
    return [min(moment, now) for moment in began if moment]


def last_tick_succeeded(instance: dg.DagsterInstance) -> bool:
    """Whether the last run that read /history succeeded; True without such a run."""
    for record in instance.get_run_records(dg.RunsFilter(statuses=_FINISHED), limit=50):
        if _history_read_at(record):
            return record.dagster_run.status == dg.DagsterRunStatus.SUCCESS
    return True


def _history_read_at(record: dg.RunRecord) -> datetime | None:
    """The start of a run that read /history; None for other runs, such as one whose hours are not over."""
    hours = hours_of_run(record.dagster_run)
    if record.start_time is None or hours is None or not fetches(record.dagster_run):
        return None
    began = datetime.fromtimestamp(record.start_time, timezone.utc)
    return began if oldest_history_hour(began) < hours.end <= floor_hour(began) else None


def finished(instance: dg.DagsterInstance, since: datetime, limit: int) -> Iterator[dg.RunRecord]:
    """Runs that succeeded or failed since a moment, in the order in which they ended."""
    ended = dg.RunsFilter(statuses=_FINISHED, updated_after=since)
    yield from instance.get_run_records(ended, limit=limit, order_by="update_timestamp", ascending=True)


def will_be_retried(run: dg.DagsterRun) -> bool:
    """Whether Dagster retries the failed run."""
    return run.status == dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true"


def outcome_of(instance: dg.DagsterInstance, record: dg.RunRecord) -> RunOutcome:
    """The result of a finished run, with the causes of a failure."""
    run = record.dagster_run
    ok = run.status == dg.DagsterRunStatus.SUCCESS
    hours = hours_of_run(run)
    return RunOutcome(
        run_id=run.run_id,
        job=HOURLY if is_ours(run) else run.job_name,
        ok=ok,
        ended=datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), timezone.utc),
        hours=hours,
        fetched=fetches(run),
        causes=() if ok else tuple(_causes(instance, run.run_id, hours)),
    )


def _causes(instance: dg.DagsterInstance, run_id: str, hours: Window | None) -> Iterator[Incident]:
    failed = False
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.get_dagster_event()
        error = event.step_failure_data.error
        error = _root_error(error) if error else None
        failed = True
        message = _without_class(error) if error else event.message or "failed"
        yield from incidents_of(event.step_key or "", (error.cls_name if error else None) or "", message, hours)
    if not failed:
        ends = list(instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE))
        last = ends[-1].get_dagster_event().message if ends else None
        yield from incidents_of("", "run", last or "The run failed before its first step.", hours)


def _root_error(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The outermost of our own errors in the chain of causes, or else the innermost error.

    Dagster wraps our errors, and ours name the remedy; an engine's error is the cause of ours.
    """
    chain = [error]
    while (cause := chain[-1].cause) is not None:
        chain.append(cause)
    return next((link for link in chain if link.cls_name in _OUR_ERRORS), chain[-1])


def _without_class(error: SerializableErrorInfo) -> str:
    """The message without the class name that Python puts before it."""
    return re.sub(rf"^[\w.]*\b{re.escape(error.cls_name or '')}: ", "", error.message.strip())
