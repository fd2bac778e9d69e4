"""What several test modules share: one embedded Spark session, and an empty lakehouse for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from emaps_dagster.engine import embedded_session
from emaps_dagster.lakehouse import FolderLakehouse


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test sees neither the person's EMAPS_ variables nor their .env."""
    for name in [name for name in os.environ if name.startswith("EMAPS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    with embedded_session() as session:
        yield session


@pytest.fixture
def house(spark: SparkSession, tmp_path: Path) -> FolderLakehouse:
    return FolderLakehouse(spark, tmp_path / "warehouse")
