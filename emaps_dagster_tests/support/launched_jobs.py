"""Runs of jobs with the settings of any deployment, and what Dagster shows of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from harness.loaded_jobs import loaded_job

Evaluations = dict[tuple[str, str, str | None], tuple[Any, ...]]
Hours = dict[tuple[str, str | None], dict[str, Any]]


def run_job(settings: Mapping[str, str], job: str, instance: dg.DagsterInstance, **options: Any) -> dg.ExecuteJobResult:
    """The successful result of a job of the definitions that these settings make.

    Args:
        settings: variables EMAPS_*; all others of this process are not seen.
        job: its name.
        instance: of the run.
        options: of `dagster.execute_job`, such as `tags` and `run_config`.
    """
    with (
        loaded_job(settings, job) as made,
        dg.execute_job(made, instance=instance, raise_on_error=False, **options) as result,
    ):
        failures = [event.message for event in result.all_events if event.is_failure]
        assert result.success, "\n".join(failures)
        return result


def hours_shown(result: dg.ExecuteJobResult) -> Hours:
    """The metadata of each materialization, by table and partition, without durations."""
    shown: Hours = {}
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            made = event.step_materialization_data.materialization
            metadata = {name: value.value for name, value in made.metadata.items()}
            metadata.pop("run_seconds", None)
            shown[made.asset_key.to_user_string(), made.partition] = metadata
    return shown


def checks_shown(result: dg.ExecuteJobResult) -> Evaluations:
    """What each check said, by table, check and partition."""
    said: Evaluations = {}
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            e = event.asset_check_evaluation_data
            said[e.asset_key.to_user_string(), e.check_name, e.partition] = (
                e.passed,
                e.severity,
                e.description,
                e.blocking,
            )
    return said
