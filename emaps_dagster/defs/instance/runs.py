"""What Dagster's instance knows of our runs: which hours they have, how they ended, which of them are dead.

Also where the token's plan is remembered. Deciding what to do about it is upkeep/.
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
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.defs.names import HOURLY
from emaps_dagster.defs.partitions import partition_hour
from emaps_dagster.monitoring.hour_ranges import oldest_history_hour
from emaps_dagster.monitoring.incidents import Incident, RunOutcome, incidents_of

logger = logging.getLogger(__name__)

_GOING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_ACTIVE = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, *_GOING]
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
# A run that lives says something with every batch of calls, every step and every retry of the client.
HEARTBEAT_SECONDS = 3600.0
_BRONZE = {dg.AssetKey(table.asset_key) for table in (POWER_DATA, CARBON_DATA)}
# Of a whole range of assets materialized in the UI.
_UNNAMED = "__ASSET_JOB"
_OUR_ERRORS = {
    name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.EmapsError)
}


def present() -> datetime:
    """The present of Dagster's own records, UTC."""
    return datetime.fromtimestamp(get_current_timestamp(), timezone.utc)


def is_ours(run: dg.DagsterRun) -> bool:
    """Whether it makes hours of our tables: the hourly job, or assets materialized in the UI."""
    return run.job_name == HOURLY or run.job_name.startswith(_UNNAMED)


def fetches(run: dg.DagsterRun) -> bool:
    """Whether it asks the provider."""
    return is_ours(run) and (run.asset_selection is None or bool(run.asset_selection & _BRONZE))


def hours_of_run(run: dg.DagsterRun) -> Window | None:
    """The hours of its partitions; None for a run without any."""
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
    """Seconds after which a run of which nothing is heard is dead; a step on a cluster may be silent until it ends."""
    on_cluster = settings.databricks_timeout_seconds if settings.deployment == "databricks" else 0
    return HEARTBEAT_SECONDS + on_cluster


def active_runs(instance: dg.DagsterInstance, silence: float) -> dict[str, Window]:
    """The hours of our runs that are queued or going on, by run; those that have died are reported as failed first.

    A run whose process was killed together with its code server stays "started" for ever: nobody is left to say so.
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
    """Report a run of which nothing was heard for too long as ended; whether it was one."""
    run = record.dagster_run
    if run.status not in _GOING:
        return False
    last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    heard = last[0].timestamp if last else record.create_timestamp.timestamp()
    silent = get_current_timestamp() - heard
    if silent < silence:
        return False
    if run.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run)
    else:
        instance.report_run_failed(
            run,
            f"Nothing was heard of this run for {silent / 60:.0f} minutes: its process has died. It can be retried.",
        )
    logger.warning("run %s is taken for dead: silent for %.0f s", run.run_id, silent)
    return True


def statuses(
    instance: dg.DagsterInstance, table_key: list[str], partitions: dg.PartitionsDefinition[str], window: Window
) -> Mapping[datetime, dg.AssetPartitionStatus | None]:
    """What Dagster shows of each hour of a table."""
    keys = {partition_key(hour): hour for hour in window.hours()}
    found = instance.get_status_by_partition(dg.AssetKey(table_key), list(keys), partitions) or {}
    return {hour: found.get(key) for key, hour in keys.items()}


def reads_of_history(instance: dg.DagsterInstance, now: datetime) -> list[datetime]:
    """When the runs of the last day and a half began that read /history and succeeded."""
    since = present() - timedelta(hours=36)
    succeeded = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], updated_after=since)
    began = map(_history_read_at, instance.get_run_records(succeeded))
    return [min(moment, now) for moment in began if moment]


def last_tick_succeeded(instance: dg.DagsterInstance) -> bool:
    """Whether the last run that read /history succeeded; True before there was one."""
    for record in instance.get_run_records(dg.RunsFilter(statuses=_FINISHED), limit=50):
        if _history_read_at(record):
            return record.dagster_run.status == dg.DagsterRunStatus.SUCCESS
    return True


def _history_read_at(record: dg.RunRecord) -> datetime | None:
    """When a run began that asked for /history; None for one that did not, such as one of hours not over."""
    hours = hours_of_run(record.dagster_run)
    if record.start_time is None or hours is None or not fetches(record.dagster_run):
        return None
    began = datetime.fromtimestamp(record.start_time, timezone.utc)
    return began if oldest_history_hour(began) < hours.end <= floor_hour(began) else None


def finished(instance: dg.DagsterInstance, since: datetime, limit: int) -> Iterator[dg.RunRecord]:
    """Runs of this code that succeeded or failed since a moment, the first first."""
    ended = dg.RunsFilter(statuses=_FINISHED, updated_after=since)
    yield from instance.get_run_records(ended, limit=limit, order_by="update_timestamp", ascending=True)


def will_be_retried(run: dg.DagsterRun) -> bool:
    """Whether Dagster itself runs a failed run again."""
    return run.status == dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true"


def outcome_of(instance: dg.DagsterInstance, record: dg.RunRecord) -> RunOutcome:
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
        error = _telling(error) if error else None
        failed = True
        message = _without_class(error) if error else event.message or "failed"
        yield from incidents_of(event.step_key or "", (error.cls_name if error else None) or "", message, hours)
    if not failed:
        ends = list(instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE))
        last = ends[-1].get_dagster_event().message if ends else None
        yield from incidents_of("", "run", last or "The run failed before its first step.", hours)


def _telling(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """Of Dagster's wrapping, our own errors and what caused them: the outermost of ours, or else the innermost.

    Ours says what happened and what to do; what an engine said is its cause.
    """
    chain = [error]
    while (cause := chain[-1].cause) is not None:
        chain.append(cause)
    return next((one for one in chain if one.cls_name in _OUR_ERRORS), chain[-1])


def _without_class(error: SerializableErrorInfo) -> str:
    """The message without the name of its class, which Python puts before it."""
    return re.sub(rf"^[\w.]*\b{re.escape(error.cls_name or '')}: ", "", error.message.strip())
