"""Whether this is a long run, which has every variant of every test; skips what is marked `long` in any other."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

LONG = os.environ.get("EMAPS_TEST_LONG") == "1"


def add_long_marker(config: pytest.Config) -> None:
    """Register the marker, for `pytest_configure` of each conftest whose tests are run alone, too."""
    config.addinivalue_line("markers", "long(why): runs with EMAPS_TEST_LONG=1 only")


def skip_long_tests(items: Iterable[pytest.Item]) -> None:
    """Skip the tests marked `long` unless this is a long run."""
    for item in items:
        long = item.get_closest_marker("long")
        if long and not LONG:
            item.add_marker(pytest.mark.skip(reason=f"the long run, EMAPS_TEST_LONG=1: {long.args[0]}"))
