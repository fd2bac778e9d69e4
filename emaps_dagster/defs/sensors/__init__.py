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
    present,
    reads_of_history,
    statuses,
    tags_of,
)
from emaps_dagster.defs.partitions import nothing_over_yet
from emaps_dagster.defs.resources.api_plan import plan_of
from emaps_dagster.defs.resources.electricity_maps import ElectricityMapsResource
from emaps_dagster.defs.sensors.alert_outbox import Inbox
from emaps_dagster.defs.sensors.gaps import gaps_sensor
from emaps_dagster.defs.sensors.revisions import revisions_sensor
from emaps_dagster.defs.sensors.run_failure import run_failure_sensor
from emaps_dagster.monitoring import gaps, revisions
from emaps_dagster.monitoring.alert_delivery import ways_of
from emaps_dagster.monitoring.hour_ranges import missed, oldest_carried, told
from emaps_dagster.monitoring.incident_messages import text_of
from emaps_dagster.monitoring.revision_scan import FOLDERS, RevisionLook, time_is_up
from emaps_dagster.monitoring.stored_hours import Missing, missing


def all_sensors(
    job: "dg.UnresolvedAssetJobDefinition", settings: Settings, partitions: dg.PartitionsDefinition[str]
) -> list[dg.SensorDefinition]:
    return [
        gaps_sensor(job, settings, partitions),
        revisions_sensor(job, settings, partitions),
        run_failure_sensor(),
    ]
