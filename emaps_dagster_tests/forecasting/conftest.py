"""One random past for all modules of this folder; making it takes seconds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from emaps_dagster_tests.support.forecast_history import Past, random_past, write

SEED = int(os.environ.get("EMAPS_TEST_SEED", "18"))


@dataclass(frozen=True)
class History:
    """A past, and the folder of its tables."""

    past: Past
    warehouse: Path


@pytest.fixture(scope="session")
def history(embedded: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> History:
    past = random_past(SEED)
    return History(past, write(embedded, tmp_path_factory.mktemp("forecasting") / "warehouse", past))
