"""The interval of the sensors, and the result of an evaluation."""

import dagster as dg

# The provider updates its records once an hour.
SCAN_SECONDS = 1800


def result_of(requests: list[dg.RunRequest], sentences: list[str], cursor: str | None) -> dg.SensorResult:
    """The run requests or, without any, the skip reason; both with the cursor."""
    if requests:
        return dg.SensorResult(run_requests=requests, cursor=cursor)
    return dg.SensorResult(skip_reason=dg.SkipReason(" ".join(sentences)), cursor=cursor)
