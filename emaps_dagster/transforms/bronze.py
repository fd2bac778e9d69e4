"""Which fetched responses bronze has to take in. Parsing belongs to silver."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def _complete_until(ingested_at: Column, window_end: Column) -> Column:
    """End of the hours of a body that were over when it was ingested."""
    return F.least(window_end, F.date_trunc("hour", ingested_at))


def new_responses(fetched: DataFrame, stored: DataFrame) -> DataFrame:
    """The fetched responses that tell something new.

    A response is left out when bronze holds the very same body, nothing that shares an hour with it was
    ingested since, and no hour that was running then is complete now: storing it could not change silver.

    Args:
        fetched: bronze rows of this run, one per response.
        stored: bronze rows that may share hours with them.
    """
    new, old, other = fetched.alias("new"), stored.alias("old"), stored.alias("other")
    same_body = (
        (F.col("new.zone") == F.col("old.zone"))
        & (F.col("new.payload_sha256") == F.col("old.payload_sha256"))
        # A clock that went back makes an old body news: it was known earlier than bronze says.
        & (F.col("new.ingested_at") >= F.col("old.ingested_at"))
        & (
            _complete_until(F.col("new.ingested_at"), F.col("new.window_end"))
            == _complete_until(F.col("old.ingested_at"), F.col("old.window_end"))
        )
    )
    overtaken = (
        (F.col("old.zone") == F.col("other.zone"))
        & (F.col("old.payload_sha256") != F.col("other.payload_sha256"))
        & (F.col("other.ingested_at") >= F.col("old.ingested_at"))
        & (F.col("other.window_start") < F.col("old.window_end"))
        & (F.col("other.window_end") > F.col("old.window_start"))
    )
    still_latest = old.join(other, overtaken, how="left_anti").alias("old")
    return new.join(still_latest, same_body, how="left_anti").select(fetched.columns)
