"""Rebinds events of a cluster to this machine's Dagster storage before they are stored here.

On the cluster Dagster has an empty, temporary storage, so references of an event to other events are wrong there. This
module uses private names of Dagster, so it runs with the tested versions only (defs/instance/versions.py).
"""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.data_version import (
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    compute_logical_data_version,
)
from dagster._core.events import StepMaterializationData
from dagster._core.execution.plan.execute_step import (
    _build_data_version_tags,
    _get_code_version,
    _get_input_provenance_data,
)
from dagster_shared.record import replace

from emaps_dagster.defs.instance.materializations import Target, latest_materializations
from emaps_dagster.defs.partitions import hours_of, run_window


class EventProvenance:
    """The references of a step's events, from the real storage at the launch of the step.

    A check refers to the materialization at the launch, or to the step's own: another run may have stored one in the
    meantime that the step did not read.
    """

    def __init__(self, step_context: dg.StepExecutionContext) -> None:
        self._context = step_context
        if step_context.is_sda_step:
            # Dagster does the same before a local step.
            step_context.fetch_external_input_asset_version_info()
        self._of_the_table: dict[dg.AssetKey, Target | None] = {}
        self._of_the_hour: dict[dg.AssetKey, dict[str, Target]] = {}
        self._made: set[dg.AssetKey] = set()
        for key in {output.properties.asset_check_key for output in step_context.step.step_outputs}:
            if key and key.asset_key not in self._of_the_hour:
                self._look_up(key.asset_key)

    def _look_up(self, key: dg.AssetKey) -> None:
        instance = self._context.instance
        hours = list(hours_of(run_window(self._context)).values()) if self._context.has_partitions else []
        self._of_the_hour[key] = latest_materializations(instance, key, hours)
        if self._context.has_partition_key:
            # Dagster's own rule for a check of the whole table in a run of one partition.
            self._of_the_table[key] = self._of_the_hour[key].get(self._context.partition_key)
        else:
            latest = instance.fetch_materializations(key, limit=1).records
            self._of_the_table[key] = (
                Target(storage_id=latest[0].storage_id, run_id=latest[0].run_id, timestamp=latest[0].timestamp)
                if latest
                else None
            )

    def rebind(self, entry: dg.EventLogEntry) -> dg.EventLogEntry:
        """The entry as a local step would have stored it."""
        event = entry.dagster_event
        if event is None:
            return entry
        data = event.event_specific_data
        rebound: StepMaterializationData | dg.AssetCheckEvaluation
        if isinstance(data, StepMaterializationData):
            self._made.add(data.materialization.asset_key)
            if DATA_VERSION_TAG not in (data.materialization.tags or {}):
                return entry
            rebound = data._replace(materialization=self._materialization(data.materialization))
        elif isinstance(data, dg.AssetCheckEvaluation):
            rebound = replace(data, target_materialization_data=self._target(data))
        else:
            return entry
        return entry._replace(dagster_event=event._replace(event_specific_data=rebound))

    def _materialization(self, made: dg.AssetMaterialization) -> dg.AssetMaterialization:
        tags = dict(made.tags or {})
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

    def _target(self, evaluation: dg.AssetCheckEvaluation) -> Target | None:
        if evaluation.asset_key in self._made:
            # Its materialization is stored by now.
            self._look_up(evaluation.asset_key)
            self._made.remove(evaluation.asset_key)
        if evaluation.partition is None:
            return self._of_the_table.get(evaluation.asset_key)
        return self._of_the_hour.get(evaluation.asset_key, {}).get(evaluation.partition)
