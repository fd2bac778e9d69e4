"""Which materialization is the latest of a partition, asked of Dagster's storage in few queries."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

Target = AssetCheckEvaluationTargetMaterializationData

# SQLite takes a bounded number of values in one IN list.
_LOOKED_UP_AT_ONCE = 500


def latest_materializations(instance: dg.DagsterInstance, key: dg.AssetKey, partitions: list[str]) -> dict[str, Target]:
    """The latest materialization of each partition: without it a status does not count as current."""
    targets: dict[str, Target] = {}
    for first in range(0, len(partitions), _LOOKED_UP_AT_ONCE):
        some = partitions[first : first + _LOOKED_UP_AT_ONCE]
        filter_ = dg.AssetRecordsFilter(asset_key=key, asset_partitions=some)
        cursor = None
        while len(targets.keys() & set(some)) < len(some):
            page = instance.fetch_materializations(filter_, limit=len(some), cursor=cursor)
            for record in page.records:
                if record.partition_key is not None and record.partition_key not in targets:
                    targets[record.partition_key] = Target(
                        storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
                    )
            cursor = page.cursor
            if not page.has_more:
                break
    return targets
