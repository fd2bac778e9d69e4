"""Jobs of the definitions in this process, with the settings of any deployment, as Dagster loads them in its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository

_MODULE = "emaps_dagster.definitions"
Evaluations = dict[tuple[str, str, str | None], tuple[Any, ...]]
Hours = dict[tuple[str, str | None], dict[str, Any]]


@contextmanager
def _settings(settings: Mapping[str, str]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("EMAPS_")}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]
        os.environ.update(kept)


def run_job(settings: Mapping[str, str], job: str, instance: dg.DagsterInstance, **options: Any) -> dg.ExecuteJobResult:
    """The successful result of a job of the definitions that these settings make.

    Args:
        settings: variables EMAPS_*; all others of this process are not seen.
        job: its name.
        instance: of the run.
        options: of `dagster.execute_job`, such as `tags` and `run_config`.
    """
    with _settings(settings):
        # Built anew from the environment, as in a process of its own.
        before = sys.modules.pop(_MODULE, None)
        ReconstructableJob.get_definition.cache_clear()  # type: ignore[attr-defined]
        ReconstructableJob.get_repository_definition.cache_clear()  # type: ignore[attr-defined]
        try:
            pointer = ModuleCodePointer(_MODULE, "defs", working_directory=str(Path.cwd()))
            made = ReconstructableRepository(pointer).get_reconstructable_job(job)
            with dg.execute_job(made, instance=instance, raise_on_error=False, **options) as result:
                failures = [event.message for event in result.all_events if event.is_failure]
                assert result.success, "\n".join(failures)
                return result
        finally:
            sys.modules.pop(_MODULE, None)
            if before is not None:
                sys.modules[_MODULE] = before


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
