"""Sensors between the hourly runs: missing hours, revised hours, failed runs.

Each evaluation shows in Dagster's UI why it requested runs or did not. A cursor of another release is discarded.
`monitoring` makes the decisions.
"""

import dagster as dg

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.defs.sensors.gaps import gaps_sensor
from emaps_dagster.defs.sensors.revisions import revisions_sensor
from emaps_dagster.defs.sensors.run_failure import run_failure_sensor


def all_sensors(
    job: "dg.UnresolvedAssetJobDefinition", settings: Settings, partitions: dg.PartitionsDefinition[str]
) -> list[dg.SensorDefinition]:
    return [
        gaps_sensor(job, settings, partitions),
        revisions_sensor(job, settings, partitions),
        run_failure_sensor(),
    ]
