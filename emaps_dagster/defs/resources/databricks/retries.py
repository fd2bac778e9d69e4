"""What a call of the workspace's API may end in, and which calls are worth another try.

The SDK itself repeats what was throttled (429, 503) or not answered, for five minutes; at a 500 or a 504 it gives up.
For a token of OAuth it asks once, whatever the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.errors.platform import DeadlineExceeded, InternalError, Unauthenticated
from requests import RequestException
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)

# What a call ends in when it is refused, or not answered.
API_ERRORS = (DatabricksError, RequestException, TimeoutError)
# What another try may mend.
PASSING = (InternalError, DeadlineExceeded)
# What OAuth says to a client that it refuses (RFC 6749, 4.1.2.1 and 5.2).
_TOKEN_REFUSALS = (
    "access_denied",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
)
# The SDK loses the status of an answer that is no token: a ValueError of its words, if any ("unknown: unknown"). It
# stumbles over one without a type or with a list in it, and says that it does not support a 200 that holds no token.
_NO_TOKEN = (ValueError, KeyError, AttributeError, NotImplementedError, RequestException)
_TRIES = 6
# A workspace that is being updated answers again within a minute: the pauses are random up to 1, 2, 4, 8, 16 seconds.
_LONGEST_PAUSE_SECONDS = 16.0


def with_retries(call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call until it succeeds or fails for good. What is called must not mind being called twice."""
    retrying = Retrying(
        retry=retry_if_exception_type(PASSING),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random_exponential(multiplier=1.0, max=_LONGEST_PAUSE_SECONDS),
        before_sleep=_tell,
        reraise=True,
    )
    return retrying(call, *arguments, **named)


def token_from(sign_in: Callable[[], T]) -> T:
    """What the SDK's sign-in gives, failing as every other call does.

    Raises:
        Unauthenticated: OAuth refuses the client.
        InternalError: the address of tokens does not answer as it should, which is the workspace's own fault.
    """
    try:
        return sign_in()
    except _NO_TOKEN as error:
        if str(error).partition(":")[0] in _TOKEN_REFUSALS:
            raise Unauthenticated(str(error)) from None
        raise InternalError(f"neither a token nor a refusal ({str(error)[:200]})") from None


def _tell(state: RetryCallState) -> None:
    assert state.outcome is not None
    logger.warning("Databricks, try %d failed: %s", state.attempt_number, state.outcome.exception())
