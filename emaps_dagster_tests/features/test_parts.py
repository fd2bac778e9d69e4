"""Parts that are computed two at a time: in their order, two together, and an error in its place."""

from __future__ import annotations

import os
import threading

import pytest

from emaps_dagster.features.parts import two_at_a_time


def test_results_come_in_the_order_of_the_parts() -> None:
    second_began = threading.Event()

    def compute(part: int) -> int:
        # The first part waits for the second, so it ends later: two were begun together.
        if part == 1:
            second_began.set()
        elif part == 0 and (os.cpu_count() or 1) > 1:
            assert second_began.wait(30)
        return part * part

    assert list(two_at_a_time(compute, range(7))) == [0, 1, 4, 9, 16, 25, 36]
    assert list(two_at_a_time(compute, ())) == []


def test_never_more_than_two_run() -> None:
    running, most = [], []

    def compute(part: int) -> int:
        running.append(part)
        most.append(len(running))
        running.remove(part)
        return part

    list(two_at_a_time(compute, range(200)))
    assert max(most) <= 2


def test_an_error_of_a_part_is_raised() -> None:
    def compute(part: int) -> int:
        if part == 1:
            raise ValueError("of part 1")
        return part

    results = two_at_a_time(compute, range(3))
    assert next(results) == 0
    with pytest.raises(ValueError, match="of part 1"):
        next(results)
