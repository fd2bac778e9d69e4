"""The result of an evaluation of a sensor, and how often sensors are evaluated."""

import dagster as dg

# The provider goes over its records once an hour.
SCAN_SECONDS = 1800


def result_of(requests: list[dg.RunRequest], sentences: list[str], cursor: str | None) -> dg.SensorResult:
    """Requests or, without any, the reason; both with the cursor."""
    if requests:
        return dg.SensorResult(run_requests=requests, cursor=cursor)
    return dg.SensorResult(skip_reason=dg.SkipReason(" ".join(sentences)), cursor=cursor)
