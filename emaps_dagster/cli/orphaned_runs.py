"""`python -m emaps_dagster.cli.orphaned_runs`: marks runs of the previous code server as failed.

Every run is a child of the code server, so none is alive when it is not; without a word they would count as going on
until somebody's patience ends. Run retries then start them again. Not for an instance with several code servers.
"""

from __future__ import annotations

import sys

import dagster as dg

# Dagster's mark of a run that a code server runs; one started by `dagster job execute` has none and lives on.
_RUN_BY_A_CODE_SERVER = ".dagster/grpc_info"
_TAKEN_FOR_ALIVE = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def end_orphans(instance: dg.DagsterInstance) -> list[str]:
    """Report runs without a process as ended; returns their ids."""
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_TAKEN_FOR_ALIVE)):
        if _RUN_BY_A_CODE_SERVER not in run.tags:
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run)
        else:
            instance.report_run_failed(
                run, "The code server that ran it ended, and the run with it. It can be retried."
            )
        ended.append(run.run_id)
    return ended


def main() -> int:
    with dg.DagsterInstance.get() as instance:
        for run_id in end_orphans(instance):
            print(f"Run {run_id} had died with the code server before: it is reported as ended.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
