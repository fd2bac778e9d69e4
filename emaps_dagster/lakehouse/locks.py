"""One at a time among the processes of this machine, by a file that whoever has the turn holds locked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


@contextmanager
def interprocess_lock(path: Path, longest_wait_seconds: float) -> Iterator[None]:
    """Waits until nobody else is in here with this file; goes on without the turn where none can be had.

    Args:
        path: the lock file; made with its folder if it is not there.
        longest_wait_seconds: somebody who hangs must not keep others waiting for ever.
    """
    # One lock a file in this process, so that whoever has the turn can take it again from within.
    lock = FileLock(path, is_singleton=True)
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=longest_wait_seconds)
            held.callback(lock.release)
        except (Timeout, OSError, NotImplementedError) as error:
            # A file system without locks, or somebody who hangs.
            logger.info("%s: going on without a turn (%s)", path, error)
        yield
