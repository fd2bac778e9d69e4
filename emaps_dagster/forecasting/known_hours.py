"""Which hours were known in time, backfilled or never fetched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pandas as pd
import pyarrow as pa

from emaps_dagster.contracts.errors import FeaturesError
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.features.coverage import IN_TIME
from emaps_dagster.features.reading import plain
from emaps_dagster.features.responses import responses_of
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.transforms.as_of import first_ingested

KNOWN, LATE, BACKFILLED, MISSING = STATUSES = ("known", "late", "backfilled", "missing")
FEED_NAMES = ("power", "carbon")


def coverage_of(lakehouse: Lakehouse, zones: Sequence[str], hours: Window, delay: timedelta) -> pd.DataFrame:
    """The status of each hour of each zone; see `forecasting.coverage`."""
    parts = []
    for part in hours.by_month():
        power, carbon, mix = responses_of(lakehouse, zones, part)
        parts.append(plain(lakehouse.collect(first_ingested(power, carbon, part.start, part.end, mix=mix))))
    first = pa.concat_tables(parts).to_pandas().set_index(["zone", "datetime"])
    index = pd.MultiIndex.from_product(
        [list(zones), pd.date_range(hours.start, hours.end, freq="h", inclusive="left", unit="us")],
        names=["zone", "datetime"],
    )
    found = first.reindex(index)
    ended = index.get_level_values("datetime") + HOUR
    ranks = pd.DataFrame(index=index)
    for feed in FEED_NAMES:
        wait = found[f"ingested_at_{feed}"] - ended
        rank = pd.Series(STATUSES.index(MISSING), index=index)
        rank[wait.notna()] = STATUSES.index(BACKFILLED)
        rank[wait <= IN_TIME] = STATUSES.index(LATE)
        rank[wait <= delay] = STATUSES.index(KNOWN)
        ranks[feed] = rank
    ranks["status"] = ranks.max(axis=1)
    named = ranks.apply(lambda codes: pd.Series(pd.Categorical.from_codes(codes, pd.Index(STATUSES)), index=index))
    return named[["status", *FEED_NAMES]].join(found)


def check_on_unknown(value: str) -> None:
    if value not in ("raise", "drop", "final"):
        raise FeaturesError(
            f"on_unknown is {value!r}; 'raise' is an error where rows were not known in time, 'drop' leaves them out, "
            "'final' computes them from the final values and adds the column known_in_time."
        )
