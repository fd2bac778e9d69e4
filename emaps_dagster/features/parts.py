"""Computes the parts of a long range two at a time: one part keeps an engine busy on about one core."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Rows = TypeVar("Rows")

# Each takes memory, and a third would gain nothing while the engine has other work.
_AT_ONCE = 2


def two_at_a_time(compute: Callable[[Part], Rows], parts: Iterable[Part]) -> Iterator[Rows]:
    """The results in the order of the parts; an error of a part is raised in its place."""
    with ThreadPoolExecutor(min(_AT_ONCE, os.cpu_count() or 1)) as pool:
        yield from pool.map(compute, parts)
