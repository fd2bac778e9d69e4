"""One HTTP request and its response: no redirects, one deadline and one size limit for the whole response.

Retries are client.py's, the meaning of a status is statuses.py's.
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

# Far above the longest answer of the API, ten days of power-breakdown with 300 kB; bodies.py refuses more, too.
MOST_BYTES = 16_000_000
# An error's text is quoted, not stored.
_MOST_BYTES_OF_AN_ERROR = 65_536
_CHUNK = 16_384
# A whole response may take so many read timeouts: one of a server that sends a byte now and then would never end.
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
    """A session that sends nothing but what it is given. Close it.

    Args:
        clock: the present, UTC; stamps the arrival of the headers.
        timeout: seconds to connect and to wait for the next bytes; a whole response gets half as much again.
    """

    def __init__(self, clock: Callable[[], datetime], timeout: tuple[float, float]) -> None:
        self._clock = clock
        self._timeout = timeout
        self._deadline = _Deadline(timeout[1])
        self._session = _Session()
        self._session.headers["User-Agent"] = "emaps-dagster"
        # A cache's old answer would be stored with the present as its time.
        self._session.headers["Cache-Control"] = "no-cache"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(self._deadline))
        # Without an auth of its own, requests would send a netrc entry of the host.
        self._session.auth = _NoAuth()

    def close(self) -> None:
        self._session.close()

    def get(self, url: str, headers: dict[str, str]) -> Answer:
        """Send one GET and read its response.

        Raises:
            NoAnswerError: no complete response came in time.
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
            # Raised out here: requests' error in the chain would hold the headers, and so the token.
            raise NoAnswerError(problem)
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        has_length = chunked or "Content-Length" in response.headers
        return Answer(response.status_code, response.headers, content, arrived_at, has_length)


def _read(response: requests.Response) -> bytes:
    """The decoded body, as far as its limit; closing the response afterwards drops the rest."""
    limit = MOST_BYTES if response.status_code == 200 else _MOST_BYTES_OF_AN_ERROR
    content = bytearray()
    # Decoded bytes are counted, piece by piece: a small gzip stream may unfold to gigabytes.
    for piece in response.iter_content(_CHUNK):
        content += piece
        if len(content) > limit:
            if response.status_code == 200:
                raise TooLongError
            break
    return bytes(content[:limit])


class _Deadline:
    """When the response that is being read must be complete; one object for all connections of a transport."""

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
    """A socket as `http.client` reads it, whose every wait ends at the deadline."""

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
            # A socket may wake a moment before the deadline that it waited for.
            if left > self._deadline.pause:
                raise
        else:
            return read
        # Raised out here: the innermost error of a chain is the one that is quoted.
        raise self._deadline.passed()

    def close(self) -> None:
        self._file.close()
        super().close()


def _timed(pool: type[urllib3.HTTPConnectionPool], deadline: _Deadline) -> type[urllib3.HTTPConnectionPool]:
    """The class of pools whose connections read headers and bodies with a deadline."""

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
        # urllib3 leaves it to a finalizer, and a Ctrl-C or a termination that falls into one is lost.
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  # urllib3's container refuses to be iterated
                manager.pools[key].close()
        super().close()


class _Session(requests.Session):
    def get_redirect_target(self, _: requests.Response) -> None:
        """None, so that requests does not prepare what is not followed: it would read the whole body for that."""


class _NoAuth(requests.auth.AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _innermost(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error)
