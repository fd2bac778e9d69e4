"""What is noticed between the ticks: holes, revisions, failures. Thin: upkeep/ decides, this asks and acts.

Each sensor says in Dagster's UI why it did or did not ask. A cursor that another release wrote begins afresh.
"""

# No postponed annotations: Dagster reads the types of a sensor's arguments when it decorates.

from collections.abc import Mapping
from datetime import datetime

import dagster as dg
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from emaps_dagster.contracts.errors import LakehouseError
from emaps_dagster.contracts.settings import Settings, read_settings
from emaps_dagster.contracts.tables import ENERGY_DATA, ml_features
from emaps_dagster.contracts.windows import Window, floor_hour
from emaps_dagster.defs.instance.runs import (
    going_on,
    last_tick_succeeded,
    longest_silence,
    plan_of,
    present,
    reads_of_history,
    statuses,
    tags_of,
)
from emaps_dagster.defs.partitions import nothing_over_yet
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.monitoring import gaps, revisions
from emaps_dagster.monitoring.alert_delivery import ways_of
from emaps_dagster.monitoring.hour_ranges import missed, oldest_carried, told
from emaps_dagster.monitoring.incident_messages import text_of
from emaps_dagster.monitoring.revision_scan import FOLDERS, Inbox, RevisionLook, time_is_up
from emaps_dagster.monitoring.stored_hours import Missing, missing

# The provider goes over its records once an hour.
_LOOKS_SECONDS = 1800
_ALERT_SECONDS = 60


def all_sensors(
    job: "dg.UnresolvedAssetJobDefinition", settings: Settings, partitions: dg.PartitionsDefinition[str]
) -> list[dg.SensorDefinition]:
    return [
        gaps_sensor(job, settings, partitions),
        revisions_sensor(job, settings, partitions),
        run_failure_sensor(),
    ]


def gaps_sensor(
    job: "dg.UnresolvedAssetJobDefinition", settings: Settings, partitions: dg.PartitionsDefinition[str]
) -> dg.SensorDefinition:
    upper = [dg.AssetKey(table.asset_key) for table in (ENERGY_DATA, ml_features(settings.zones))]

    @dg.sensor(
        job=job,
        name="gaps",
        minimum_interval_seconds=_LOOKS_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Every half hour: hours of the last 92 days that bronze, silver or gold lacks, or whose last run failed, "
            "in the fewest runs. What the provider does not have is asked for less and less."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, electricity_maps: ElectricityMapsResource) -> dg.SensorResult:
        now = electricity_maps.clock()
        if early := nothing_over_yet(settings.start, now):
            return _result([], [early], None)
        watched = Window(max(settings.start, floor_hour(now) - gaps.WATCHED), floor_hour(now))
        shown = statuses(context.instance, list(upper[1].path), partitions, watched)
        plan = plan_of(context.instance, electricity_maps, settings.zones, now)
        served = {
            zone: plan.oldest_served(zone, now, settings.start) if plan else oldest_carried(now)
            for zone in settings.zones
        }
        if settings.deployment in FOLDERS:
            try:
                found = missing(settings.warehouse, settings.zones, watched)
            except LakehouseError as error:
                return _result([], [str(error)], None)
        else:
            found = _missing_by_status(shown, settings.zones)
        decision = gaps.decide(
            now,
            gaps.Holes(
                found.lacking,
                found.unmerged,
                quarantined=found.quarantined,
                failed={hour for hour, status in shown.items() if status == AssetPartitionStatus.FAILED},
                untried=missed(
                    now,
                    settings.start,
                    (hour for hour, status in shown.items() if status is not None),
                    past_range=plan is not None and plan.past_range >= set(settings.zones),
                ),
                silent=found.silent,
            ),
            served,
            gaps.Memory.loads(context.cursor),
            busy=going_on(context.instance, longest_silence(settings)).values(),
            well=last_tick_succeeded(context.instance),
        )
        requests = [dg.RunRequest(tags=tags_of(w, asked_by="gaps")) for w in decision.fetch]
        requests += [
            dg.RunRequest(tags=tags_of(w, asked_by="gaps", why="bronze has them"), asset_selection=upper)
            for w in decision.merge
        ]
        for sentence in decision.sentences:
            context.log.info(sentence)
        return _result(requests, decision.sentences or ["Nothing is missing."], decision.memory.dumps())

    return sensor


