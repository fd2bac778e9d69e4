"""The responses of bronze that hold some hours, of both roads to power, and the rows of a query made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.api_limits import LONGEST_BODY
from emaps_dagster.contracts.feature_query import FeatureQuery
from emaps_dagster.contracts.tables import CARBON_DATA, POWER_DATA
from emaps_dagster.contracts.windows import Window, gold_context
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.transforms.as_of import features_as_of, features_known_at, first_ingested
from emaps_dagster.transforms.timestamps import instant


class Responses(NamedTuple):
    """Rows of the bronze tables; `mix` is None where no run has requested electricity-mix."""

    power: DataFrame
    carbon: DataFrame
    mix: DataFrame | None


def responses_of(
    lakehouse: Lakehouse,
    zones: Sequence[str],
    hours: Window,
    until: datetime | None = None,
    *,
    months_of_mix: frozenset[str] | None = None,
) -> Responses:
    """The responses of the zones that contain hours of the window, those ingested by `until` if it is given.

    `months_of_mix` are the months of bronze.mix_data with rows, None where they are not known: without one of them,
    `mix` is None, because records of both roads are parsed whole, which costs more.
    """
    wanted = F.col("zone").isin(*zones)
    if until is not None:
        wanted &= F.col("ingested_at") <= instant(until)
    power, carbon = (
        lakehouse.scan_responses(table, hours, longest=LONGEST_BODY).where(wanted)
        for table in (POWER_DATA, CARBON_DATA)
    )
    months = hours.widen(LONGEST_BODY, timedelta(0)).months()
    has_mix = months_of_mix is None or not months_of_mix.isdisjoint(months)
    mix = lakehouse.scan_mix(hours, longest=LONGEST_BODY) if has_mix else None
    return Responses(power, carbon, None if mix is None else mix.where(wanted))


@dataclass(frozen=True)
class KnownRows:
    """Plans of the rows of a query with `as_of` or a delay, from bronze; `months_of_mix` as in `responses_of`."""

    query: FeatureQuery
    lakehouse: Lakehouse
    zone_keys: tuple[str, ...]
    months_of_mix: frozenset[str] | None = None

    def rows(self, part: Window, columns: list[str]) -> DataFrame:
        """The rows of some of the query's hours, as known, with these columns."""
        as_of, delay = self.query.as_of, self.query.delay
        # The last row of a delay is computed that long after the end of the part.
        until = as_of if as_of is not None else part.end + (delay or timedelta(0))
        power, carbon, mix = self._responses(gold_context(part), until)
        of = (power, carbon, self.zone_keys, part.start, part.end)
        if as_of is not None:
            return features_as_of(*of, as_of, columns, mix=mix).select(columns)
        assert delay is not None
        return features_known_at(*of, delay, columns, mix=mix).select(columns)

    def first_ingested(self, part: Window) -> DataFrame:
        """When each hour first had a record in each feed; see `transforms.as_of.first_ingested`."""
        power, carbon, mix = self._responses(part)
        return first_ingested(power, carbon, part.start, part.end, mix=mix)

    def _responses(self, hours: Window, until: datetime | None = None) -> Responses:
        return responses_of(self.lakehouse, self.query.zones, hours, until, months_of_mix=self.months_of_mix)
