"""The responses of bronze that hold some hours, of both roads to power."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA
from emaps_dagster.contracts.windows import Window
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.transforms.timestamps import instant


class Responses(NamedTuple):
    """Rows of the bronze tables; `mix` is None where no run has requested electricity-mix."""

    power: DataFrame
    carbon: DataFrame
    mix: DataFrame | None


def responses_of(lakehouse: Lakehouse, zones: Sequence[str], hours: Window, until: datetime | None = None) -> Responses:
    """The responses of the zones that contain hours of the window, those ingested by `until` if it is given."""
    wanted = F.col("zone").isin(*zones)
    if until is not None:
        wanted &= F.col("ingested_at") <= instant(until)
    power, carbon = (
        lakehouse.scan_responses(table, hours, longest=LONGEST_BODY).where(wanted)
        for table in (POWER_DATA, CARBON_DATA)
    )
    mix = lakehouse.scan_mix(hours, longest=LONGEST_BODY)
    return Responses(power, carbon, None if mix is None else mix.where(wanted))
