"""The sensor `run_failure`: sends alerts for failed and recovered runs."""

# No postponed annotations: Dagster reads the argument types of a sensor when it decorates it.

import dagster as dg

from emaps_dagster.contracts.settings import read_settings
from emaps_dagster.defs.instance.runs import present
from emaps_dagster.defs.sensors.alert_outbox import AlertOutbox
from emaps_dagster.defs.sensors.results import result_of
from emaps_dagster.monitoring.alert_delivery import channels
from emaps_dagster.monitoring.alert_texts import text_of

_ALERT_SECONDS = 60


def run_failure_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="run_failure",
        minimum_interval_seconds=_ALERT_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Every minute: sends one alert for each cause of failed runs and one when it is resolved, by the webhook "
            "and the e-mail of the settings (EMAPS_ALERT_WEBHOOK, EMAPS_ALERT_EMAIL)."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings = read_settings()
        outbox = AlertOutbox.loads(context.cursor, present())
        for message in outbox.take(context.instance):
            outbox.queue(*text_of(message, settings.ui_url), channels(settings))
        sent, problems = outbox.send(settings)
        for problem in problems:
            context.log.error(problem)
        unconfigured = (
            [] if channels(settings) else ["No alert is delivered: set EMAPS_ALERT_WEBHOOK or EMAPS_ALERT_EMAIL."]
        )
        delivered = [f"{sent} message{'' if sent == 1 else 's'} sent."] if sent else []
        causes = f"{len(outbox.causes.open)} cause{'' if len(outbox.causes.open) == 1 else 's'} of failure open."
        return result_of([], [*delivered, *unconfigured, *problems, causes], outbox.dumps())

    return sensor
