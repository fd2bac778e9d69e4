"""Errors of the workspace's API, and retries of its calls.

The SDK itself retries throttled (429, 503) and unanswered calls for five minutes, and gives up at a 500 or a 504. It
requests an OAuth token once, whatever the response.
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

# Errors of a call that is refused or not answered.
API_ERRORS = (DatabricksError, RequestException, TimeoutError)
# Errors that a retry may resolve.
PASSING = (InternalError, DeadlineExceeded)
# Error codes of OAuth for a refused client (RFC 6749, 4.1.2.1 and 5.2).
_TOKEN_REFUSALS = (
    "access_denied",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
)
# For a response without a token the SDK drops the status and raises a ValueError with its text, if any ("unknown:
# unknown"). A response without a type, or with a list in it, is a KeyError or an AttributeError; a 200 without a token
# is a NotImplementedError.
_NO_TOKEN = (ValueError, KeyError, AttributeError, NotImplementedError, RequestException)
_TRIES = 6
# A workspace under update answers again within a minute: the pauses are random up to 1, 2, 4, 8, 16 seconds.
_LONGEST_PAUSE_SECONDS = 16.0


def with_retries(call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call until it succeeds or fails permanently. The call must be idempotent."""
    retrying = Retrying(
        retry=retry_if_exception_type(PASSING),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random_exponential(multiplier=1.0, max=_LONGEST_PAUSE_SECONDS),
        before_sleep=_log_failure,
        reraise=True,
    )
    return retrying(call, *arguments, **named)


def token_from(sign_in: Callable[[], T]) -> T:
    """Sign in with the SDK, with the errors of every other call.

    Raises:
        Unauthenticated: OAuth refuses the client.
        InternalError: the token endpoint returns neither a token nor a refusal: a fault of the workspace.
    """
    try:
        return sign_in()
    except _NO_TOKEN as error:
        if str(error).partition(":")[0] in _TOKEN_REFUSALS:
            raise Unauthenticated(str(error)) from None
        raise InternalError(f"neither a token nor a refusal ({str(error)[:200]})") from None


def _log_failure(state: RetryCallState) -> None:
    assert state.outcome is not None
    logger.warning("Databricks, try %d failed: %s", state.attempt_number, state.outcome.exception())
