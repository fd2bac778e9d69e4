"""What must not matter to a test: settings of the person who runs it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest


def import_definitions_alone() -> None:
    """Import the definitions, which read the settings, without the person's variables, `EMAPS_TEST_...` among them.

    Only where there are any: it takes seconds. Modules of tests that are collected then find them imported.
    """
    if any(name.startswith("EMAPS_") for name in os.environ):
        from harness.loaded_jobs import settings_alone

        with settings_alone({}):
            importlib.import_module("emaps_dagster.definitions")


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test sees neither the person's EMAPS_ variables nor their .env. A conftest that imports it has it."""
    for name in [name for name in os.environ if name.startswith("EMAPS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
