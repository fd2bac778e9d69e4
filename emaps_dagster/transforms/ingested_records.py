"""The records of a feed with their ingestions, by either road to power; as_of.py chooses those that a row saw."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import neighbours_of, zone_column
from emaps_dagster.transforms.gold import with_flows
from emaps_dagster.transforms.records import CARBON_FIELDS, POWER_FIELDS, POWER_MAPS, FeedFields
from emaps_dagster.transforms.repeated_records import distinct_records, ingestions, last_ingestion
from emaps_dagster.transforms.silver import power_records


@dataclass(frozen=True)
class FeedRecords:
    """A feed's responses and what to read of them; flows by neighbour are numbers of their own.

    With rows of bronze.mix_data, power records are those of both roads, as in silver, and parsed whole: a record
    is assembled from several responses. Without, each distinct record is parsed once, and only its wanted fields.
    """

    name: str
    responses: DataFrame
    fields: FeedFields
    zone_keys: tuple[str, ...]
    mix: DataFrame | None = None

    def where(self, condition: Column) -> FeedRecords:
        """The records of some responses only."""
        mix = None if self.mix is None else self.mix.where(condition)
        return FeedRecords(self.name, self.responses.where(condition), self.fields, self.zone_keys, mix)

    def ingested(self, hours: Window) -> DataFrame:
        """Every ingestion of the records of some hours that were over then.

        Returns:
            zone, datetime, ingested_at, payload_sha256, updated_at, position (in the response), and the fields.
        """
        if self.mix is not None:
            return self._of_both_roads(self.mix, hours)
        found = distinct_records(self.responses, self.fields, hours.start, hours.end, ingestions())
        return self._at(found.withColumn("one", F.explode("ingested")), "one")

    def last_ingested(self, hours: Window) -> DataFrame:
        """As `ingested`, but of equal texts of a record at least the last ingestion, which costs less."""
        if self.mix is not None:
            return self._of_both_roads(self.mix, hours)
        return self._at(
            distinct_records(self.responses, self.fields, hours.start, hours.end, last_ingestion()), "ingested"
        )

    def _at(self, found: DataFrame, ingestion: str) -> DataFrame:
        return found.select(
            "zone",
            "datetime",
            "updated_at",
            *self.fields.content,
            *(F.col(f"{ingestion}.{name}").alias(name) for name in ("ingested_at", "payload_sha256")),
            (F.col(f"{ingestion}.place") + F.col("number")).alias("position"),
        ).where(F.col("datetime") + F.expr("INTERVAL 1 HOUR") <= F.col("ingested_at"))

    def _of_both_roads(self, mix: DataFrame, hours: Window) -> DataFrame:
        records = power_records(self.responses, mix, hours.start, hours.end)
        by_zone = {name: F.map_from_entries(F.col(name)) for name in POWER_MAPS}
        flagged = with_flows(records.withColumns(by_zone), self.zone_keys).withColumnRenamed(
            "is_estimated", f"is_estimated_{self.name}"
        )
        keys = ("zone", "datetime", "updated_at", "ingested_at", "payload_sha256", "position")
        return flagged.select(*keys, *self.fields.content)


def feeds(
    power: DataFrame,
    carbon: DataFrame,
    mix: DataFrame | None,
    zone_keys: tuple[str, ...],
    names: Collection[str],
) -> tuple[FeedRecords, FeedRecords]:
    """The records of both feeds with some fields: columns of silver, and flows by neighbour as gold names them."""
    flows = {
        f"{direction}_{zone_column(neighbour)}": f"power{direction.title()}Breakdown.`{neighbour}`"
        for direction in ("import", "export")
        for neighbour in neighbours_of(zone_keys)
    }
    of_power = FeedFields(POWER_FIELDS.numbers | flows, {}, {}, {"is_estimated_power": "isEstimated"}, {})
    of_carbon = FeedFields(CARBON_FIELDS.numbers, CARBON_FIELDS.texts, {}, {"is_estimated_carbon": "isEstimated"}, {})
    return (
        FeedRecords("power", power, of_power.only(names), zone_keys, mix),
        FeedRecords("carbon", carbon, of_carbon.only(names), zone_keys),
    )
