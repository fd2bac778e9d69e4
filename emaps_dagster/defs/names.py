"""Names that several rooms of defs share: jobs and tags of runs."""

from __future__ import annotations

HOURLY = "hourly"

REBUILD = "rebuild"

BACKFILL_COST = "backfill_cost"

WITHDRAW = "withdraw"

MAINTENANCE = "maintenance"

HEALTH = "health_report"
