"""Looks up the latest materialization of each partition in Dagster's storage, in few queries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import func, select

Target = AssetCheckEvaluationTargetMaterializationData

# SQLite limits the number of values in an IN list.
_LOOKED_UP_AT_ONCE = 500


def latest_materializations(instance: dg.DagsterInstance, key: dg.AssetKey, partitions: list[str]) -> dict[str, Target]:
    """The latest materialization of each partition; a check evaluation needs it to count as current."""
    storage = instance.event_log_storage
    targets: dict[str, Target] = {}
    for first in range(0, len(partitions), _LOOKED_UP_AT_ONCE):
        some = partitions[first : first + _LOOKED_UP_AT_ONCE]
        if isinstance(storage, SqlEventLogStorage):
            found = _by_columns(storage, key, some)
        else:
            found = _by_events(instance, key, some)
        targets.update(found)
    return targets


def latest_materialization(instance: dg.DagsterInstance, key: dg.AssetKey) -> Target | None:
    """The latest materialization of any partition."""
    latest = instance.fetch_materializations(key, limit=1).records
    return _target(latest[0]) if latest else None


def materializations_of_run(
    instance: dg.DagsterInstance, key: dg.AssetKey, run_id: str, since: int
) -> dict[str | None, Target]:
    """The latest materialization of each partition by this run; other runs may have made later ones.

    Args:
        instance: Dagster's.
        key: of the asset.
        run_id: of the run.
        since: only materializations with a greater storage id.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return _of_run_by_events(instance, key, run_id, since)
    event = SqlEventLogStorageTable.c
    latest = (
        select(func.max(event.id))
        .where(event.asset_key == key.to_string(), event.run_id == run_id, event.id > since)
        .where(event.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value)
        .group_by(event.partition)
    )
    query = select(event.id, event.partition, event.timestamp).where(event.id.in_(latest))
    with storage.index_connection() as connection:
        return {
            row.partition: Target(storage_id=row.id, run_id=run_id, timestamp=_seconds(row.timestamp))
            for row in connection.execute(query)
        }


def _of_run_by_events(
    instance: dg.DagsterInstance, key: dg.AssetKey, run_id: str, since: int
) -> dict[str | None, Target]:
    """Use the public API, which every storage supports."""
    found: dict[str | None, Target] = {}
    records, cursor = dg.AssetRecordsFilter(asset_key=key, after_storage_id=since), None
    while True:
        page = instance.fetch_materializations(records, limit=_LOOKED_UP_AT_ONCE, cursor=cursor)
        for record in page.records:
            if record.run_id == run_id:
                found.setdefault(record.partition_key, _target(record))
        cursor = page.cursor
        if not page.has_more:
            return found


def _target(record: dg.EventLogRecord) -> Target:
    return Target(storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp)


def _seconds(timestamp: datetime) -> float:
    return timestamp.replace(tzinfo=timezone.utc).timestamp()


def _by_columns(storage: SqlEventLogStorage, key: dg.AssetKey, partitions: list[str]) -> Iterator[tuple[str, Target]]:
    """Read columns only: deserializing the events of 720 hours of four assets takes half as long as their compute."""
    ids = storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION, set(partitions))
    event = SqlEventLogStorageTable.c
    query = select(event.id, event.run_id, event.timestamp).where(event.id.in_(ids.values()))
    with storage.index_connection() as connection:
        rows = {row.id: row for row in connection.execute(query)}
    for partition, storage_id in ids.items():
        row = rows[storage_id]
        yield partition, Target(storage_id=storage_id, run_id=row.run_id, timestamp=_seconds(row.timestamp))


def _by_events(instance: dg.DagsterInstance, key: dg.AssetKey, partitions: list[str]) -> Iterator[tuple[str, Target]]:
    """Use the public API, which every storage supports."""
    left, cursor = set(partitions), None
    while left:
        page = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=partitions), limit=len(partitions), cursor=cursor
        )
        for record in page.records:
            if record.partition_key in left:
                left.remove(record.partition_key)
                yield record.partition_key, _target(record)
        cursor = page.cursor
        if not page.has_more:
            break
