"""Benchmarks are tested apart from a person's own settings and folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("EMAPS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
