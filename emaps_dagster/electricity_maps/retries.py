"""Sends one request with retries: returns a 200 that may hold data, or raises a typed error.

transport.py does the HTTP, http_errors.py maps responses to errors, pace.py spaces the calls.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from datetime import datetime

from pydantic import SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from emaps_dagster.contracts.errors import RateLimitedError
from emaps_dagster.contracts.secrets import redaction
from emaps_dagster.contracts.windows import utc_now
from emaps_dagster.electricity_maps.clocks import provider_clock, skew
from emaps_dagster.electricity_maps.error_bodies import error_in, is_cut_off, words_of
from emaps_dagster.electricity_maps.http_errors import (
    PASSING,
    clock_skew,
    error_after_retries,
    error_for_status,
    error_in_200,
    is_limit,
    is_passing,
    redirect_target,
    retry_after,
    too_long,
    without_body,
)
from emaps_dagster.electricity_maps.pace import NoTurnError, Pace
from emaps_dagster.electricity_maps.transport import Answer, NoAnswerError, TooLongError, Transport

# Logs under the client's name, which existing log filters use.
logger = logging.getLogger("emaps_dagster.electricity_maps.client")

# With a longer Retry-After, a later run should repeat the request.
_LONGEST_WAIT_SECONDS = 120.0
_QUOTED = 200
_LONGEST_TARGET = 500


class _RetryableError(Exception):
    """A retryable fault: a transient status, the network, or a truncated body, which is then `kept`.

    `wait` is the provider's Retry-After in seconds.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        wait: float | None = None,
        is_limit: bool = False,
        kept: Answer | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.status, self.wait, self.is_limit, self.kept = reason, status, wait, is_limit, kept


class Requester:
    """Sends requests of one base URL with one token; close it.

    Args:
        base_url: prefix of every URL.
        token: sent as `auth-token`.
        clock: the present, UTC.
        timeout: seconds to connect and to wait for the next bytes.
        attempts: attempts per request, the first included.
        backoff_seconds: upper bound of the first random pause; it doubles with every attempt.
        pace: spaces the attempts; None for no limit.
    """

    def __init__(
        self,
        base_url: str,
        token: SecretStr | None,
        *,
        clock: Callable[[], datetime],
        timeout: tuple[float, float],
        attempts: int,
        backoff_seconds: float,
        pace: Pace | None,
    ) -> None:
        self._base_url = base_url
        self._token = token
        self._clock = clock
        self._attempts = attempts
        self._backoff_seconds = backoff_seconds
        self._pace = pace
        self._transport = Transport(clock, timeout)
        self.redacted = redaction(token)

    def close(self) -> None:
        self._transport.close()

    def get(self, url: str, what: str) -> Answer:
        """Returns a 200 with its body; every other outcome raises. Returns a body that every attempt truncated."""
        retrying = Retrying(
            retry=retry_if_exception_type(_RetryableError),
            stop=stop_after_attempt(self._attempts),
            wait=self._wait,
            before_sleep=lambda state: self._log_retry(state, what),
            reraise=True,
        )
        try:
            return retrying(self._try, url, what)
        except _RetryableError as error:
            if error.kept:
                return error.kept
            tries = retrying.statistics["attempt_number"]
            failure = error_after_retries(what, error.reason, error.wait, tries, is_limit=error.is_limit)
        # Raised outside the except block, so that no attempt stays in the exception chain.
        raise failure

    def _try(self, url: str, what: str) -> Answer:
        self._wait_for_pace(what)
        headers = {"auth-token": self._token.get_secret_value()} if self._token else {}
        began = time.monotonic()
        answer, problem = None, ""
        try:
            answer = self._transport.get(url, headers)
        except NoAnswerError as error:
            problem = self.quote(str(error))
        except TooLongError:
            pass
        finally:
            if self._pace:
                self._pace.answered()
        if problem:
            raise _RetryableError(f"no answer ({problem})")
        if answer is None:
            raise too_long(what)
        logger.info("GET %s -> %s in %.2f s", url[url.index("/", 8) :], answer.status, time.monotonic() - began)
        return self._checked(answer, url, what)

    def _checked(self, answer: Answer, url: str, what: str) -> Answer:
        """Returns a 200 whose body may be data and whose clock agrees with the provider's; raises otherwise."""
        status = answer.status
        if status == 200:
            ahead = skew(answer.arrived_at, utc_now(), provider_clock(answer.headers))
            if ahead is not None:
                raise clock_skew(what, answer.arrived_at, ahead, is_machines=self._clock is utc_now)
            if is_cut_off(answer.content) or not (answer.content or answer.has_length):
                size = f"{len(answer.content):,} bytes"
                raise _RetryableError(
                    f"the body was cut off after {size}", status=200, kept=answer if answer.content else None
                )
        if 200 <= status < 300 and not answer.content and status not in PASSING:
            raise without_body(status, what)
        words = error_in(answer.content) if status == 200 else words_of(answer.content)
        if words is None:
            return answer
        quoted = self.quote(words.text)
        if is_passing(status, words):
            raise _RetryableError(
                f"HTTP {status} ({quoted})",
                status=status,
                wait=retry_after(answer.headers),
                is_limit=status == 429 or (status < 500 and is_limit(words)),
            )
        if status != 200:
            target = redirect_target(self._base_url, url, answer.headers.get("Location"))
            raise error_for_status(status, what, words, quoted, target=self.redacted(target)[:_LONGEST_TARGET])
        named = error_in_200(what, words, quoted)
        if named:
            raise named
        return answer

    def _wait_for_pace(self, what: str) -> None:
        """Waits until the rate limit allows the next call."""
        if self._pace is None:
            return
        try:
            self._pace.wait()
        except NoTurnError as error:
            seconds = error.seconds
        else:
            return
        raise RateLimitedError(
            f"{what}: not requested: EMAPS_CALLS_PER_MINUTE allows the next call in {seconds:.0f} s, longer than this "
            "may wait. The next evaluation or run requests it again; raise the limit if the plan allows more calls."
        )

    def _wait(self, state: RetryCallState) -> float:
        assert state.outcome is not None
        error = state.outcome.exception()
        requested_wait = error.wait if isinstance(error, _RetryableError) else None
        if requested_wait is not None and requested_wait > _LONGEST_WAIT_SECONDS:
            assert error is not None
            raise error
        jittered = wait_random_exponential(multiplier=self._backoff_seconds, max=30.0)(state)
        # Not before Retry-After, and with jitter so that clients do not retry at the same moment.
        return jittered if requested_wait is None else requested_wait + random.uniform(0, self._backoff_seconds)

    def _log_retry(self, state: RetryCallState, what: str) -> None:
        assert state.outcome is not None
        logger.warning("%s: try %d failed: %s", what, state.attempt_number, state.outcome.exception())

    def quote(self, text: str) -> str:
        """Shortens a foreign text to one line, and redacts the token in it."""
        return " ".join(self.redacted(text).split())[:_QUOTED]
