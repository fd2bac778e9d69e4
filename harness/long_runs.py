"""Whether this is a long run, which has every variant of every test."""

from __future__ import annotations

import os

LONG = os.environ.get("EMAPS_TEST_LONG") == "1"
