"""Names that several packages of defs share: jobs, tags of runs, pools."""

from __future__ import annotations

from emaps_dagster.contracts.table_contract import Table

# Jobs
HOURLY = "hourly"
REBUILD = "rebuild"
BACKFILL_COST = "backfill_cost"
WITHDRAW = "withdraw"
MAINTENANCE = "maintenance"
HEALTH = "health_report"

# Tag of a run: requests that bronze has stored a response for since this moment (ISO 8601) are not sent again.
RESUME_TAG = "emaps/resume"


def pool_of(table: Table) -> str:
    """The pool of a table's writers: its asset and the jobs that write it, one at a time."""
    return f"{table.layer}_{table.name}"
