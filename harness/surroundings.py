"""What must not matter to a test: settings of the person who runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test sees neither the person's EMAPS_ variables nor their .env. A conftest that imports it has it."""
    for name in [name for name in os.environ if name.startswith("EMAPS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
