"""What the tests of storage begin with."""

from __future__ import annotations

import pytest

from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster_tests.support.readings import READINGS


@pytest.fixture
def table(lakehouse: Lakehouse) -> Lakehouse:
    lakehouse.create(READINGS)
    return lakehouse
