"""Rebinds events of a cluster to this machine's Dagster storage before they are stored here.

On the cluster Dagster has an empty, temporary storage, so references of an event to other events are wrong there. This
module uses private names of Dagster, so it runs with the tested versions only (defs/instance/versions.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import dagster as dg
from dagster._core.definitions.data_version import (
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    SKIP_PARTITION_DATA_VERSION_DEPENDENCY_THRESHOLD,
    compute_logical_data_version,
)
from dagster._core.events import StepMaterializationData
from dagster._core.execution.context.data_version_cache import InputAssetVersionInfo
from dagster._core.execution.plan.execute_step import (
    _build_data_version_tags,
    _get_code_version,
    _get_input_provenance_data,
)
from dagster_shared.record import replace

from emaps_dagster.defs.instance.materializations import (
    Target,
    latest_materialization,
    latest_materializations,
    materializations_of_run,
)
from emaps_dagster.defs.partitions import hours_of, run_window

# Of each asset that the Dagster run has materialized since the submit: the data version of each partition.
Versions = dict[dg.AssetKey, dict[str | None, str]]


class EventProvenance:
    """The references of the events of a Databricks run, from the real storage as it was when the run was submitted.

    Of what was stored later only the Dagster run's own materializations count: another run may have stored one in the
    meantime that the steps did not read.

    Args:
        step_contexts: of all steps of the Databricks run.
    """

    def __init__(self, step_contexts: Sequence[dg.StepExecutionContext]) -> None:
        made: Versions = {}
        self._steps = {context.step.key: _StepProvenance(context, made) for context in step_contexts}

    def rebind(self, entry: dg.EventLogEntry) -> dg.EventLogEntry:
        """The entry as a local step would have stored it. Entries of a step's inputs have to be stored before it."""
        return self._steps[entry.step_key].rebind(entry) if entry.step_key else entry


class _StepProvenance:
    def __init__(self, step_context: dg.StepExecutionContext, made: Versions) -> None:
        self._context = step_context
        self._made = made
        self._inputs = _Inputs(step_context, made) if step_context.is_sda_step else None
        self._targets: dict[dg.AssetKey, _Targets] = {}
        for key in {output.properties.asset_check_key for output in step_context.step.step_outputs}:
            if key and key.asset_key not in self._targets:
                self._targets[key.asset_key] = _Targets(step_context, key.asset_key)

    def rebind(self, entry: dg.EventLogEntry) -> dg.EventLogEntry:
        event = entry.dagster_event
        if event is None:
            return entry
        data = event.event_specific_data
        rebound: StepMaterializationData | dg.AssetCheckEvaluation
        if isinstance(data, StepMaterializationData):
            materialization = data.materialization
            if DATA_VERSION_TAG in (materialization.tags or {}):
                materialization = self._materialization(materialization)
            versions = self._made.setdefault(materialization.asset_key, {})
            versions[materialization.partition] = (materialization.tags or {}).get(DATA_VERSION_TAG, "")
            rebound = data._replace(materialization=materialization)
        elif isinstance(data, dg.AssetCheckEvaluation):
            targets = self._targets.get(data.asset_key)
            made = len(self._made.get(data.asset_key, ()))
            rebound = replace(data, target_materialization_data=targets and targets.of(data.partition, made))
        else:
            return entry
        return entry._replace(dagster_event=event._replace(event_specific_data=rebound))

    def _materialization(self, made: dg.AssetMaterialization) -> dg.AssetMaterialization:
        tags = dict(made.tags or {})
        if self._inputs:
            self._inputs.refresh()
        inputs = _get_input_provenance_data(made.asset_key, self._context)
        code_version = _get_code_version(made.asset_key, self._context)
        is_given = DATA_VERSION_IS_USER_PROVIDED_TAG in tags
        data_version = (
            dg.DataVersion(tags[DATA_VERSION_TAG])
            if is_given
            else compute_logical_data_version(
                code_version, {key: source["data_version"] for key, source in inputs.items()}
            )
        )
        return made._replace(tags={**tags, **_build_data_version_tags(data_version, code_version, inputs, is_given)})


