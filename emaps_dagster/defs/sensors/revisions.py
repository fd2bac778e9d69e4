"""The sensor `revisions`: requests runs for hours that the provider has changed."""

# No postponed annotations: Dagster reads the argument types of a sensor when it decorates it.

import dagster as dg

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import ml_features
from emaps_dagster.contracts.windows import Window, floor_hour
from emaps_dagster.defs.instance.runs import (
    active_runs,
    heartbeat_timeout,
    last_tick_succeeded,
    reads_of_history,
    statuses,
    tags_of,
)
from emaps_dagster.defs.partitions import nothing_over_yet
from emaps_dagster.defs.resources.api_plan import plan_of
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.sensors.results import SCAN_SECONDS, result_of
from emaps_dagster.monitoring import revisions
from emaps_dagster.monitoring.hour_ranges import format_windows
from emaps_dagster.monitoring.revision_scan import RevisionScan, time_is_up


def revisions_sensor(
    job: "dg.UnresolvedAssetJobDefinition", settings: Settings, partitions: dg.PartitionsDefinition[str]
) -> dg.SensorDefinition:
    gold = ml_features(settings.zones).asset_key

    @dg.sensor(
        job=job,
        name="revisions",
        minimum_interval_seconds=SCAN_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Every half hour: hours older than a day that the provider has changed since, in the few ranges that hold "
            "them. By its list of updates; a plan without that reads 48 hours of 1, 7, 30 and 90 days ago again, daily."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, electricity_maps: ElectricityMapsResource) -> dg.SensorResult:
        until = time_is_up()
        now = electricity_maps.clock()
        if early := nothing_over_yet(settings.start, now):
            return result_of([], [early], None)
        memory = revisions.RevisionsCursor.loads(context.cursor)
        plan = plan_of(context.instance, electricity_maps, settings.zones, now)
        if plan is None:
            return result_of([], ["The provider does not say what the plan serves; see the log of the daemon."], None)
        if not plan.past_range:
            return result_of([], ["The plan serves no hours older than a day: revisions come with each tick."], None)
        watched = Window(max(settings.start, floor_hour(now) - revisions.WATCHED), floor_hour(now))
        status_by_hour = statuses(context.instance, gold, partitions, watched)
        made = {hour for hour, status in status_by_hour.items() if status == dg.AssetPartitionStatus.MATERIALIZED}
        scan = RevisionScan(now, settings, memory, made, reads_of_history(context.instance, now), until)
        with electricity_maps.sensor_client() as client:
            scan.at_updates(client, plan)
            scan.at_windows(client, plan)
        oldest_available = max(plan.oldest_served(zone, now, settings.start) for zone in settings.zones)
        provider_ok = last_tick_succeeded(context.instance)
        due, later = revisions.requests(
            scan.changed,
            active_runs(context.instance, heartbeat_timeout(settings)).values(),
            oldest_available,
            provider_ok=provider_ok,
        )
        if later:
            why = "for a run of these hours that is queued or going on" if provider_ok else "until a tick succeeds"
            scan.sentences.append(f"{format_windows(later)} changed, and wait {why}.")
        requests = [dg.RunRequest(tags=tags_of(window, triggered_by="revisions")) for window in due]
        for sentence in scan.sentences:
            context.log.info(sentence)
        return result_of(requests, scan.sentences or ["Nothing has changed."], scan.memory(later).dumps())

    return sensor
