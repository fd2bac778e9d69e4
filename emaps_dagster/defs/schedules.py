"""Schedules: the hourly tick, weekly maintenance, the hourly health page. Older hours are left to the sensors."""

# No postponed annotations: Dagster reads the argument types of a schedule when it decorates it.

from datetime import timedelta

import dagster as dg

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import ml_features
from emaps_dagster.contracts.windows import HOUR, Window, floor_hour
from emaps_dagster.defs.instance.runs import active_runs, heartbeat_timeout, statuses, tags_of
from emaps_dagster.defs.partitions import nothing_over_yet
from emaps_dagster.defs.resources.api_plan import plan_of
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.monitoring.hour_ranges import CATCH_UP, catch_up, oldest_history_hour, overlaps_or_adjoins

# The provider updates its records at minutes 47 to 52 (22 of 24 recorded rows): at :07 that is done, the requested
# hour is over, and so is the peak of other clients' jobs at :00.
MINUTE = 7
# Half an hour from the ticks on either side, in the night with the fewest readers.
WEEKLY = "37 3 * * 0"
# A tick of minute 7 is over by then, retries included.
REPORT = "17 * * * *"


def hourly_schedule(
    job: "dg.UnresolvedAssetJobDefinition", settings: Settings, partitions: dg.PartitionsDefinition[str]
) -> dg.ScheduleDefinition:
    gold = ml_features(settings.zones).asset_key

    @dg.schedule(
        job=job,
        name="hourly_tick",
        cron_schedule=f"{MINUTE} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            "At minute 7 of every hour: the hour that has just ended, what was revised in the 23 before it, and in "
            "the same run the ticks that were missed. It waits while a run of nearby hours is queued or going on."
        ),
    )
    def hourly_tick(
        context: dg.ScheduleEvaluationContext, electricity_maps: ElectricityMapsResource
    ) -> dg.RunRequest | dg.SkipReason:
        now = electricity_maps.clock()
        if early := nothing_over_yet(settings.start, now):
            return dg.SkipReason(early)
        watched = Window(max(settings.start, oldest_history_hour(now) - CATCH_UP), floor_hour(now))
        status_by_hour = statuses(context.instance, gold, partitions, watched)
        tried = {hour for hour, status in status_by_hour.items() if status is not None}
        plan = plan_of(context.instance, electricity_maps, settings.zones, now)
        past_range = plan is not None and plan.past_range >= set(settings.zones)
        hours = catch_up(now, settings.start, tried, past_range=past_range)
        for run_id, others in active_runs(context.instance, heartbeat_timeout(settings)).items():
            if overlaps_or_adjoins(hours, others):
                return dg.SkipReason(
                    f"Run {run_id[:8]} of {others} is queued or going on: {hours} follow with the next tick in one run."
                )
        if hours.end - hours.start > timedelta(hours=1):
            context.log.info("%d ticks were missed: %s in one run", (hours.end - hours.start) // HOUR - 1, hours)
        return dg.RunRequest(tags=tags_of(hours, triggered_by="hourly_tick"))

    return hourly_tick


def maintenance_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        job=job,
        name="weekly_maintenance",
        cron_schedule=WEEKLY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Sundays at 03:37 UTC: every table in fewer files, old versions' files removed.",
    )


def health_schedule(job: "dg.UnresolvedAssetJobDefinition") -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        job=job,
        name="hourly_health",
        cron_schedule=REPORT,
        execution_timezone="UTC",
        # It makes no API calls, and reports it when the hourly schedule is off.
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="At minute 17 of every hour: updates the page `health`.",
    )
