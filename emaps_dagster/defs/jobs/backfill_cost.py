"""The job `backfill_cost`: estimates the API calls of a backfill before it starts. It fetches no data."""

# No postponed annotations: Dagster reads the argument types of an op when it decorates it.

from datetime import timedelta

import dagster as dg
from pydantic import Field

from emaps_dagster.contracts.errors import ProviderError
from emaps_dagster.contracts.feature_query import hours_between
from emaps_dagster.contracts.partition_keys import refuse_hours_not_over
from emaps_dagster.contracts.settings import read_settings
from emaps_dagster.contracts.signals import power_feeds, request_name
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.defs.names import BACKFILL_COST
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.electricity_maps.fetch import count_requests
from emaps_dagster.monitoring.api_plan import plan_from

_STEP = "calls_by_zone_and_signal"


class CostConfig(dg.Config):
    """Config of the job in the launchpad."""

    start: str = Field(description="First hour of the backfill, UTC: a day such as 2024-05-01, or 2024-05-01T06:00Z")
    end: str = Field(description="End of the last hour, likewise; the hours are [start, end)")


def backfill_cost_job(zones: tuple[str, ...], road: str, *, here: bool = False) -> dg.JobDefinition:
    """The job of one step.

    Args:
        zones: of the pipeline.
        road: the power signal.
        here: run the step where Dagster runs, since the compute of a launched step does not reach the API.
    """
    return cost_graph(zones, road, here=here).to_job(
        name=BACKFILL_COST,
        description=(
            "How many calls of the API a backfill of a range would take, by zone and signal, and whether the token's "
            "plan serves it. It fetches nothing: launch it before a long backfill."
        ),
        config=for_its_step,
    )


def cost_graph(zones: tuple[str, ...], road: str, *, here: bool = False) -> dg.GraphDefinition:
    """One op that counts the calls and reads the plan."""

    signals = (*power_feeds(road), CARBON)

    def calls_by_zone_and_signal(
        context: dg.OpExecutionContext, config: CostConfig, electricity_maps: ElectricityMapsResource
    ) -> None:
        hours = hours_between(config.start, config.end)
        now = electricity_maps.clock()
        refuse_hours_not_over(hours, now)
        each = count_requests(hours, now)
        total = each * len(zones) * len(signals)
        unserved: list[str] = []
        try:
            with electricity_maps.sensor_client() as client:
                plan = plan_from(client.zones(), zones, signals)
            unserved = [zone for zone in zones if plan.oldest_served(zone, now, hours.start) > hours.start]
        except ProviderError as error:
            context.log.warning("whether the plan serves these hours is not known: %s", error)
        pace = read_settings().calls_per_minute
        lasts = f", {timedelta(seconds=round(total * 60 / pace))} at EMAPS_CALLS_PER_MINUTE={pace:g}" if pace else ""
        context.log.info(
            "%s, %d hours: %d calls (%d zone%s, %d signals, %d each)%s. Nothing was fetched.",
            hours,
            (hours.end - hours.start) // HOUR,
            total,
            len(zones),
            "" if len(zones) == 1 else "s",
            len(signals),
            each,
            lasts,
        )
        if unserved:
            context.log.warning("the plan does not serve all of these hours for %s", ", ".join(unserved))
        rows = [
            dg.TableRecord({"zone": zone, "signal": request_name(signal), "calls": each})
            for zone in zones
            for signal in signals
        ]
        context.add_output_metadata(
            {
                "window": str(hours),
                "calls": total,
                "calls_by_zone_and_signal": dg.MetadataValue.table(rows),
                **({"not_served_by_the_plan": ", ".join(unserved)} if unserved else {}),
            }
        )

    step = dg.op(
        name=_STEP,
        out=dg.Out(dg.Nothing),
        description="How many calls each zone and signal takes; one call requests the plan.",
    )(calls_by_zone_and_signal if here else launchable(calls_by_zone_and_signal))

    @dg.graph(name="backfill_cost")
    def backfill_cost() -> None:
        step()

    return backfill_cost


@dg.config_mapping
def for_its_step(config: CostConfig) -> dg.RunConfig:
    """Map the config of the job to its only op."""
    return dg.RunConfig(ops={_STEP: config})
