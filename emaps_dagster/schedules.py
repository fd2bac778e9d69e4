"""When the hourly job runs by itself."""

from __future__ import annotations

import dagster as dg

# The provider's own pass over its records is at minutes 47 to 52 (22 of 24 recorded rows): at :07 it is done,
# the hour asked for is over, and the rush of everybody's jobs at :00 as well.
MINUTE = 7
# Half an hour from the ticks on either side, in the night of the week in which least is read.
WEEKLY = "37 3 * * 0"


def hourly_schedule(job: dg.UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    return dg.build_schedule_from_partitioned_job(  # type: ignore[return-value]  # partitioned: never unresolved
        job,
        name="hourly_tick",
        minute_of_hour=MINUTE,
        description="At minute 7 of every hour: the hour that has just ended, and what was revised before it.",
    )


def maintenance_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        job=job,
        name="weekly_maintenance",
        cron_schedule=WEEKLY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Sundays at 03:37 UTC: every table in fewer files, old versions' files removed.",
    )
