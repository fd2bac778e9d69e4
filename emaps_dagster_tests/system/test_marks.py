"""What `make test-fast` leaves out follows from the code of a test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from emaps_dagster.definitions import build_definitions
from emaps_dagster_tests.support.needs import marks_of


def _run() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


class _Program:
    def start(self) -> None:
        _run()


def _by_a_helper() -> None:
    assert _Program().start() is None


def _loads() -> object:
    return [build_definitions(settings) for settings in ()]


def _computes() -> None:
    assert 1 + 1 == 2


def _item(function: Callable[[], object], room: str, fixtures: dict[str, Callable[[], object]]) -> pytest.Item:
    by_name = {name: (SimpleNamespace(func=fixture),) for name, fixture in fixtures.items()}
    item: Any = SimpleNamespace(
        function=function,
        nodeid=f"emaps_dagster_tests/{room}/test_x.py::test_y",
        fixturenames=list(fixtures),
        _fixtureinfo=SimpleNamespace(name2fixturedefs=by_name),
    )
    return cast("pytest.Item", item)


@pytest.mark.parametrize(
    ("function", "room", "fixtures", "marks"),
    [
        (_computes, "pipeline", {}, []),
        (_by_a_helper, "pipeline", {}, ["process"]),
        (_computes, "pipeline", {"program": _run}, ["process"]),
        (_loads, "transforms", {}, ["job"]),
        (_computes, "pipeline", {"spark": _computes}, ["engine"]),
        (_computes, "transforms", {"spark": _computes}, []),
        (_computes, "lakehouse", {"lakehouse": _computes}, []),
    ],
)
def test_what_a_test_needs_is_read_from_its_code(
    function: Callable[[], object], room: str, fixtures: dict[str, Callable[[], object]], marks: list[str]
) -> None:
    assert list(marks_of(_item(function, room, fixtures))) == marks


def test_a_test_has_the_marks_of_its_code(request: pytest.FixtureRequest) -> None:
    assert callable(_by_a_helper)
    assert {"system", "process"} <= {mark.name for mark in request.node.iter_markers()}
