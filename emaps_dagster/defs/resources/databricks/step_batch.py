"""The steps of a Dagster run that one Databricks run executes together."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import dagster as dg
from dagster._core.instance.config import PoolGranularity


def steps_that_follow(
    step_context: dg.StepExecutionContext, succeeded: AbstractSet[str], excluded: AbstractSet[str]
) -> list[dg.StepExecutionContext]:
    """The contexts of this step and of every step that can follow it in the same Databricks run, in their order.

    A step follows if this launcher is its launcher, its pool has a free place, and each step that it depends on has
    succeeded or is in the list before it. A process of the multiprocess executor has one step, so it gets one.

    Args:
        step_context: of the step that Dagster launches; it is always in the list.
        succeeded: keys of the steps of this Dagster run that have succeeded.
        excluded: keys of the steps that have failed or are in another Databricks run.
    """
    plan = step_context.plan_data.execution_plan
    dependencies = plan.get_executable_step_deps()
    chosen: dict[str, dg.StepExecutionContext] = {}
    for step in plan.get_all_steps_in_topo_order():
        if step.key == step_context.step.key:
            chosen[step.key] = step_context
            continue
        if step.key not in dependencies or step.key in succeeded or step.key in excluded:
            continue
        if not dependencies[step.key] <= succeeded | chosen.keys():
            continue
        context = step_context.for_step(step, step_context.get_known_state())  # type: ignore[arg-type]
        if context.step_launcher is step_context.step_launcher and not _pool_is_full(step_context, step.pool):
            chosen[step.key] = context
    return list(chosen.values())


def lost_steps(dependencies: Mapping[str, AbstractSet[str]], failed: AbstractSet[str]) -> set[str]:
    """The steps that cannot run in a Databricks run any more: those that failed there, and all that depend on them.

    Args:
        dependencies: of each step of the Databricks run, in their order.
        failed: keys of the steps that failed or are to be tried again.
    """
    lost = set(failed)
    for key, needed in dependencies.items():
        if needed & lost:
            lost.add(key)
    return lost


def _pool_is_full(step_context: dg.StepExecutionContext, pool: str | None) -> bool:
    """Whether other Dagster runs hold all places of the pool; Dagster launches the step when it has got one."""
    storage = step_context.instance.event_log_storage
    if pool is None or not storage.supports_global_concurrency_limits:
        return False
    if storage.get_pool_config().pool_granularity == PoolGranularity.RUN:
        # Such places are taken by whole runs, before they start.
        return False
    info = storage.get_concurrency_info(pool)
    others = sum(slot.run_id != step_context.run_id for slot in info.claimed_slots)
    return info.limit is not None and others >= info.limit
