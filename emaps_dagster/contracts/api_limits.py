"""Limits of the Electricity Maps API (docs/electricity-maps.md)."""

from __future__ import annotations

from datetime import timedelta

# The API rejects longer hourly ranges.
LONGEST_RANGE = timedelta(days=10)
# /history holds the running hour and the 23 before it.
HISTORY_SPAN = timedelta(hours=23)
# A past-range body spans at most its 10 days and the day of tolerance on both sides.
LONGEST_BODY = timedelta(days=12)
