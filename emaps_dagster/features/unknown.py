"""Describes why rows of the past cannot be computed: zones that were unknown then, and gold of other zones."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from emaps_dagster.contracts.errors import FeaturesError, NoFeaturesError
from emaps_dagster.contracts.feature_query import FeatureQuery, other_zone
from emaps_dagster.contracts.tables import ml_features
from emaps_dagster.contracts.windows import Window
from emaps_dagster.contracts.zones import ZONES, zone_column
from emaps_dagster.features.coverage import FirstIngested, Key, why_not_in_time
from emaps_dagster.features.reading import UTC, listed, spans_of

# Columns of bronze that the sentences need.
WHEN_AND_WHICH = ("zone", "ingested_at", "window_start", "window_end")


def zones_of_columns(stored: list[str], place: Path | str) -> tuple[str, ...]:
    """Zones that result in the flow columns of the stored gold.

    They may differ from the pipeline's zones if the neighbours are the same: only the columns matter.

    Raises:
        FeaturesError: a flow column belongs to no zone of this release.
    """
    flows = {name for name in stored if name.startswith(("import_", "export_")) and not name.endswith("_total")}
    zone_keys = tuple(
        key
        for key, zone in ZONES.items()
        if all(f"import_{zone_column(neighbour)}" in flows for neighbour in zone.neighbours)
    )
    if unknown := sorted(flows.difference(ml_features(zone_keys).column_names)):
        raise FeaturesError(
            f"gold.ml_features at {place} was made for zones or neighbours that this release does not know: its "
            f"{', '.join(unknown)}. Rebuild gold with this release, or read it without as_of and known_at."
        )
    return zone_keys


def refuse_absent(
    query: FeatureQuery,
    absent: list[str],
    missing: list[Key],
    first: FirstIngested,
    responses: pa.Table,
    place: Path | str,
) -> NoReturn:
    """Raises NoFeaturesError for the first zone of which no hour was known.

    Args:
        query: the query.
        absent: zones without a row.
        missing: requested hours without a row.
        first: first ingestion time of each hour.
        responses: WHEN_AND_WHICH of bronze.
        place: location of the tables, for the message.
    """
    zone = absent[0]
    lacking = [key for key in missing if key[0] == zone]
    raise NoFeaturesError(_why_unknown(query, zone, lacking, first, responses, place))


def _why_unknown(
    query: FeatureQuery, zone: str, missing: list[Key], first: FirstIngested, responses: pa.Table, place: Path | str
) -> str:
    ingested = spans_of(responses, "ingested_at", "ingested_at")
    if zone not in ingested:
        return f"Bronze at {place} holds no response of zone {zone}; it holds {listed(ingested)}." + other_zone(
            zone, ingested
        )
    of_zone = responses.filter(pc.field("zone") == zone)
    if query.as_of is not None:
        then = f"{query.as_of:%Y-%m-%dT%H:%M:%SZ}"
        if query.as_of < ingested[zone][0]:
            return (
                f"Nothing of zone {zone} was known at {then}: its first response was ingested at "
                f"{ingested[zone][0]:%Y-%m-%dT%H:%M:%SZ}. Give a later moment as as_of."
            )
        by_then = of_zone.filter(pc.field("ingested_at") <= pa.scalar(query.as_of, UTC))
        start, end = spans_of(by_then, "window_start", "window_end")[zone]
        return (
            f"No hour of zone {zone} in {query.window} was known and over at {then}; what had been ingested by then "
            f"lies in {Window(start, end)}."
        )
    if any(key in first for key in missing):
        return f"No hour of zone {zone} in {query.window} was known {query.delay} after its end. " + why_not_in_time(
            query, missing, first
        )
    start, end = spans_of(of_zone, "window_start", "window_end")[zone]
    return (
        f"Bronze at {place} holds no hour of zone {zone} in {query.window} that was over when it was ingested; it "
        f"holds hours in {Window(start, end)}."
    )
