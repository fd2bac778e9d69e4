"""What the tests of the client begin with."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from emaps_dagster_tests.support.scripted_api import Api


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("NO_PROXY", "*")
    server = Api()
    yield server
    server.stop()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have waited before each further try."""
    taken: list[float] = []
    # tenacity's own name for `time`: `time.sleep` belongs to all threads of the process.
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=taken.append))
    return taken
