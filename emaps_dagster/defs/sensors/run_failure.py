"""The sensor `run_failure`: alerts for failed runs."""

import dagster as dg

from emaps_dagster.contracts.settings import read_settings
from emaps_dagster.defs.instance.runs import present
from emaps_dagster.defs.sensors.alert_outbox import AlertOutbox
from emaps_dagster.defs.sensors.results import result_of
from emaps_dagster.monitoring.alert_delivery import channels
from emaps_dagster.monitoring.incident_messages import text_of

_ALERT_SECONDS = 60


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
        inbox = AlertOutbox.loads(context.cursor, present())
        news = inbox.take(context.instance)
        for item in news:
            inbox.queue(*text_of(item, settings.ui_url), channels(settings))
        told, problems = inbox.send(settings)
        for problem in problems:
            context.log.error(problem)
        nobody = [] if channels(settings) else ["Nobody is told: set EMAPS_ALERT_WEBHOOK or EMAPS_ALERT_EMAIL."]
        said = [f"{told} message{'' if told == 1 else 's'} sent."] if told else []
        causes = f"{len(inbox.causes.open)} cause{'' if len(inbox.causes.open) == 1 else 's'} of failure open."
        return result_of([], [*said, *nobody, *problems, causes], inbox.dumps())

    return sensor