def _missing_by_status(shown: Mapping[datetime, AssetPartitionStatus | None], zones: tuple[str, ...]) -> Missing:
    """Where tables cannot be read from here: hours without a run, from the first that has one on."""
    tried = [hour for hour, status in shown.items() if status is not None]
    lacking = {hour for hour, status in shown.items() if tried and status is None and hour > min(tried)}
    return Missing(dict.fromkeys(zones, lacking), set())


def revisions_sensor(
    job: "dg.UnresolvedAssetJobDefinition", settings: Settings, partitions: dg.PartitionsDefinition[str]
) -> dg.SensorDefinition:
    gold = ml_features(settings.zones).asset_key

    @dg.sensor(
        job=job,
        name="revisions",
        minimum_interval_seconds=_LOOKS_SECONDS,
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
            return _result([], [early], None)
        memory = revisions.Memory.loads(context.cursor)
        plan = plan_of(context.instance, electricity_maps, settings.zones, now)
        if plan is None:
            return _result([], ["The provider does not say what the plan serves; see the log of the daemon."], None)
        if not plan.past_range:
            return _result([], ["The plan serves no hours older than a day: revisions come with each tick."], None)
        watched = Window(max(settings.start, floor_hour(now) - revisions.WATCHED), floor_hour(now))
        shown = statuses(context.instance, gold, partitions, watched)
        made = {hour for hour, status in shown.items() if status == AssetPartitionStatus.MATERIALIZED}
        look = RevisionLook(now, settings, memory, made, reads_of_history(context.instance, now), until)
        with electricity_maps.hasty_client() as client:
            look.at_updates(client, plan)
            look.at_windows(client, plan)
        served = max(plan.oldest_served(zone, now, settings.start) for zone in settings.zones)
        well = last_tick_succeeded(context.instance)
        ask, later = revisions.requests(
            look.changed, going_on(context.instance, longest_silence(settings)).values(), served, well=well
        )
        if later:
            why = "for a run of these hours that is queued or going on" if well else "until a tick succeeds"
            look.sentences.append(f"{told(later)} changed, and wait {why}.")
        requests = [dg.RunRequest(tags=tags_of(window, asked_by="revisions")) for window in ask]
        for sentence in look.sentences:
            context.log.info(sentence)
        return _result(requests, look.sentences or ["Nothing has changed."], look.memory(later).dumps())

    return sensor


def run_failure_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="run_failure",
        minimum_interval_seconds=_ALERT_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Every minute: tells people of failed runs, once for each cause, and when it is over, by the webhook and "
            "the e-mail of the settings (EMAPS_ALERT_WEBHOOK, EMAPS_ALERT_EMAIL)."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings = read_settings()
        inbox = Inbox.loads(context.cursor, present())
        news = inbox.take(context.instance)
        for item in news:
            inbox.queue(*text_of(item, settings.ui_url), ways_of(settings))
        told, problems = inbox.send(settings)
        for problem in problems:
            context.log.error(problem)
        nobody = [] if ways_of(settings) else ["Nobody is told: set EMAPS_ALERT_WEBHOOK or EMAPS_ALERT_EMAIL."]
        said = [f"{told} message{'' if told == 1 else 's'} sent."] if told else []
        causes = f"{len(inbox.causes.open)} cause{'' if len(inbox.causes.open) == 1 else 's'} of failure open."
        return _result([], [*said, *nobody, *problems, causes], inbox.dumps())

    return sensor


def _result(requests: list[dg.RunRequest], sentences: list[str], cursor: str | None) -> dg.SensorResult:
    """Requests or, without any, the reason; both with the cursor."""
    if requests:
        return dg.SensorResult(run_requests=requests, cursor=cursor)
    return dg.SensorResult(skip_reason=dg.SkipReason(" ".join(sentences)), cursor=cursor)
