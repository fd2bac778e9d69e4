"""Deterministic noise, equal in every process and Python version: a number for a stream and an index in it.

Stateless integer arithmetic, so hours can be computed in any order.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

_MASK = (1 << 64) - 1


@lru_cache(maxsize=8192)
def stream(*names: object) -> int:
    """The stream of a name; streams of different names are independent."""
    return int.from_bytes(hashlib.blake2b("|".join(map(str, names)).encode(), digest_size=8).digest(), "little")


def bits(of: int, number: int) -> int:
    """64 bits at an index of a stream (the finaliser of SplitMix64)."""
    z = (of + number * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def draw(of: int, number: int) -> float:
    """A number in [0, 1) at an index of a stream."""
    return (bits(of, number) >> 11) * 2.0**-53


# Neighbouring hours share their knots.
_knot = lru_cache(maxsize=16384)(draw)


def wander(of: int, x: float) -> float:
    """Smooth noise in [0, 1]: random knots at the whole numbers, interpolated by a cosine."""
    before = math.floor(x)
    share = (1 - math.cos(math.pi * (x - before))) / 2
    return _knot(of, before) * (1 - share) + _knot(of, before + 1) * share
