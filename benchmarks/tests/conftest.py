"""What every test of the benchmarks has; they can be run without those of the package."""

from __future__ import annotations

import pytest

from harness.long_runs import add_long_marker, skip_long_tests
from harness.surroundings import no_settings_of_this_machine

__all__ = ["no_settings_of_this_machine"]


def pytest_configure(config: pytest.Config) -> None:
    add_long_marker(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The conftest of the package may have skipped them already; a second mark changes nothing.
    skip_long_tests(items)
