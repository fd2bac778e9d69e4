"""The graph as plain text, pinned in graph.txt.

`python -m emaps_dagster_tests.support.graph > emaps_dagster_tests/support/graph.txt` writes it.

What is written there is a promise to people who have runs, schedules and dashboards by these names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.definitions import build_definitions
from emaps_dagster.defs.asset_checks.evaluations import _severity

GOLDEN = Path(__file__).with_name("graph.txt")


def graph_text(settings: Settings | None = None) -> str:
    """Every asset, check, job, schedule and resource; without settings, of the default ones."""
    definitions = build_definitions(settings or Settings(_env_file=None))
    return "\n".join(_lines(definitions)) + "\n"


def _lines(definitions: dg.Definitions) -> Iterator[str]:
    graph = definitions.resolve_asset_graph()
    for key in graph.toposorted_asset_keys:
        asset = definitions.resolve_assets_def(key)
        spec = asset.get_asset_spec(key)
        partitions = spec.partitions_def
        yield f"asset {key.to_user_string()}"
        yield f"  after {', '.join(sorted(parent.asset_key.to_user_string() for parent in spec.deps)) or 'nothing'}"
        yield f"  group {spec.group_name}, kinds {', '.join(sorted(spec.kinds))}, owners {', '.join(spec.owners)}"
        if isinstance(partitions, dg.HourlyPartitionsDefinition):
            assert asset.backfill_policy is not None
            yield f"  partitions hourly, {partitions.timezone}, from {partitions.get_first_partition_key()}"
            yield f"  backfill {asset.backfill_policy.policy_type.value}, pool {', '.join(sorted(asset.op.pools))}"
            yield f"  table {spec.metadata['dagster/table_name']}, code version {spec.code_version}"
        policy = spec.freshness_policy
        assert isinstance(policy, TimeWindowFreshnessPolicy)
        assert policy.warn_window is not None
        hours = [window.to_timedelta() // HOUR for window in (policy.warn_window, policy.fail_window)]
        yield f"  fresh: warns after {hours[0]} h, fails after {hours[1]} h"
        for check in sorted(graph.get_check_keys_for_assets({key}), key=lambda check: check.name):
            of = graph.get_check_spec(check)
            blocks = "blocks" if of.blocking else "warns"
            yield f"  check {of.name}: {_severity(of).value}, {blocks}, {'each hour' if of.partitions_def else 'table'}"
    for job in sorted(definitions.resolve_all_job_defs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            yield f"job {job.name}: {', '.join(sorted(node.name for node in job.nodes))}"
            yield f"  executor {job.executor_def.name}, pools {', '.join(sorted(_pools(job)))}"
    repository = definitions.get_repository_def()
    for schedule in repository.schedule_defs:
        status = schedule.default_status.value.lower()
        zone = schedule.execution_timezone
        yield f"schedule {schedule.name}: {schedule.cron_schedule} ({zone}), job {schedule.job_name}, {status}"
    for sensor in repository.sensor_defs:
        yield f"sensor {sensor.name}: {sensor.default_status.value.lower()}"
    yield f"resources {', '.join(sorted(definitions.resources or {}))}"


def _pools(job: dg.JobDefinition) -> set[str]:
    return {pool for node in job.all_node_defs if isinstance(node, dg.OpDefinition) for pool in node.pools}


if __name__ == "__main__":
    print(graph_text(), end="")
