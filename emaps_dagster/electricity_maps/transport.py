"""One HTTP request and its response: no redirects, one deadline and one size limit for the whole response.

Retries are in retries.py, the mapping of statuses to errors in http_errors.py.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPResponse
from typing import Any

import requests
import urllib3

# Far above the longest response of the API, ten days of power-breakdown with 300 kB; admission.py rejects more, too.
MOST_BYTES = 16_000_000
# The text of an error is quoted, not stored.
_MOST_BYTES_OF_AN_ERROR = 65_536
_CHUNK = 16_384
# Limit for a whole response in read timeouts: a server that sends single bytes would never trigger the read timeout.
_WHOLE = 1.5


class NoAnswerError(Exception):
    """The network or the server failed before the response was complete; the message is a phrase."""


class TooLongError(Exception):
    """The body is longer than `MOST_BYTES`; reading stopped there."""


@dataclass(frozen=True)
class Answer:
    """A complete response. `has_length`: its end was marked by Content-Length or chunks, not by closing."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    arrived_at: datetime
    has_length: bool


class Transport:
    """A session that adds no credentials of its own. Close it.

    Args:
        clock: the present, UTC; stamps the arrival of the headers.
        timeout: seconds to connect and to wait for the next bytes; a whole response may take 1.5 times as long.
    """

    def __init__(self, clock: Callable[[], datetime], timeout: tuple[float, float]) -> None:
        self._clock = clock
        self._timeout = timeout
        self._deadline = _Deadline(timeout[1])
        self._session = _Session()
        self._session.headers["User-Agent"] = "emaps-dagster"
        # An old response from a cache would be stored with the present as its time.
        self._session.headers["Cache-Control"] = "no-cache"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(self._deadline))
        # Without an auth of its own, requests would send a netrc entry of the host.
        self._session.auth = _NoAuth()

    def close(self) -> None:
        self._session.close()

    def get(self, url: str, headers: dict[str, str]) -> Answer:
        """Sends one GET and reads its response.

        Raises:
            NoAnswerError: no complete response arrived in time.
            TooLongError: the body of a 200 is too long.
        """
        problem = ""
        self._deadline.begin()
        try:
            # Redirects are not followed: they would carry the token to another host.
            response = self._session.get(
                url, headers=headers, timeout=self._timeout, allow_redirects=False, stream=True
            )
            with closing(response):
                arrived_at = self._clock()
                content = _read(response)
        except OSError as error:  # Every exception of requests is one.
            problem = f"{type(error).__name__}: {_innermost(error)}"
        if problem:
            # Raised outside the except block: a chained error of requests would hold the headers with the token.
            raise NoAnswerError(problem)
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        has_length = chunked or "Content-Length" in response.headers
        return Answer(response.status_code, response.headers, content, arrived_at, has_length)


def _read(response: requests.Response) -> bytes:
    """Reads the decoded body up to its limit; closing the response afterwards drops the rest."""
    limit = MOST_BYTES if response.status_code == 200 else _MOST_BYTES_OF_AN_ERROR
    content = bytearray()
    # Counts decoded bytes chunk by chunk: a small gzip stream may expand to gigabytes.
    for piece in response.iter_content(_CHUNK):
        content += piece
        if len(content) > limit:
            if response.status_code == 200:
                raise TooLongError
            break
    return bytes(content[:limit])


class _Deadline:
    """Deadline of the response that is being read; all connections of a transport share it."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self._whole = pause * _WHOLE
        self._until = 0.0

    def begin(self) -> None:
        self._until = time.monotonic() + self._whole

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
            TimeoutError: it has passed.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> TimeoutError:
        return TimeoutError(f"timed out: the response was not complete after {self._whole:g} s")


class _TimedSocket:
    """A socket for `http.client` whose every wait ends at the deadline."""

    def __init__(self, sock: Any, deadline: _Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._sock, self._deadline))


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: Any, deadline: _Deadline) -> None:
        self._sock, self._deadline = sock, deadline
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline.left()
        self._sock.settimeout(min(self._deadline.pause, left))
        try:
            read: int | None = self._file.readinto(buffer)
        except TimeoutError:
            # A socket may wake slightly before its deadline.
            if left > self._deadline.pause:
                raise
        else:
            return read
        # Raised outside the except block: messages quote the innermost error of a chain.
        raise self._deadline.passed()

    def close(self) -> None:
        self._file.close()
        super().close()


def _timed(pool: type[urllib3.HTTPConnectionPool], deadline: _Deadline) -> type[urllib3.HTTPConnectionPool]:
    """Subclasses a connection pool so that its connections read headers and bodies with a deadline."""

    class Connection(pool.ConnectionCls):  # type: ignore[name-defined, misc]  # a class that the pool's class names
        def response_class(self, sock: Any, *args: Any, **options: Any) -> HTTPResponse:
            return HTTPResponse(_TimedSocket(sock, deadline), *args, **options)  # type: ignore[arg-type]

    class Pool(pool):  # type: ignore[valid-type, misc]
        ConnectionCls = Connection

    return Pool


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, deadline: _Deadline) -> None:
        self._pools = {
            "http": _timed(urllib3.HTTPConnectionPool, deadline),
            "https": _timed(urllib3.HTTPSConnectionPool, deadline),
        }
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def close(self) -> None:
        # urllib3 closes pools in a finalizer, and a KeyboardInterrupt or SIGTERM during a finalizer is lost.
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  # urllib3's container refuses to be iterated
                manager.pools[key].close()
        super().close()


class _Session(requests.Session):
    def get_redirect_target(self, _: requests.Response) -> None:
        """None, so that requests does not prepare the redirect, for which it would read the whole body."""


class _NoAuth(requests.auth.AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _innermost(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error)
