"""Names that several rooms of defs share: jobs and tags of runs."""

from __future__ import annotations

HOURLY = "hourly"

REBUILD = "rebuild"

BACKFILL_COST = "backfill_cost"

WITHDRAW = "withdraw"

MAINTENANCE = "maintenance"

HEALTH = "health_report"


# A tag of a run: chunks that bronze has stored since this moment (ISO 8601) are not asked for again.
RESUME_TAG = "emaps/resume"
