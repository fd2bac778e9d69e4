"""Cross-process mutex based on a lock file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


@contextmanager
def interprocess_lock(path: Path, longest_wait_seconds: float) -> Iterator[None]:
    """Holds the lock of a file; on timeout, or where locking is impossible, proceeds without it.

    Args:
        path: the lock file; created with its folder if missing.
        longest_wait_seconds: timeout, so that a hanging holder does not block others forever.
    """
    # One lock object per file in this process, so that its holder can re-enter it.
    lock = FileLock(path, is_singleton=True)
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=longest_wait_seconds)
            held.callback(lock.release)
        except (Timeout, OSError, NotImplementedError) as error:
            # The file system has no locks, or the holder hangs.
            logger.info("%s: proceeding without the lock (%s)", path, error)
        yield
