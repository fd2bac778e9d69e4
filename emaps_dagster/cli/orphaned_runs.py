"""`python -m emaps_dagster.cli.orphaned_runs`: marks runs of the previous code server as failed.

Every run is a child process of the code server and ends with it; without this command its runs would stay STARTED until
the monitoring's timeout. Run retries then restart them. Not for an instance with several code servers.
"""

from __future__ import annotations

import sys

import dagster as dg

# Dagster's tag of a run in a code server; a run of `dagster job execute` has none and survives.
_RUN_BY_A_CODE_SERVER = ".dagster/grpc_info"
_UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def end_orphans(instance: dg.DagsterInstance) -> list[str]:
    """Report runs without a process as failed or canceled; returns their ids."""
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
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
