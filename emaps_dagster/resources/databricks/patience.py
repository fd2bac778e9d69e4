"""What a call of the workspace's API may end in, and which calls are worth another try.

The SDK itself repeats what was throttled (429, 503) or not answered, for five minutes; at a 500 or a 504 it gives up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.errors.platform import DeadlineExceeded, InternalError
from requests import RequestException
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)

# What a call ends in when it is refused, or not answered.
REFUSED = (DatabricksError, RequestException, TimeoutError)
_TRIES = 6
# A workspace that is being updated answers again within a minute: the pauses are random up to 1, 2, 4, 8, 16 seconds.
_LONGEST_PAUSE_SECONDS = 16.0


def patiently(call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call until it succeeds or fails for good. What is called must not mind being called twice."""
    retrying = Retrying(
        retry=retry_if_exception_type((InternalError, DeadlineExceeded)),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random_exponential(multiplier=1.0, max=_LONGEST_PAUSE_SECONDS),
        before_sleep=_tell,
        reraise=True,
    )
    return retrying(call, *arguments, **named)


def _tell(state: RetryCallState) -> None:
    assert state.outcome is not None
    logger.warning("Databricks, try %d failed: %s", state.attempt_number, state.outcome.exception())