class _Inputs:
    """What a step read: the inputs at the submit, and those that the same Dagster run has made since."""

    def __init__(self, context: dg.StepExecutionContext, made: Versions) -> None:
        self._context = context
        self._made = made
        # Dagster does the same before a local step.
        context.fetch_external_input_asset_version_info()
        self._known = context._data_version_cache.input_asset_version_info  # noqa: SLF001  # there is no public way
        self._partitions = {key: self._partitions_of(key) for key in self._known}
        self._versions = {
            key: self._versions_of(key, partitions) for key, partitions in self._partitions.items() if partitions
        }
        self._since = {key: info.storage_id if info else 0 for key, info in self._known.items()}
        self._is_fresh = False

    def _partitions_of(self, key: dg.AssetKey) -> list[str] | None:
        """The partitions that the input's version is made of; None where it is that of the latest event."""
        name = self._context.job_def.asset_layer.get_node_input_name(self._context.node_handle, key)
        if not name or not self._context.has_asset_partitions_for_input(name):
            return None
        subset = self._context.asset_partitions_subset_for_input(name, require_valid_partitions=False)
        partitions = list(subset.get_partition_keys())
        return partitions if len(partitions) < SKIP_PARTITION_DATA_VERSION_DEPENDENCY_THRESHOLD else None

    def _versions_of(self, key: dg.AssetKey, partitions: list[str]) -> dict[str | None, str]:
        tags = self._context.instance.event_log_storage.get_latest_tags_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG], asset_partitions=partitions
        )
        return {partition: found[DATA_VERSION_TAG] for partition, found in tags.items()}

    def refresh(self) -> None:
        """Add what this run has made; all of it is stored before the step's first materialization."""
        if self._is_fresh:
            return
        self._is_fresh = True
        for key in self._known.keys() & self._made.keys():
            instance, run_id = self._context.instance, self._context.run_id
            found = materializations_of_run(instance, key, run_id, self._since[key])
            latest = max(found, key=lambda partition: found[partition].storage_id)
            self._known[key] = InputAssetVersionInfo(
                found[latest].storage_id,
                dg.DagsterEventType.ASSET_MATERIALIZATION,
                self._version(key, latest),
                run_id,
                found[latest].timestamp,
            )

    def _version(self, key: dg.AssetKey, latest: str | None) -> dg.DataVersion:
        made, partitions = self._made[key], self._partitions[key]
        if partitions is None:
            return dg.DataVersion(made[latest])
        versions: dict[str | None, str] = dict(self._versions.get(key, {}))
        versions |= {partition: made[partition] for partition in partitions if partition in made}
        # Dagster's own rule (data_version_cache.py): the versions in the order of the partitions' keys.
        text = "".join(version for _, version in sorted(versions.items(), key=lambda item: item[0] or ""))
        return dg.DataVersion(sha256(text.encode()).hexdigest())


class _Targets:
    """The materializations of an asset that a check step judges."""

    def __init__(self, context: dg.StepExecutionContext, key: dg.AssetKey) -> None:
        self._context = context
        self._key = key
        instance = context.instance
        hours = list(hours_of(run_window(context)).values()) if context.has_partitions else []
        self._hours: dict[str | None, Target] = dict(latest_materializations(instance, key, hours).items())
        self._latest = latest_materialization(instance, key)
        self._since = self._latest.storage_id if self._latest else 0
        self._made = 0

    def of(self, partition: str | None, made: int) -> Target | None:
        """The target of an evaluation of a partition, or of the table; `made`: partitions that this run has made."""
        if made != self._made:
            self._made = made
            found = materializations_of_run(self._context.instance, self._key, self._context.run_id, self._since)
            self._hours |= found
            self._latest = max(found.values(), key=lambda target: target.storage_id, default=self._latest)
        if partition is None and self._context.has_partition_key:
            # Dagster's own rule for a check of the whole table in a run of one partition.
            partition = self._context.partition_key
        return self._hours.get(partition) if partition is not None else self._latest
