"""Spaces the calls of all processes of this user that send the same token to the same host.

A file in the temporary folder holds the time of the last call; a lock file beside it serializes access. Both may be
lost in a crash or a restart of the machine.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from pydantic import SecretStr

logger = logging.getLogger(__name__)

# The lock is held for one read and one write; a process that holds it for longer is stopped or hangs.
_LONGEST_LOCK_SECONDS = 5.0
# Time of this process's last call, by file: the fallback where the file cannot be used.
_own: dict[Path, float] = {}


class NoTurnError(Exception):
    """The rate limit allows no call within the caller's patience; `seconds` remain until the next one."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no call may be made for {seconds:.0f} s")
        self.seconds = seconds


class Pace:
    """Enforces a minimum time between calls, counted from the last call of any process, or from its response.

    Args:
        file: stores the time of the last call; see `pace_file`.
        calls_per_minute: the limit.
        patience: most seconds that a caller waits; None for no bound.
    """

    def __init__(self, file: Path, calls_per_minute: float, patience: float | None = None) -> None:
        self._file = file
        self._apart = 60.0 / calls_per_minute
        self._patience = patience
        self._warned = False

    def wait(self) -> None:
        """Waits until the next call is allowed, and records it as made.

        Raises:
            NoTurnError: the wait would exceed the caller's patience.
        """
        began = time.monotonic()
        while True:
            with self._locked() as shared:
                now = time.monotonic()
                pause = self._last(now, shared=shared) + self._apart - now
                if pause <= 0:
                    self._stamp(now, shared=shared)
                    return
            if self._patience is not None and now + pause > began + self._patience:
                raise NoTurnError(pause)
            time.sleep(pause)

    def answered(self) -> None:
        """Restarts the interval at the response: otherwise a slow network could send two calls close together."""
        with self._locked() as shared:
            self._stamp(time.monotonic(), shared=shared)

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Holds the lock; yields False where the file or its lock cannot be used and no state is shared."""
        lock = FileLock(self._file.with_suffix(".lock"))
        try:
            _private_folder(self._file.parent)
            lock.acquire(timeout=_LONGEST_LOCK_SECONDS)
        except (Timeout, OSError, NotImplementedError) as error:
            self._warn(error)
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _last(self, now: float, *, shared: bool) -> float:
        """Time of the last call, on the monotonic clock that all processes of the machine share."""
        last = _own.get(self._file, float("-inf"))
        if not shared:
            return last
        try:
            stored = float(self._file.read_text("ascii"))
        except FileNotFoundError:
            return last
        except OSError as error:
            self._warn(error)
            return last
        except ValueError:
            # The writer was killed while writing: a call was made at an unknown time.
            self._stamp(now, shared=True)
            return now
        # The monotonic clock restarts with the machine: a time in the future is from before the restart.
        return max(last, stored) if stored <= now else last

    def _stamp(self, now: float, *, shared: bool) -> None:
        _own[self._file] = now
        if not shared:
            return
        try:
            self._file.write_text(repr(now), "ascii")
        except OSError as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s cannot be used (%s): EMAPS_CALLS_PER_MINUTE holds for this process alone; other processes may "
                "call meanwhile. Make the temporary folder (TMPDIR) writable.",
                self._file.parent,
                error,
            )


def pace_file(url: str, token: SecretStr | None) -> Path:
    """The file shared by all clients of this user that send this token to the host of this URL."""
    secret = token.get_secret_value() if token else ""
    name = hashlib.sha256(f"{urlsplit(url).netloc.lower()}\n{secret}".encode()).hexdigest()[:24]
    return Path(tempfile.gettempdir()) / f"emaps_dagster-{os.getuid()}" / f"{name}.calls"


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
