"""The sensor `gaps`: requests runs for hours that bronze, silver or gold lacks."""

# No postponed annotations: Dagster reads the argument types of a sensor when it decorates it.

from collections.abc import Mapping
from datetime import datetime

import dagster as dg

from emaps_dagster.contracts.errors import LakehouseError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import Window, floor_hour
from emaps_dagster.defs.instance.runs import active_runs, heartbeat_timeout, last_tick_succeeded, statuses, tags_of
from emaps_dagster.defs.partitions import nothing_over_yet
from emaps_dagster.defs.resources.api_plan import plan_of
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.sensors.results import SCAN_SECONDS, result_of
from emaps_dagster.monitoring import gaps
from emaps_dagster.monitoring.hour_ranges import missed, oldest_history_hour
from emaps_dagster.monitoring.revision_scan import FOLDERS
from emaps_dagster.monitoring.stored_hours import MissingHours, missing


def gaps_sensor(
    job: "dg.UnresolvedAssetJobDefinition", settings: Settings, partitions: dg.PartitionsDefinition[str]
) -> dg.SensorDefinition:
    upper = [dg.AssetKey(table.asset_key) for table in (ENERGY_DATA, ml_features(settings.zones))]

    @dg.sensor(
        job=job,
        name="gaps",
        minimum_interval_seconds=SCAN_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Every half hour: hours of the last 92 days that bronze, silver or gold lacks, or whose last run failed, "
            "in the fewest runs. What the provider does not have is requested less and less often."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, electricity_maps: ElectricityMapsResource) -> dg.SensorResult:
        now = electricity_maps.clock()
        if early := nothing_over_yet(settings.start, now):
            return result_of([], [early], None)
        watched = Window(max(settings.start, floor_hour(now) - gaps.WATCHED), floor_hour(now))
        status_by_hour = statuses(context.instance, list(upper[1].path), partitions, watched)
        plan = plan_of(context.instance, electricity_maps, settings.zones, now)
        oldest_available = {
            zone: plan.oldest_served(zone, now, settings.start) if plan else oldest_history_hour(now)
            for zone in settings.zones
        }
        if settings.deployment in FOLDERS:
            try:
                found = missing(settings.warehouse, settings.zones, watched)
            except LakehouseError as error:
                return result_of([], [str(error)], None)
        else:
            found = _missing_by_status(status_by_hour, settings.zones)
        decision = gaps.decide(
            now,
            gaps.IncompleteHours(
                found.not_fetched,
                found.not_merged,
                quarantined=found.quarantined,
                failed={hour for hour, status in status_by_hour.items() if status == dg.AssetPartitionStatus.FAILED},
                untried=missed(
                    now,
                    settings.start,
                    (hour for hour, status in status_by_hour.items() if status is not None),
                    past_range=plan is not None and plan.past_range >= set(settings.zones),
                ),
                silent=found.silent,
            ),
            oldest_available,
            gaps.GapsCursor.loads(context.cursor),
            active_windows=active_runs(context.instance, heartbeat_timeout(settings)).values(),
            provider_ok=last_tick_succeeded(context.instance),
        )
        requests = [dg.RunRequest(tags=tags_of(w, triggered_by="gaps")) for w in decision.fetch]
        requests += [
            dg.RunRequest(tags=tags_of(w, triggered_by="gaps", why="bronze has them"), asset_selection=upper)
            for w in decision.merge
        ]
        for sentence in decision.sentences:
            context.log.info(sentence)
        return result_of(requests, decision.sentences or ["Nothing is missing."], decision.memory.dumps())

    return sensor


def _missing_by_status(
    status_by_hour: Mapping[datetime, dg.AssetPartitionStatus | None], zones: tuple[str, ...]
) -> MissingHours:
    """For tables of a catalog, which cannot be read here: the hours without a run after the first that has one."""
    tried = [hour for hour, status in status_by_hour.items() if status is not None]
    not_fetched = {hour for hour, status in status_by_hour.items() if tried and status is None and hour > min(tried)}
    return MissingHours(dict.fromkeys(zones, not_fetched), set())
