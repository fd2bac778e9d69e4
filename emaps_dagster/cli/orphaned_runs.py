"""`python -m emaps_dagster.cli.orphaned_runs`: marks runs of the previous code server as failed.

Every run is a child process of the code server and ends with it; without this command its runs would stay STARTED until
the monitoring's timeout. Run retries then restart them. Not for an instance with several code servers.

On deployment databricks it also cancels the Databricks runs that ended Dagster runs have left, and removes their staged
files. `--only-databricks` does that alone; a code server may be running meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

import dagster as dg

from emaps_dagster.contracts.errors import LauncherError, SettingsError
from emaps_dagster.contracts.settings import read_settings

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


def end_left_databricks_runs(instance: dg.DagsterInstance) -> Iterator[str]:
    """End what ended Dagster runs have left in a workspace; yields sentences, also of a workspace that refuses."""
    try:
        settings = read_settings()
        if settings.deployment != "databricks":
            return
        # Databricks' SDK takes a second to import.
        from emaps_dagster.defs.resources.databricks.left_runs import end_left_runs
        from emaps_dagster.defs.resources.databricks.retries import API_ERRORS
    except SettingsError as error:
        yield f"Databricks runs were not looked for: {error}"
        return
    try:
        yield from end_left_runs(settings, instance)
    except (LauncherError, *API_ERRORS) as error:
        # The code server starts all the same; a run that is left ends by its time limit.
        yield f"Databricks runs that were left could not be ended, repeat this command later: {error}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emaps_dagster.cli.orphaned_runs", description=__doc__)
    parser.add_argument("--only-databricks", action="store_true", help="leave the runs of Dagster as they are")
    options = parser.parse_args(arguments)
    with dg.DagsterInstance.get() as instance:
        if not options.only_databricks:
            for run_id in end_orphans(instance):
                print(f"Run {run_id} had died with the code server before: it is reported as ended.")
        for text in end_left_databricks_runs(instance):
            print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
